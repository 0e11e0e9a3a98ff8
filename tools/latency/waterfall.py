"""`timmy latency show`: the waterfall of one turn."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipc.marks import Stage
from ipc.text import printable
from tools.latency import display
from tools.latency.explaining import explanations
from tools.latency.reading import Losses, NoTurns, read_turns, trace_folder
from tools.latency.selection import trace_option
from tools.latency.stages import IPC, NAMES, UNACCOUNTED
from tools.latency.turns import Span, Turn
from tools.show import json_option, print_json

if TYPE_CHECKING:
    from rich.text import Text

LAST = "last"
_NAMED = 5
"""So many turns are named where an id fits more than one."""

SOLID, LIGHT = "█", "░"

_COLUMNS = 56
"""What a row takes beside its bar."""
_BAR_MIN, _BAR_MAX = 20, 80


@click.command()
@click.argument("turn_id", metavar="RID|last")
@trace_option
@json_option
def show(turn_id: str, folder: Path | None, as_json: bool) -> None:
    """The waterfall of one turn. The beginning or the end of its request id will do.

    \b
    timmy latency show last
    timmy latency show 3fa90c

    START counts from the last voiced sample (or the typed question). SHARE is what a stage alone has of the time to
    the first sound: the shares add up to it, and what no stage explains is `unaccounted`. What is drawn light costs
    nothing: it went on behind another stage, before or after. A diamond is a moment.
    """
    folder = trace_folder(folder)
    losses = Losses()
    turn = _found(folder, turn_id, losses)
    notes = explanations(folder, turn, losses)
    if as_json:
        print_json(_record(turn, notes) | {"losses": display.losses_record(losses)})
        return
    screen = display.console()
    width = screen.width if screen.is_terminal else 100
    for line in [*_head(turn), *drawn(turn, width), *_wrapped(notes, width)]:
        screen.print(line)


def _found(folder: Path, turn_id: str, losses: Losses) -> Turn:
    """The only turn of this id. Raises UsageError for what is no id or fits several, NoTurns where it fits none."""
    wanted = turn_id.lower()
    if wanted != LAST and not re.fullmatch(r"[0-9a-f]{1,32}", wanted):
        raise click.UsageError(f"{turn_id!r} is no id of a turn: `timmy latency turns` lists them; or write `{LAST}`")
    fitting: dict[bytes, Turn] = {}
    last: Turn | None = None
    for turn in read_turns(folder, losses):
        if last is None or turn.host != last.host or turn.origin_ns > last.origin_ns:
            last = turn
        if turn.rid.hex().startswith(wanted) or turn.rid.hex().endswith(wanted):
            fitting[turn.rid] = turn
    display.tell(losses)
    if wanted == LAST and last is not None:
        return last
    if not fitting:
        missing = "no turn has been traced yet" if wanted == LAST else f"no turn {wanted}"
        raise NoTurns(f"{missing}: `timmy latency turns` lists what there is")
    if len(fitting) > 1:
        named = ", ".join(rid.hex() for rid in list(fitting)[:_NAMED]) + (", ..." if len(fitting) > _NAMED else "")
        raise click.UsageError(f"{wanted} fits {len(fitting)} turns, write more of it: {named}")
    return next(iter(fitting.values()))


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened in a turn and took no time."""

    name: str
    t_ns: int


def moments(turn: Turn) -> list[Moment]:
    """The microphone's going off and on, what was revoked and given up, in the order of time."""
    found = []
    deaf = False
    for mark in turn.marks:
        match mark.stage:
            case Stage.MUTED if bool(mark.arg) != deaf:  # a renewal is a mark, too
                deaf = bool(mark.arg)
                found.append(Moment("muted" if deaf else "hears again", mark.t_ns))
            case Stage.RESUMED:
                found.append(Moment("resumed", mark.t_ns))
            case Stage.REVOKED:
                found.append(Moment(f"revoked revision {mark.arg}", mark.t_ns))
            case Stage.CANCELLED:
                found.append(Moment("cancelled", mark.t_ns))
    return found


def span_name(span: Span) -> str:
    """The stage; of a hop also from where to where."""
    return f"{IPC} {span.daemon} -> {span.to_daemon}" if span.to_daemon else span.stage


def _head(turn: Turn) -> Iterator[Text]:
    from rich.text import Text

    yield Text(f"{turn.rid.hex()} · {turn.outcome}", "bold")
    facts = (
        printable(turn.conversation),
        f"{display.local(turn.begun_s):%Y-%m-%d %H:%M:%S}",
        "" if turn.words is None and not turn.heard else display.heard(turn),
    )
    yield Text(" · ".join(fact for fact in facts if fact))
    if turn.prompt_tokens is not None:
        cached = "" if turn.cached_tokens is None else f", {turn.cached_tokens} of them cached"
        remembered = "" if turn.memories is None else f" · memories: {turn.memories}"
        yield Text(f"prompt: {turn.prompt_tokens} tokens{cached}{remembered}")
    yield Text("")


