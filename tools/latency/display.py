"""What the commands that list and draw turns have in common: losses, ids, times, words of others, tables, JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from ipc.text import printable
from tools.latency.reading import Losses, read_turns
from tools.latency.stages import NAMES
from tools.latency.turns import Turn

if TYPE_CHECKING:
    from rich.console import Console

ID_DIGITS = 6
"""The end of a request id is random: so many digits of it tell a turn from thousands."""

_NARROWEST = 8
"""What is left of a column that is cut."""


def told_turns(folder: Path, losses: Losses) -> Iterator[Turn]:
    """All turns of a folder; what is missing is told on standard error when they have been read."""
    yield from read_turns(folder, losses)
    tell(losses)


def tell(losses: Losses) -> None:
    """Says on standard error what is missing."""
    for line in losses.lines():
        click.echo(f"timmy: {line}", err=True)


class Placed(Protocol):
    """Something that happened at a time of a host's clock."""

    @property
    def host(self) -> bytes: ...
    @property
    def origin_ns(self) -> int: ...


_Placed = TypeVar("_Placed", bound=Placed)


def in_order(turns: Iterable[_Placed]) -> list[_Placed]:
    """By the clock of their host, the oldest first: a wall clock that was set back does not turn them round."""
    listed = list(turns)
    hosts = {host: place for place, host in enumerate(dict.fromkeys(turn.host for turn in listed))}
    return sorted(listed, key=lambda turn: (hosts[turn.host], turn.origin_ns))


def short_ids(turns: Sequence[Turn]) -> list[str]:
    """The ends of their ids, as long as it takes to tell these from each other."""
    ids = [turn.rid.hex() for turn in turns]
    digits = next(
        count for count in range(ID_DIGITS, 33) if count == 32 or len({each[-count:] for each in ids}) == len(set(ids))
    )
    return [each[-digits:] for each in ids]


def local(unix_s: float) -> datetime:
    """In this machine's time zone; of a clock that was never set the nearest time that can be told."""
    try:
        return datetime.fromtimestamp(unix_s).astimezone()
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0).astimezone()


def day_and_time(when: datetime, now: datetime) -> str:
    """In 11 characters: of today the time alone, of this year day and time, else the day."""
    if when.date() == now.date():
        return f"{when:%H:%M:%S}"
    return f"{when:%m-%d %H:%M}" if when.year == now.year else f"{when:%Y-%m-%d}"


def heard(turn: Turn) -> str:
    """What was said, where the trace keeps it, else how much."""
    typed = "typed: " if turn.typed else ""
    if turn.heard:
        return typed + printable(turn.heard)
    if turn.words is None:
        return typed + "-"
    return f"{typed}{turn.words} {'word' if turn.words == 1 else 'words'}"


def slowest(turn: Turn) -> tuple[str, float] | None:
    """The stage with the largest share and its ms; where nothing sounded the longest one."""
    times = turn.shares_ms()
    if not any(times.values()):
        for span in turn.spans:
            if span.stage in times:
                times[span.stage] = max(times[span.stage], (span.end_ns - span.start_ns) / 1e6)
    name = max(NAMES, key=lambda each: times[each])
    return (name, times[name]) if times[name] else None


def cached_share(turn: Turn) -> float | None:
    """Which part of the prompt was in the model's cache, 0 to 1."""
    if not turn.prompt_tokens or turn.cached_tokens is None:
        return None
    return turn.cached_tokens / turn.prompt_tokens


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def milliseconds(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:.0f}"


def rounded(number: float | None) -> float | None:
    """For JSON: microseconds of a time in ms."""
    return None if number is None else round(number, 3)


def record(turn: Turn) -> dict[str, Any]:
    """A turn for programs; times in ms, shares from 0 to 1."""
    slow = slowest(turn)
    return {
        "id": turn.rid.hex(),
        "begun": local(turn.begun_s).isoformat(timespec="milliseconds"),
        "conversation": turn.conversation,
        "heard": turn.heard or None,
        "words": turn.words,
        "typed": turn.typed,
        "outcome": turn.outcome,
        "complete": turn.complete,
        "first_audio_ms": rounded(turn.first_audio_ms),
        "slowest": {"stage": slow[0], "ms": rounded(slow[1])} if slow else None,
        "stages_ms": {name: rounded(ms) for name, ms in turn.shares_ms().items()},
        "memories": turn.memories,
        "prompt_tokens": turn.prompt_tokens,
        "cached_tokens": turn.cached_tokens,
        "cached_share": rounded(cached_share(turn)),
        "missing": list(turn.missing),
    }


def losses_record(losses: Losses) -> dict[str, Any]:
    """Losses for programs."""
    return asdict(losses)


def console() -> Console:
    """A console; what goes to a file or another program is as wide as need be."""
    from rich.console import Console

    found = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    return (
        found if found.is_terminal else Console(highlight=False, soft_wrap=True, emoji=False, markup=False, width=400)
    )


def print_rows(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[str] = (),
    shrinks: str = "",
    spare: str = "",
) -> None:
    """A table of one line a row; there is at least one. Columns in `right` are numbers.

    Where the terminal is too narrow, columns stand closer, `spare` is left out, and `shrinks` is cut."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    screen = console()
    table = dict(zip(titles, zip(*rows, strict=True), strict=True))
    widths = {title: max(cell_len(each) for each in (title, *cells)) for title, cells in table.items()}

    gap = "  "

    def excess() -> int:
        return sum(widths.values()) + len(gap) * (len(widths) - 1) - screen.width

    if shrinks and excess() > widths[shrinks] - _NARROWEST:
        gap = " "
    if shrinks and excess() > widths[shrinks] - _NARROWEST:
        widths.pop(spare, None)
    if shrinks and excess() > 0:
        widths[shrinks] = max(min(widths[shrinks], _NARROWEST), widths[shrinks] - excess())

    def cell(text: str, title: str) -> str:
        width = widths[title]
        if cell_len(text) > width:
            return set_cell_size(text, width - 1) + "…"
        padding = " " * (width - cell_len(text))
        return padding + text if title in right else text + padding

    for row, style in [(titles, "bold"), *((row, "") for row in rows)]:
        line = gap.join(cell(text, title) for text, title in zip(row, titles, strict=True) if title in widths)
        screen.print(Text(line.rstrip(), style))
