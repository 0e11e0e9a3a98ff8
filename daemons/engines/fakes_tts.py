"""Stand-ins for the speaking engines: deterministic, and told to fail, stall or babble. For tests of faults."""

from __future__ import annotations

import asyncio
import functools
import math
import struct
from array import array
from collections.abc import AsyncGenerator, Callable

from daemons.engines.base import EngineError, EngineInfo
from daemons.engines.ordered import until_lifted
from daemons.orders import OrderBook
from ipc.errors import Code


@functools.cache
def tone(milliseconds: int, rate: int) -> bytes:
    """440 Hz, loud: 44 periods, repeated."""
    periods = (int(16_000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(rate // 10))
    return (array("h", periods).tobytes() * (milliseconds // 100 + 1))[: rate * milliseconds // 1000 * 2]


class FakeSynthesizer:
    """A tone of 60 ms a character. Fails while `failure` is set, stalls while `go` is not; says it `babble`
    times, `pace_s` apart."""

    sample_rate = 16_000
    info = EngineInfo("fake", "fake", "cpu")

    def __init__(self, failure: Exception | None = None, babble: int = 1) -> None:
        self.failure = failure
        self.babble = babble
        self.pace_s = 0.0
        self.go = asyncio.Event()
        self.go.set()
        self.asked: list[str] = []
        self.stopped: list[str] = []

    async def load(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def synthesize(self, text: str) -> AsyncGenerator[bytes, None]:
        self.asked.append(text)
        try:
            for _ in range(self.babble if text.strip() else 0):
                await asyncio.sleep(self.pace_s)
                await self.go.wait()
                if self.failure is not None:
                    raise self.failure
                yield tone(60 * len(text), self.sample_rate)
                yield b""
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped.append(text)
            raise

    async def close(self) -> None:
        self.go.set()


class FakeOut:
    """An AudioOut that plays when told: `begin` and `drain` are its device. Cannot be opened while `failure` is
    set, and can be lost."""

    name = "fake"

    def __init__(self, sample_rate: int, failure: EngineError | None = None) -> None:
        self.sample_rate = sample_rate
        self.failure = failure
        self.on_started: Callable[[int], None] = lambda t_ns: None
        self.on_drained: Callable[[int], None] = lambda t_ns: None
        self.written = bytearray()
        self.done: list[str] = []

    def start(self, on_lost: Callable[[EngineError], None]) -> None:
        if self.failure is not None:
            raise self.failure
        self._on_lost = on_lost

    def write(self, pcm: bytes) -> None:
        self.written += pcm
        self.done.append("write")

    def mark_end(self) -> None:
        self.done.append("end")

    def flush(self) -> None:
        self.done.append("flush")

    def lose(self) -> None:
        self._on_lost(EngineError(Code.DEVICE_LOST, "the speaker 'fake' went away: plug it in again"))

    def close(self) -> None:
        self.done.append("close")


NOT_A_NUMBER = struct.pack("<1600f", *[math.nan] * 1600)
"""0.2 s of what a voice gives that has lost its numbers and its type."""


class OrderedSynthesizer(FakeSynthesizer):
    """Obeys its orders while it works."""

    def __init__(self, book: OrderBook) -> None:
        super().__init__()
        self._book = book

    async def synthesize(self, text: str) -> AsyncGenerator[bytes, None]:
        self.asked.clear()  # it works for hours
        self.stopped.clear()
        given = 0
        async for part in super().synthesize(text):
            await asyncio.sleep(self._book.now().slow_ms / 1000)
            orders = self._book.now()
            if given >= orders.after:
                await until_lifted(self._book)
                while self._book.now().fault == "endless":
                    await asyncio.sleep(0.01)
                    yield part
                if orders.fault in ("nan", "odd"):
                    yield NOT_A_NUMBER if orders.fault == "nan" else b"\x01"
                if orders.fault in ("nan", "odd", "empty"):
                    continue
            given += 1
            yield part
