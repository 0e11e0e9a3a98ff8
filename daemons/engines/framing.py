"""Frames out of blocks of audio of any size and rate."""

from __future__ import annotations

from collections.abc import Callable

from daemons.engines.base import FRAME_BYTES, STT_RATE, Frame
from ipc.audio import Resampler, to_pcm


class Framer:
    """Makes Frames of blocks of any size and `rate`. A frame's time follows from the time of the block that
    its last sample came in, so that a device's own clock cannot drift away from the host's."""

    def __init__(self, rate: int, on_frame: Callable[[Frame], None]) -> None:
        self.rate = rate
        self._on_frame = on_frame
        self._resampler = None if rate == STT_RATE else Resampler(rate, STT_RATE)
        self._pending = b""
        self._taken = 0  # samples at `rate` before this block
        self._made = 0  # samples at STT_RATE, those pending included

    def push(self, t_ns: int, pcm: bytes) -> None:
        """`t_ns`: capture time of the first sample of `pcm`."""
        zero_ns = t_ns - self._taken * 1_000_000_000 // self.rate  # when the stream began, by this block
        self._taken += len(pcm) // 2
        fresh = pcm if self._resampler is None else _resampled(self._resampler, pcm)
        self._made += len(fresh) // 2
        self._pending += fresh
        while len(self._pending) >= FRAME_BYTES:
            first = self._made - len(self._pending) // 2
            frame, self._pending = self._pending[:FRAME_BYTES], self._pending[FRAME_BYTES:]
            self._on_frame(Frame(zero_ns + first * 1_000_000_000 // STT_RATE, frame))


def _resampled(resampler: Resampler, pcm: bytes) -> bytes:
    import numpy as np

    return to_pcm(resampler.push(np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)))
