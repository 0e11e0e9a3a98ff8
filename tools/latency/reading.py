"""A folder of trace files becomes a stream of turns, in bounded memory; Losses says what is missing or damaged."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from daemons.config import state_dir
from ipc.errors import EXIT_NO_INPUT, TimmyError
from ipc.marks import Stage, trace_files
from ipc.traces import Block, Trace, TraceError
from tools.latency.turns import Seen, Turn, build

QUIET_NS = 30 * 10**9
"""A turn whose end is marked gets no more marks after this: what is stored late is stored within seconds."""

ABANDONED_NS = 300 * 10**9
"""A turn without an end is given up after this: the longest answer is shorter."""

_SWEEP_NS = 5 * 10**9

_seen = tuple.__new__
"""Makes a Seen in half the time that its constructor takes: there are millions."""


class NoTurns(TimmyError):
    """There is nothing to look at."""

    exit_status = EXIT_NO_INPUT


@dataclass(slots=True)
class Losses:
    """What a report has to say about its sources. Complete when all turns have been read."""

    files: int = 0
    marks: int = 0
    lost: int = 0
    """Marks that daemons could not keep."""
    unknown: int = 0
    """Marks of stages that this version does not know."""
    damaged: list[str] = field(default_factory=list)
    """One line for each file that could not be read, or not to its end."""

    def lines(self) -> list[str]:
        """For a person; none when nothing is missing."""
        lines = list(self.damaged)
        if self.lost:
            lines.append(f"{self.lost} marks were lost by the daemons: some turns are incomplete")
        if self.unknown:
            lines.append(f"{self.unknown} marks are of stages that this version does not know")
        return lines


def trace_folder(folder: Path | None) -> Path:
    """The folder of trace files: the given one, or that of the daemons here. Raises NoTurns where there is none."""
    found = folder if folder is not None else state_dir() / "trace"
    if not found.is_dir():
        hint = "" if folder is not None else ": no daemon has run here yet; start them with `timmy up`"
        raise NoTurns(f"no trace files in {found}{hint}")
    return found


def read_turns(folder: Path, losses: Losses) -> Iterator[Turn]:
    """All turns of a folder, in the order in which they ended. Fills `losses` on the way."""
    hosts: dict[bytes, list[_Source]] = {}
    for path in trace_files(folder):
        losses.files += 1
        try:
            trace = Trace(path)
        except TraceError as error:
            losses.damaged.append(str(error))
            continue
        trace.close()  # it is opened again when its turn comes: there may be thousands
        hosts.setdefault(trace.header.host, []).append(_Source(path, trace.header.monotonic_ns))
    for host, sources in hosts.items():
        yield from _Host(host, losses).turns(sources)


@dataclass(frozen=True, slots=True)
class _Source:
    path: Path
    begun_ns: int


class _Host:
    """The turns of one run of one machine: its daemons' files side by side, by their common clock."""

    def __init__(self, host: bytes, losses: Losses) -> None:
        self._host = host
        self._losses = losses
        self._open: dict[bytes, _Open] = {}

    def turns(self, sources: list[_Source]) -> Iterator[Turn]:
        swept_ns = 0
        for t_ns, trace, block in self._blocks(sorted(sources, key=lambda each: each.begun_ns)):
            self._take(trace, block)
            if t_ns > swept_ns + _SWEEP_NS:
                swept_ns = t_ns
                yield from self._ended(t_ns)
        yield from self._ended(None)

    def _blocks(self, sources: list[_Source]) -> Iterator[tuple[int, Trace, Block]]:
        """All blocks in the order of time. A file is opened when its time has come, so that few are open at once."""
        waiting = deque(sources)
        under_way: list[tuple[int, int, Trace, Block, Iterator[Block]]] = []
        numbers = itertools.count()

        def push(trace: Trace, blocks: Iterator[Block], after_ns: int) -> None:
            block = next(blocks, None)
            if block is None:
                self._finished(trace)
                return
            # An audio mark may lie before the file's begin or after the block's end: neither may turn time back.
            t_ns = max(after_ns, block.marks[0][2]) if block.marks else after_ns
            heapq.heappush(under_way, (t_ns, next(numbers), trace, block, blocks))

        while waiting or under_way:
            if waiting and (not under_way or waiting[0].begun_ns <= under_way[0][0]):
                source = waiting.popleft()
                try:
                    trace = Trace(source.path)
                except TraceError as error:  # removed since
                    self._losses.damaged.append(str(error))
                else:
                    push(trace, iter(trace), source.begun_ns)
                continue
            t_ns, _, trace, block, blocks = heapq.heappop(under_way)
            yield t_ns, trace, block
            push(trace, blocks, t_ns)

    def _finished(self, trace: Trace) -> None:
        self._losses.lost += trace.lost
        if trace.damage:
            self._losses.damaged.append(f"{trace.path}: {trace.damage}; what was before it is read")

    def _take(self, trace: Trace, block: Block) -> None:
        daemon, stages, open_ = trace.header.daemon, trace.stages, self._open
        self._losses.marks += len(block.marks)
        for rid, number, t_ns, arg in block.marks:
            stage = stages.get(number)
            if stage is None:
                self._losses.unknown += 1
                continue
            turn = open_.get(rid)
            if turn is None:
                header = trace.header
                turn = open_[rid] = _Open(header.realtime_ns - header.monotonic_ns)
            turn.marks.append(_seen(Seen, (t_ns, stage, daemon, arg)))
            if t_ns > turn.last_ns:
                turn.last_ns = t_ns
            if stage is Stage.ENDED:
                turn.ended = True
        for note in block.notes:
            if turn := open_.get(note.rid):
                turn.notes[note.key] = note.text

    def _ended(self, now_ns: int | None) -> Iterator[Turn]:
        """Those of which nothing more is to come; None: all."""
        over = [
            rid
            for rid, turn in self._open.items()
            if now_ns is None or now_ns - turn.last_ns > (QUIET_NS if turn.ended else ABANDONED_NS)
        ]
        found = []
        for rid in over:
            turn = self._open.pop(rid)
            if built := build(rid, self._host, turn.marks, turn.notes, turn.clock_offset_ns):
                found.append(built)
        yield from sorted(found, key=lambda each: each.origin_ns)


@dataclass(slots=True)
class _Open:
    """A request of which more may come."""

    clock_offset_ns: int
    marks: list[Seen] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    last_ns: int = 0
    ended: bool = False
