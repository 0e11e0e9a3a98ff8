"""Stand-ins for the speaking engines: deterministic, and told to fail, stall or babble. For tests of faults."""

from __future__ import annotations

import asyncio
import functools
import math
from array import array
from collections.abc import AsyncGenerator, Callable

from daemons.engines.base import EngineError, EngineInfo
from ipc.errors import Code


@functools.cache
def tone(milliseconds: int, rate: int) -> bytes:
    """440 Hz, loud."""
    samples = (int(16_000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(rate * milliseconds // 1000))
    return array("h", samples).tobytes()


class FakeSynthesizer:
    """A tone of 60 ms a character. Fails while `failure` is set, stalls while `go` is not; gives it `babble`
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
