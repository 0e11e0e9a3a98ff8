"""Outputs that have no clock of their own: a client over the wire, a WAV file, nothing at all. The host's clock
paces them as a device would be."""

from __future__ import annotations

import asyncio
import contextlib
import wave
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from daemons.engines.base import FRAME_MS, EngineError
from daemons.engines.pcm import duration_ns
from daemons.engines.playqueue import PlayQueue
from ipc.errors import Code

AHEAD_NS = 180_000_000
"""How long before its playout time a frame may be handed over: with the frame itself 200 ms, CREDIT_AUDIO."""

LEAD_NS = 5_000_000
"""An utterance begins this long after its first frame was handed over, so that a client can play it in time."""


class Sink(Protocol):
    def __call__(self, t_ns: int, pcm: bytes, last: bool) -> None:
        """Takes a frame of at most FRAME_MS, due at `t_ns`. `last`: the utterance ends with it, and nothing due
        later may sound. Raises OSError when it cannot."""


class Clock(Protocol):
    """What PacedOut needs of time; an event loop has it."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle: ...


class PacedOut:
    """An AudioOut that hands its sound to `sink`, frame by frame. Lives on one event loop."""

    def __init__(self, name: str, sample_rate: int, sink: Sink, ahead_ns: int = 0, clock: Clock | None = None) -> None:
        self.name = name
        self.sample_rate = sample_rate
        self.on_started: Callable[[int], None] = lambda t_ns: None
        self.on_drained: Callable[[int], None] = lambda t_ns: None
        self._sink = sink
        self._ahead_ns = ahead_ns
        self._clock: Clock = clock or asyncio.get_running_loop()
        self._queue = PlayQueue(sample_rate)
        self._frame_bytes = sample_rate * FRAME_MS // 1000 * 2
        self._head_ns = 0  # playout time of the next sample
        self._drains: deque[int] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._on_lost: Callable[[EngineError], None] = lambda error: None

    def start(self, on_lost: Callable[[EngineError], None]) -> None:
        self._on_lost = on_lost

    def write(self, pcm: bytes) -> None:
        if self._queue.empty:  # it begins, or it comes after it was due
            self._head_ns = max(self._head_ns, self._now_ns() + LEAD_NS)
        self._queue.write(pcm)
        self._pump()

    def mark_end(self) -> None:
        self._queue.mark_end()
        self._pump()

    def flush(self) -> None:
        now_ns = self._now_ns()
        if self._queue.flush() or self._drains:
            self._hand_over(min(now_ns, self._head_ns), b"", True)
        self._queue = PlayQueue(self.sample_rate)  # the faded rest would come after what was handed over
        self._drains.clear()
        self._head_ns = now_ns
        self._wake()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _now_ns(self) -> int:
        return int(self._clock.time() * 1e9)

    def _pump(self) -> None:
        """Hands over all that is due and wakes again when more will be."""
        now_ns = self._now_ns()
        while self._drains and self._drains[0] <= now_ns:
            self.on_drained(self._drains.popleft())
        while self._head_ns - self._ahead_ns <= now_ns and (part := self._queue.take(self._frame_bytes)):
            self._hand_over(self._head_ns, part.pcm, part.last)
            if part.first:
                self.on_started(self._head_ns)
            self._head_ns += duration_ns(part.pcm, self.sample_rate)
            if part.last:
                self._drains.append(self._head_ns)
        self._wake()

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = [*list(self._drains)[:1], *([] if self._queue.empty else [self._head_ns - self._ahead_ns])]
        self._timer = self._clock.call_at(min(due) / 1e9, self._pump) if due else None

    def _hand_over(self, t_ns: int, pcm: bytes, last: bool) -> None:
        try:
            self._sink(t_ns, pcm, last)
        except OSError as error:
            self._on_lost(EngineError(Code.DEVICE_LOST, f"{self.name}: {error.strerror or error}"))


def null_out(sample_rate: int) -> PacedOut:
    """No speaker: answers take the time they would, and nobody hears them."""
    return PacedOut("none", sample_rate, lambda t_ns, pcm, last: None)


def wav_out(path: Path, sample_rate: int) -> PacedOut:
    """Writes all that is spoken to a WAV file, anew; it is whole after each frame. Raises EngineError."""
    return _WavOut(path, sample_rate)


class _WavOut(PacedOut):
    def __init__(self, path: Path, sample_rate: int) -> None:
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise EngineError(Code.DEVICE_MISSING, f"{path} cannot be written: {error.strerror}") from None
        self._wave = wave.Wave_write(self._file)
        self._wave.setparams((1, 2, sample_rate, 0, "NONE", ""))
        super().__init__(str(path), sample_rate, self._append)

    def _append(self, t_ns: int, pcm: bytes, last: bool) -> None:
        self._wave.writeframes(pcm)
        self._file.flush()

    def close(self) -> None:
        super().close()
        with contextlib.suppress(OSError):  # a full disk was reported when it came
            self._wave.close()
            self._file.close()
