"""A hop that can be bad: stands on the path where callers look for a daemon's socket, and passes on what comes.

It knows whole messages, so that what it drops, doubles, moves or damages is a message and the connection lives on.
It runs in a thread of its own; `faults` may be changed at any time.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import msgspec

from ipc.endpoints import claim_folder
from ipc.zmtp import multipart
from tools.harness.zmtp import Splitter, Unit

_CHUNK = 65_536
_SLICE = 64
"""Bytes at a time where a hop is slow."""

_START_S = 10.0


class _Type(msgspec.Struct):
    type: str


_header = msgspec.msgpack.Decoder(_Type)


@dataclass(frozen=True, slots=True)
class HopFaults:
    """What a hop does to messages. `drop`, `duplicate`, `reorder` (swap with the next one) and `corrupt` (one bit is
    turned over) are chances, 0 to 1, for each message. `bytes_per_s` 0: as fast as it can. `held`: nothing passes, and
    the connections stay; what waits passes when it is lifted. `types`: only these types of message (a header that
    cannot be read is of none); empty: all. `way`: in which direction."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    bytes_per_s: float = 0.0
    held: bool = False
    types: frozenset[str] = frozenset()
    way: Literal["both", "to_daemon", "from_daemon"] = "both"


NO_FAULTS = HopFaults()


class Hop:
    """A context manager: passes on between `front`, where it listens, and `behind`, where the daemon does."""

    def __init__(self, front: Path, behind: Path, seed: int = 0) -> None:
        self.faults = NO_FAULTS
        self.counts: Counter[str] = Counter()
        """How many messages were `passed`, `dropped`, `duplicated`, `reordered`, `corrupted`."""
        self._front, self._behind = front, behind
        self._random = random.Random(seed)
        self._open: set[asyncio.Task[None]] = set()
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name=f"hop {front.name}")

    def __enter__(self) -> Self:
        claim_folder(self._front.parent)
        self._front.unlink(missing_ok=True)
        self._thread.start()
        if not self._up.wait(_START_S):
            raise RuntimeError(f"the proxy at {self._front} did not start")
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._front.unlink(missing_ok=True)

    def cut(self) -> None:
        """Breaks every connection that is open now."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for task in self._open:
            task.cancel()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_unix_server(self._accepted, self._front)
        self._up.set()
        await self._end.wait()
        server.close()
        self._cut()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        with suppress(OSError, asyncio.CancelledError):
            await self._join(reader, writer)
        writer.close()
        self._open.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes on both ways until one side ends: then both do."""
        there, back = await asyncio.open_unix_connection(self._behind)
        ways = [
            asyncio.create_task(_Way(self, "to_daemon").carry(reader, back)),
            asyncio.create_task(_Way(self, "from_daemon").carry(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.close()


class _Way:
    """One direction of one connection."""

    def __init__(self, hop: Hop, name: str) -> None:
        self._hop, self._name = hop, name
        self._waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._kept: bytes = b""
        self._due_s = 0.0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sending = asyncio.create_task(self._send(writer))
        splitter = Splitter()
        try:
            while (data := await reader.read(_CHUNK)) and not sending.done():
                for unit in splitter.feed(data):
                    self._take(unit)
            self._waiting.put_nowait((self._due_s, b""))
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _take(self, unit: Unit) -> None:
        faults = self._faults()
        copies = self._treated(unit, faults) if self._concerned(unit, faults) else [unit.raw]
        delay_ms = faults.delay_ms + self._hop._random.uniform(0, faults.jitter_ms)
        # Never before what came earlier: only `reorder` changes the order.
        self._due_s = max(self._due_s, self._hop._loop.time() + delay_ms / 1000)
        for raw in copies:
            self._waiting.put_nowait((self._due_s, raw))

    def _faults(self) -> HopFaults:
        faults = self._hop.faults
        return faults if faults.way in ("both", self._name) else NO_FAULTS

    def _concerned(self, unit: Unit, faults: HopFaults) -> bool:
        return bool(unit.frames) and (not faults.types or type_of(unit) in faults.types)

    def _treated(self, unit: Unit, faults: HopFaults) -> list[bytes]:
        """The message as it goes on: not at all, once, twice, or together with the one kept before."""
        chance, counts = self._hop._random, self._hop.counts
        kept, self._kept = self._kept, b""
        before = [kept] if kept else []
        if chance.random() < faults.drop:
            counts["dropped"] += 1
            return before
        raw = unit.raw
        if chance.random() < faults.corrupt:
            counts["corrupted"] += 1
            raw = self._damaged(unit)
        if not before and chance.random() < faults.reorder:
            counts["reordered"] += 1
            self._kept = raw
            return []
        counts["passed"] += 1
        again = [raw] if chance.random() < faults.duplicate else []
        counts["duplicated"] += len(again)
        return [raw, *again, *before]

    def _damaged(self, unit: Unit) -> bytes:
        frames = [bytearray(frame) for frame in unit.frames]
        frame = frames[self._hop._random.randrange(len(frames))]
        if frame:
            frame[self._hop._random.randrange(len(frame))] ^= 1 << self._hop._random.randrange(8)
        return multipart([*map(bytes, frames)])

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        while True:
            due_s, raw = await self._waiting.get()
            await asyncio.sleep(due_s - self._hop._loop.time())
            while self._faults().held:  # noqa: ASYNC110 - any thread may lift it
                await asyncio.sleep(0.01)
            if not raw:
                return
            await self._write(writer, raw)

    async def _write(self, writer: asyncio.StreamWriter, raw: bytes) -> None:
        rate = self._faults().bytes_per_s
        for start in range(0, len(raw), _SLICE if rate else len(raw)):
            part = raw[start : start + _SLICE] if rate else raw
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(len(part) / rate if rate else 0)


def type_of(unit: Unit) -> str:
    """The message's type; empty where there is none to be read."""
    try:
        return _header.decode(unit.frames[0]).type
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IndexError):
        return ""