def drawn(turn: Turn, width: int) -> Iterator[Text]:
    """The rows of the waterfall, at most `width` wide: stages, what goes on beside them, moments, and the sum."""
    from rich.text import Text

    sound_ns = None if turn.first_audio_ns is None else turn.first_audio_ns - turn.origin_ns
    scale = Scale(_axis_ns(turn), max(_BAR_MIN, min(_BAR_MAX, width - _COLUMNS)))
    yield Text(f"{_row('stage', 'start', 'length')}{'':{scale.width}} {'share':>8}", "bold")
    rows = [(span.start_ns, 0, _span_row(turn, span, scale)) for span in turn.spans]
    rows += [(each.t_ns, 1, _moment_row(turn, each, scale)) for each in moments(turn)]
    yield from (text for _, _, text in sorted(rows, key=lambda row: row[:2]))
    if sound_ns is not None:
        total_ns = sum(span.share_ns for span in turn.spans)
        row = _row("first audio", 0, sound_ns)
        yield Text(f"{row}{scale.bar(0, sound_ns, SOLID)} {_share(total_ns, sound_ns)}", "bold")


def _span_row(turn: Turn, span: Span, scale: Scale) -> Text:
    from rich.text import Text

    beside = span.stage not in NAMES
    start_ns, end_ns = span.start_ns - turn.origin_ns, span.end_ns - turn.origin_ns
    explained = not beside and turn.first_audio_ns is not None
    solid_ns = span.share_ns if explained or beside else end_ns - start_ns
    style = "dim" if beside else "red" if span.stage == UNACCOUNTED else ""
    row = (_row(span_name(span), start_ns, end_ns - start_ns), style)
    bar = (scale.shared(start_ns, end_ns, solid_ns), style or "cyan")
    if not explained or turn.first_audio_ns is None:
        return Text.assemble(row, bar)
    return Text.assemble(row, bar, " ", _share(span.share_ns, turn.first_audio_ns - turn.origin_ns))


def _moment_row(turn: Turn, moment: Moment, scale: Scale) -> Text:
    from rich.text import Text

    at_ns = moment.t_ns - turn.origin_ns
    return Text(_row(moment.name, at_ns, "") + scale.bar(at_ns, at_ns, "◆"), "magenta")


def _row(name: str, start: int | str, length: int | str) -> str:
    """What stands before the bar; a number is in ns."""
    cells = [f"{cell / 1e6:.1f}" if isinstance(cell, int) else cell for cell in (start, length)]
    return f"{name:<21} {cells[0]:>8} {cells[1]:>8}  "


def _share(part_ns: int, whole_ns: int) -> str:
    return f"{part_ns / 1e6:8.1f} {part_ns / whole_ns if whole_ns else 0:4.0%}".replace("%", " %")


def _axis_ns(turn: Turn) -> int:
    """What the width of a bar stands for: the time to the first sound, else to the last of the stages."""
    if turn.first_audio_ns is not None:
        return turn.first_audio_ns - turn.origin_ns
    return max((span.end_ns for span in turn.spans if span.stage in NAMES), default=turn.origin_ns) - turn.origin_ns


@dataclass(frozen=True, slots=True)
class Scale:
    """Draws times from 0 to `whole_ns` in `width` characters."""

    whole_ns: int
    width: int

    def bar(self, start_ns: int, end_ns: int, fill: str) -> str:
        """`fill` from start to end; a mark at the edge for what is all outside, one of any length is seen."""
        if end_ns <= 0 and start_ns < 0:
            return "◂".ljust(self.width)
        if start_ns >= self.whole_ns and end_ns > self.whole_ns:
            return "▸".rjust(self.width)
        first = min(self._place(start_ns), self.width - 1)
        cells = max(self._place(end_ns), first + 1) - first
        short = start_ns != end_ns and cells == 1 and (end_ns - start_ns) * self.width < self.whole_ns / 2
        return (" " * first + ("▏" if short and fill == SOLID else fill * cells)).ljust(self.width)

    def shared(self, start_ns: int, end_ns: int, solid_ns: int) -> str:
        """A bar of which the last `solid_ns` count; what went on behind another stage before them is drawn light."""
        light = self.bar(start_ns, end_ns, LIGHT)
        if not solid_ns:
            return light
        solid = self.bar(end_ns - solid_ns, end_ns, SOLID)
        return "".join(one if one != " " else other for one, other in zip(solid, light, strict=True))

    def _place(self, t_ns: int) -> int:
        if self.whole_ns <= 0:
            return 0
        return max(0, min(self.width, round(t_ns * self.width / self.whole_ns)))


def _wrapped(notes: Iterable[str], width: int) -> Iterator[str]:
    for number, note in enumerate(notes):
        if number == 0:
            yield ""
        yield textwrap.fill(note, min(width, 100), break_long_words=False, break_on_hyphens=False)


def _record(turn: Turn, notes: list[str]) -> dict[str, Any]:
    """The turn for programs: as in `turns`, and its spans and moments; times in ms from the last voiced sample."""

    def ms(t_ns: int) -> float | None:
        return display.rounded((t_ns - turn.origin_ns) / 1e6)

    spans = [
        {
            "stage": span.stage,
            "daemon": span.daemon,
            "to_daemon": span.to_daemon or None,
            "start_ms": ms(span.start_ns),
            "length_ms": display.rounded((span.end_ns - span.start_ns) / 1e6),
            "share_ms": display.rounded(span.share_ns / 1e6) if span.stage in NAMES else None,
        }
        for span in turn.spans
    ]
    events = [{"event": moment.name, "at_ms": ms(moment.t_ns)} for moment in moments(turn)]
    return display.record(turn) | {"spans": spans, "events": events, "notes": notes}
