"""`timmy latency watch`: the last turn and how they all are, redrawn as turns end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ipc.text import printable
from tools.latency import display
from tools.latency.following import Follower
from tools.latency.reading import Losses, read_turns, trace_folder
from tools.latency.selection import Selection, trace_option
from tools.latency.stages import NAMES, TOTAL
from tools.latency.turns import Turn
from tools.latency.waterfall import SOLID, Scale

if TYPE_CHECKING:
    from rich.text import Text

ROLLING = 50
"""Turns of which the percentiles are."""

POLL_S = 0.25

_COLUMNS = 52
"""What a row takes beside its bar."""
_BAR_MIN, _BAR_MAX = 10, 80


class Board:
    """What `watch` shows: the last turn, and the last ROLLING complete ones."""

    def __init__(self) -> None:
        self.last: Turn | None = None
        self._times: dict[bytes, Mapping[str, float]] = {}

    @property
    def count(self) -> int:
        return len(self._times)

    def add(self, turn: Turn) -> None:
        """A turn that ended; again when more of it became known."""
        if self.last is None or turn.host != self.last.host or turn.origin_ns >= self.last.origin_ns:
            self.last = turn
        if turn.complete:
            times = turn.shares_ms()
            self._times[turn.rid] = times | {TOTAL: sum(times.values())}
            if len(self._times) > ROLLING:
                del self._times[next(iter(self._times))]

    def quantiles(self, stage: str) -> tuple[float | None, float | None]:
        """Rolling p50 and p95 in ms, where the turns are enough for them."""
        from tools.latency.statistics import told

        times = [each[stage] for each in self._times.values()]
        return told(times, 0.5), told(times, 0.95)

    def lines(self, width: int) -> Iterator[Text]:
        """At most `width` wide and few enough for a small terminal."""
        from rich.text import Text

        if self.last is None:
            yield Text("no turn yet: say something")
            return
        turn = self.last
        facts = (printable(turn.conversation), f"{display.local(turn.begun_s):%H:%M:%S}", turn.outcome)
        yield Text(" · ".join(fact for fact in facts if fact), "bold", no_wrap=True, overflow="ellipsis")
        yield Text(display.heard(turn), no_wrap=True, overflow="ellipsis")
        bar = max(_BAR_MIN, min(_BAR_MAX, width - _COLUMNS))
        yield Text(f"{'':<16} {'this turn':>10}  {'':{bar}} {'p50':>10} {'p95':>10}", "bold")
        whole_ns = (turn.first_audio_ns or turn.origin_ns) - turn.origin_ns
        times = turn.shares_ms()
        for stage in NAMES:
            yield Text(self._row(stage, times[stage] if whole_ns else None, drawing(turn, stage, bar)))
        yield Text(self._row(TOTAL, turn.first_audio_ms, " " * bar), "bold")
        yield Text(f"ms · complete turns in p50 and p95: {self.count} · Ctrl-C ends", "dim")

    def _row(self, stage: str, ms: float | None, bar: str) -> str:
        cells = [f"{'-' if value is None else f'{value:.1f}':>10}" for value in (ms, *self.quantiles(stage))]
        return f"{stage:<16} {cells[0]}  {bar} {cells[1]} {cells[2]}"


def drawing(turn: Turn, stage: str, width: int) -> str:
    """A stage's share, where it lies in the time to the first sound; of hops there are several."""
    if turn.first_audio_ns is None:
        return " " * width
    scale = Scale(turn.first_audio_ns - turn.origin_ns, width)
    cells = [" "] * width
    at_ns = turn.origin_ns
    for span in turn.spans:
        if span.stage == stage and span.share_ns:
            end_ns = min(span.end_ns, turn.first_audio_ns)
            bar = scale.bar(end_ns - span.share_ns - at_ns, end_ns - at_ns, SOLID)
            cells = [new if new != " " else old for new, old in zip(bar, cells, strict=True)]
    return "".join(cells)


@click.command()
@trace_option
def watch(folder: Path | None) -> None:
    """Live: the last turn, and how they all are: p50 and p95 of the last 50 complete ones. Ctrl-C ends it.

    \b
    timmy latency watch
    timmy latency watch | tee turns.log

    Where standard output is no terminal it prints a line for each turn that ends from now on.
    """
    folder = trace_folder(folder)
    board, losses = Board(), Losses()
    follower = Follower(folder, losses)
    history = Losses()
    for turn in display.in_order(Selection(last=ROLLING).of(read_turns(folder, history))):
        board.add(turn)
        follower.adopt(turn, time.monotonic())
    display.tell(history)
    if display.console().is_terminal:
        _redraw(follower, board, losses)
    else:
        click.echo(f"timmy: watching {folder}, Ctrl-C ends it", err=True)
        _print(follower, losses)


def _ended(follower: Follower, losses: Losses) -> Iterator[list[Turn]]:
    """Turns as they end, for ever. What is damaged or lost meanwhile is told when it is met."""
    said: set[str] = set()
    while True:
        if turns := follower.poll(time.monotonic()):
            yield turns
        for line in losses.lines():
            if line not in said:
                said.add(line)
                click.echo(f"timmy: {line}", err=True)
        time.sleep(POLL_S)


def _redraw(follower: Follower, board: Board, losses: Losses) -> None:
    from rich.console import Group
    from rich.live import Live

    screen = display.console()
    with Live(Group(*board.lines(screen.width)), console=screen, auto_refresh=False, redirect_stderr=True) as live:
        for turns in _ended(follower, losses):
            for turn in turns:
                board.add(turn)
            live.update(Group(*board.lines(screen.width)), refresh=True)


def _print(follower: Follower, losses: Losses) -> None:
    printed: dict[bytes, None] = {}
    for turns in _ended(follower, losses):
        for turn in turns:
            if turn.rid not in printed:
                printed[turn.rid] = None
                click.echo(line(turn))
        while len(printed) > ROLLING:
            del printed[next(iter(printed))]


def line(turn: Turn) -> str:
    """A turn that ended, for a file."""
    slow = display.slowest(turn)
    ms = "no sound" if turn.first_audio_ms is None else f"{turn.first_audio_ms:.0f} ms"
    slowest = f", {slow[0]} {slow[1]:.0f} ms" if slow else ""
    conversation = printable(turn.conversation) or "-"
    begun = f"{display.local(turn.begun_s):%Y-%m-%d %H:%M:%S}"
    return f"{begun}  {turn.rid.hex()[-display.ID_DIGITS :]}  {conversation}  {ms}{slowest}, {turn.outcome}"
