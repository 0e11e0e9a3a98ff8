"""Trace files with known truth: what five daemons would have kept of turns whose every stage is given.

    with House(folder) as house:
        first = house.turn()
        slow = house.turn({"recall": 250.0}, heard="Where is the key?")
        house.restart("llm")
        house.turn(until=Stage.MODEL_SENT, outcome="failed")

The files go through ipc.marks.Marks, by a simulated clock. The shares of a turn read from them are DELAYS, but for what
is given. `flush` writes what there is so far, as daemons do while they run; `old_format` makes a file one of format 1.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, Self
from unittest import mock

import msgspec

from ipc import marks
from ipc.limits import RID_BYTES
from ipc.marks import MAGIC, MARK, Mark, Marks, Note, Stage, _framed
from ipc.traces import Trace
from tests.support.turn_marks import DELAYS, SILENCE_MS, SPEAKING_MS, STORING_MS, UTTERANCE_MS, Way

__all__ = [
    "BEGUN_S",
    "BOOTED_S",
    "DAEMONS",
    "DELAYS",
    "SILENCE_MS",
    "SPEAKING_MS",
    "STORING_MS",
    "UTTERANCE_MS",
    "House",
    "old_format",
]

DAEMONS = ("stt", "dialog", "llm", "memory", "tts")

BEGUN_S = 1_790_000_000.0
"""Unix time of the first turn: 21 September 2026."""
BOOTED_S = 50_000
"""How long the simulated host has been up then."""

BLOCK_NS = 500_000_000
"""As ipc.marks.DRAIN_S."""

OLD_STAGES = 23
"""The highest number of a stage in files of format 1."""


class Kept(NamedTuple):
    """A mark, and when its daemon makes it: of audio later than the time that it bears."""

    written_ns: int
    order: int
    daemon: str
    what: Mark | Note | None
    """None: the daemon dies and begins anew."""


class House:
    """Five daemons that keep marks of turns. Use it as a context manager: when it is left, their files are whole.

    `now_ns` is its monotonic clock, and moves behind each turn; set it to place the next one."""

    def __init__(self, folder: Path, begun_s: float = BEGUN_S, booted_s: float = BOOTED_S) -> None:
        self.folder = folder
        self.now_ns = round(booted_s * 1e9)
        self._wall_ns = round(begun_s * 1e9) - self.now_ns
        self._waiting: list[Kept] = []
        self._count = itertools.count()
        self._writers: dict[str, Marks] = {}
        self._boots: dict[str, bytes] = {}
        self._writing_ns = self.now_ns
        self._simulated = contextlib.ExitStack()

    def __enter__(self) -> Self:
        clock = SimpleNamespace(monotonic_ns=lambda: self._writing_ns, time_ns=lambda: self._writing_ns + self._wall_ns)
        self._simulated.enter_context(mock.patch.object(marks, "time", clock))
        self._simulated.enter_context(mock.patch.object(marks, "BOOT_ID", b""))
        # What is to be written is written by flush, not by the threads of the daemons.
        self._simulated.enter_context(mock.patch.object(marks, "DRAIN_S", 3600.0))
        return self

    def __exit__(self, *exc: object) -> None:
        with self._simulated:
            self.flush()
            for daemon in list(self._writers):
                self._end(daemon)

    def turn(
        self,
        delays: Mapping[str, float] | None = None,
        *,
        conversation: str = "home",
        heard: str = "",
        words: int = 6,
        outcome: str = "answered",
        prompt_tokens: int = 400,
        cached_tokens: int = 300,
        memories: int = 2,
        typed: bool = False,
        attempts: int = 1,
        held: bool = False,
        until: Stage | None = None,
        without: Collection[tuple[str, Stage]] = (),
        pause_s: float = 20.0,
    ) -> bytes:
        """A turn that begins now; returns its request id. The next one begins `pause_s` after its end.

        `attempts` over 1: the speaker goes on after a final text, and all attempts but the last are revoked. `held`:
        the answer is begun at the candidate and held until the turn is confirmed; `delays` are then how long each
        stage takes, which is not its share. `until`: the last stage on the way to the first sound that happens.
        `without`: marks that nobody keeps, as (daemon, stage). No `outcome`: dialog dies before the turn's end, and
        its notes are not kept either."""
        rid = self._new_rid()
        way = Way({**DELAYS, **(delays or {})}, self.now_ns, typed, held)
        for revision in range(attempts):
            way.attempt(revision, words, memories, (prompt_tokens, cached_tokens), revision == attempts - 1)
        if until is not None:
            way.stop_after(until)
        else:
            way.after()
        if outcome:
            way.end(outcome)
        for made in way.marks:
            if (made.daemon, made.stage) not in without:
                self.mark(made.daemon, rid, made.stage, made.t_ns, made.arg, made.written_ns)
        if outcome:  # dialog keeps its notes with the end of a turn
            self.note(rid, "conversation", conversation, way.marks[-1].t_ns)
        if outcome and heard:
            self.note(rid, "heard", heard, way.marks[-1].t_ns)
        self.now_ns = way.marks[-1].t_ns + round(pause_s * 1e9)
        return rid

    def mark(
        self, daemon: str, rid: bytes, stage: Stage, t_ns: int, arg: int = 0, written_ns: int | None = None
    ) -> None:
        """One more mark."""
        at_ns = t_ns if written_ns is None else written_ns
        self._waiting.append(Kept(at_ns, next(self._count), daemon, Mark(rid, stage, t_ns, arg)))

    def note(self, rid: bytes, key: str, text: str, at_ns: int) -> None:
        """One more note of dialog."""
        self._waiting.append(Kept(at_ns, next(self._count), "dialog", Note(rid, key, text)))

    def restart(self, daemon: str, at_ns: int | None = None) -> None:
        """The daemon dies and begins anew, by default now: another file, another boot id."""
        self._waiting.append(Kept(self.now_ns if at_ns is None else at_ns, next(self._count), daemon, None))

    def lose(self, daemon: str, count: int) -> None:
        """The daemon cannot keep so many marks, and says so in its next block."""
        self.flush()
        self._writer(daemon)._lose(count)

    def step_wall_clock(self, by_s: float) -> None:
        """Somebody sets the wall clock: files begun from now on say so."""
        self.flush()
        self._wall_ns += round(by_s * 1e9)

    def flush(self) -> None:
        """Writes what there is in the order of time, a block of each daemon for each BLOCK_NS."""
        waiting, self._waiting = sorted(self._waiting), []
        for number, block in itertools.groupby(waiting, key=lambda kept: kept.written_ns // BLOCK_NS):
            self._writing_ns = number * BLOCK_NS
            for kept in block:
                if kept.what is None:
                    self._end(kept.daemon)
                elif isinstance(kept.what, Mark):
                    self._writer(kept.daemon).mark(*kept.what)
                else:
                    self._writer(kept.daemon).note(*kept.what)
            for daemon in self._writers:
                self._drain(daemon)

    def _writer(self, daemon: str) -> Marks:
        if daemon not in self._writers:
            self._boots[daemon] = os.urandom(RID_BYTES)
            self._writers[daemon] = Marks(daemon, self.folder)
        return self._writers[daemon]

    def _drain(self, daemon: str) -> None:
        vars(marks)["BOOT_ID"] = self._boots[daemon]
        self._writers[daemon]._drain()

    def _end(self, daemon: str) -> None:
        if daemon in self._writers:
            self._drain(daemon)
            self._writers.pop(daemon).close()

    def _new_rid(self) -> bytes:
        """As ipc.ids makes them: its beginning is the time."""
        made_ms = (self.now_ns + self._wall_ns) // 1_000_000
        return made_ms.to_bytes(6, "big") + b"\x70" + next(self._count).to_bytes(1 + 8, "big")


def old_format(path: Path) -> None:
    """Makes the file one of format 1, as earlier versions wrote them: without notes, hosts and the newer stages."""
    trace = Trace(path)
    header = msgspec.to_builtins(trace.header, builtin_types=(bytes,)) | {"version": 1}
    del header["host"]
    header["stages"] = {number: name for number, name in header["stages"].items() if number <= OLD_STAGES}
    blocks = []
    for block in trace:
        packed = [MARK.pack(*mark) for mark in block.marks if mark[1] <= OLD_STAGES]
        blocks.append(struct.pack("<I", 0) + b"".join(packed))
    path.write_bytes(MAGIC + b"".join(_framed(each) for each in (msgspec.msgpack.encode(header), *blocks)))
