"""`timmy replay`: a recording through the real sockets once more, and what came of it beside what came of it then."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ipc.errors import EXIT_NO_INPUT, TimmyError
from tools.recording.again import chosen
from tools.recording.asked import Asked, Assembler, assembled
from tools.recording.compare import Pair, differences, matched, stages
from tools.recording.file import Recording
from tools.recording.play import Played, Player
from tools.recording.record import daemon_option
from tools.show import json_option, print_json, print_table

EXIT_DIFFERS = 1


class NothingToReplay(TimmyError):
    """The recording holds no request that can be sent again."""

    exit_status = EXIT_NO_INPUT


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(0.1, 100), help="So many times as fast as then."
)
@daemon_option
@click.option("--against", type=click.Path(path_type=Path), help="Compare with this recording of the same requests.")
@json_option
@click.pass_context
def replay(
    context: click.Context, file: Path, speed: float, daemons: tuple[str, ...], against: Path | None, as_json: bool
) -> None:
    """Send a recording again, and compare what comes back.

    Every request of FILE goes to its daemon at its time, whatever the answers do: a slow daemon does not slow the
    replay. Conversations get new names. Then what came back is compared with what came back then, or with --against, a
    recording of another replay of FILE: how each request ended, what was heard and said, how much sounded, and how long
    it took. The exit status is 1 when an end, a text or the sound differs. What is said in a replay is remembered like
    anything that is said.

    \b
    timmy replay talk.rec
    timmy replay talk.rec --speed 3 --daemon dialog
    timmy record --out before.rec -- timmy replay talk.rec
    timmy replay talk.rec --against before.rec
    """
    recording, whole = _read(file)
    asked, left_out = chosen(whole.asked.values(), daemons or recording.header.daemons)
    if not asked:
        raise NothingToReplay(
            f"{file}: no request in it can be sent to {', '.join(daemons or recording.header.daemons)}"
        )
    then = asked if against is None else matched(asked, _read(against)[1].asked.values(), against)
    if left_out:
        click.echo(f"{file}: {left_out} requests had come before the recording began: they are left out", err=True)
    played = asyncio.run(Player(asked, speed).play())
    pairs = list(zip(then, played.again, strict=True))
    different = {number: found for number, pair in enumerate(pairs) if (found := differences(*pair))}
    (_tell_json if as_json else _tell)(pairs, different, played)
    context.exit(EXIT_DIFFERS if different or played.gaps else 0)


def _read(path: Path) -> tuple[Recording, Assembler]:
    """Raises Unreadable."""
    recording = Recording(path)
    whole = assembled(recording)
    if recording.damage:
        click.echo(f"{path}: {recording.damage}: only what stands before it is used", err=True)
    for gap in whole.gaps:
        click.echo(f"{path}: it has a gap: {gap.daemon}: {gap.detail}", err=True)
    return recording, whole


def _tell(pairs: Sequence[Pair], different: dict[int, list[str]], played: Played) -> None:
    """For a person."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, (then, _) in enumerate(pairs):
        rows[then.daemon, then.name].append(number)
    print_table(
        ["daemon", "request", "sent", "same", "sound then, s", "now, s"],
        [
            [*names, *_row([pairs[n] for n in numbers], different.keys() & set(numbers))]
            for names, numbers in rows.items()
        ],
    )
    click.echo()
    titles = ["ms", "seen then, now", "median then", "longest then", "median now", "longest now", "medians differ by"]
    print_table(titles, [stage.cells() for stage in stages(pairs)])
    click.echo()
    for gap in played.gaps:
        click.echo(f"{gap.daemon} went away during the replay: {gap.detail}")
    lines = Counter(f"{_title(pairs[number][0])}: {line}" for number, found in different.items() for line in found)
    for line, times in lines.items():
        click.echo(line + (f" ({times} times)" if times > 1 else ""))
    same = len(pairs) - len(different)
    click.echo(f"{same} of {len(pairs)} requests came to the same. {_punctuality(played)}")


def _row(pairs: Sequence[Pair], different: set[int]) -> list[str]:
    sums = [sum(pair[side].sound_ms for pair in pairs) / 1000 for side in (0, 1)]
    sound = [f"{seconds:.2f}" for seconds in sums] if any(sums) else ["", ""]
    return [str(len(pairs)), str(len(pairs) - len(different)), *sound]


def _title(asked: Asked) -> str:
    text = getattr(asked.body, "text", "") or getattr(asked.body, "heard", "")
    return f"{asked.daemon} {asked.name}" + (f" '{text}'" if text else "")


def _punctuality(played: Played) -> str:
    late = f"Sent at most {played.late_ms:.1f} ms late"
    waits = f"; {played.waited} items waited for credit, {played.waited_ms:.0f} ms in sum" if played.waited else ""
    return f"{late}{waits}."


def _tell_json(pairs: Sequence[Pair], different: dict[int, list[str]], played: Played) -> None:
    told: dict[str, Any] = {
        "requests": len(pairs),
        "same": len(pairs) - len(different),
        "differences": [
            {"daemon": pairs[number][0].daemon, "request": pairs[number][0].name, "what": found}
            for number, found in different.items()
        ],
        "stages_ms": {stage.name: {"then": stage.then, "now": stage.now} for stage in stages(pairs)},
        "gaps": [{"daemon": gap.daemon, "detail": gap.detail} for gap in played.gaps],
        "late_ms": round(played.late_ms, 3),
        "waited_for_credit": played.waited,
        "waited_for_credit_ms": round(played.waited_ms, 3),
    }
    print_json(told)
