"""Turns as they end: files that grow are read from where the last reading ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ipc.marks import Header, Stage, trace_files
from ipc.traces import Block, Trace, TraceError
from tools.latency.reading import Losses
from tools.latency.turns import UNFINISHED, Seen, Turn, build

SETTLE_S = 1.0
"""After its end a turn waits so long for what the other daemons have still to write: twice ipc.marks.DRAIN_S."""

FORGET_S = 30.0
"""An ended turn gets no more marks after this."""

ABANDON_S = 300.0
"""A turn without an end is given up after this."""


class Follower:
    """A folder of trace files, from now on. What is in it already is passed over, but for the turns of `adopt`.

    `losses` gets what is met on the way."""

    def __init__(self, folder: Path, losses: Losses) -> None:
        self._folder = folder
        self._losses = losses
        self._tails: dict[Path, _Tail] = {}
        self._turns: dict[tuple[bytes, bytes], _Growing] = {}
        for path in trace_files(folder):
            tail = self._tails[path] = _Tail()
            for _ in tail.blocks(path, Losses()):
                pass
            tail.damage = ""  # whoever read the folder before has named it

    def adopt(self, turn: Turn, now_s: float) -> None:
        """A turn that was read otherwise and may go on."""
        notes = {"conversation": turn.conversation, "heard": turn.heard}
        offset_ns = round(turn.begun_s * 1e9) - turn.origin_ns
        growing = _Growing(offset_ns, list(turn.marks), {key: text for key, text in notes.items() if text}, now_s)
        growing.ended = turn.outcome != UNFINISHED
        growing.changed = False
        self._turns[turn.host, turn.rid] = growing

    def poll(self, now_s: float) -> list[Turn]:
        """Turns that ended, or were given up, since the last call, the oldest first; a turn of which more became known
        comes again. `now_s`: any clock that runs evenly."""
        paths = trace_files(self._folder)
        for path in paths:
            for header, stages, block in self._tails.setdefault(path, _Tail()).blocks(path, self._losses):
                self._take(header, stages, block, now_s)
        for gone in self._tails.keys() - set(paths):
            del self._tails[gone]
        return self._settled(now_s)

    def _take(self, header: Header, stages: dict[int, Stage], block: Block, now_s: float) -> None:
        self._losses.marks += len(block.marks)
        for rid, number, t_ns, arg in block.marks:
            stage = stages.get(number)
            if stage is None:
                self._losses.unknown += 1
                continue
            turn = self._turns.get((header.host, rid))
            if turn is None:
                turn = self._turns[header.host, rid] = _Growing(header.realtime_ns - header.monotonic_ns)
            turn.marks.append(Seen(t_ns, stage, header.daemon, arg))
            turn.changed, turn.heard_s = True, now_s
            turn.ended = turn.ended or stage is Stage.ENDED
        for note in block.notes:
            if turn := self._turns.get((header.host, note.rid)):
                turn.notes[note.key] = note.text

    def _settled(self, now_s: float) -> list[Turn]:
        found = []
        for (host, rid), turn in list(self._turns.items()):
            quiet_s = now_s - turn.heard_s
            over = quiet_s > (FORGET_S if turn.ended else ABANDON_S)
            if turn.changed and (over or (turn.ended and quiet_s >= SETTLE_S)):
                turn.changed = False
                if built := build(rid, host, turn.marks, turn.notes, turn.clock_offset_ns):
                    found.append(built)
            if over:
                del self._turns[host, rid]
        return sorted(found, key=lambda turn: turn.origin_ns)


@dataclass(slots=True)
class _Growing:
    """A request of which more may come."""

    clock_offset_ns: int
    marks: list[Seen] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    heard_s: float = 0.0
    """When something of it was last read."""
    ended: bool = False
    changed: bool = False
    """Since it was last given out."""


@dataclass(slots=True)
class _Tail:
    """How far a file has been read. It is looked into only when its size has changed."""

    at: int = 0
    size: int = -1
    damage: str = ""

    def blocks(self, path: Path, losses: Losses) -> Iterator[tuple[Header, dict[int, Stage], Block]]:
        """What has come since. A block that is not whole may be just being written: it is damaged when it still is at
        the next look."""
        try:
            size = path.stat().st_size
            if size == self.size and not self.damage:
                return
            rest = _Rest(path, self.at if size >= self.at else 0)
        except FileNotFoundError:  # a daemon made room
            return
        except TraceError as error:
            damage = str(error)
        else:
            for block in rest:
                yield rest.header, rest.stages, block
            self.at = rest.at
            losses.lost += rest.lost
            damage = f"{path}: {rest.damage}" if rest.damage else ""
        if damage and damage == self.damage and size == self.size:
            if damage not in losses.damaged:
                losses.damaged.append(damage)
            damage = ""
        self.size, self.damage = size, damage


class _Rest(Trace):
    """A trace from `start` on, where an earlier reading ended; `at` is how far this one came."""

    def __init__(self, path: Path, start: int) -> None:
        super().__init__(path)
        self.at = max(start, self._file.tell())
        self._file.seek(self.at)

    def __iter__(self) -> Iterator[Block]:
        for block in super().__iter__():
            self.at = self._file.tell()
            yield block
