"""What is quiet on its way from a microphone, and how it is passed on without waking anybody too often."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from ipc.audio import FRAME_MS

T = TypeVar("T")

QUIET_AFTER_FRAMES = 2_000 // FRAME_MS
"""So much quiet goes on at once: the longest silence that ends a turn is 1,200 ms, and no end is told late."""

HELD_FRAMES = 500 // FRAME_MS
"""So many quiet frames go on together after that: two wake-ups a second instead of fifty."""

_ABOVE_FLOOR_DB = 6.0
_FIRST_FLOOR_DB = -50.0  # a recording may begin in the middle of a word
_FLOOR_RISE_DB = 3.0 * FRAME_MS / 1000
_SILENT_DB = -100.0


def level_db(pcm: bytes) -> float:
    """Mean power of 16-bit samples in dB below full scale."""
    import numpy as np

    samples = np.frombuffer(pcm, "<i2").astype(np.float32)
    power = float(samples @ samples) / len(samples) / 32768**2
    return 10 * math.log10(power) if power > 1e-10 else _SILENT_DB


class Background:
    """The loudness of a room when nobody speaks: the quietest frame, forgotten at 3 dB a second."""

    def __init__(self) -> None:
        self._floor_db = _FIRST_FLOOR_DB

    def exceeded_by(self, level: float) -> bool:
        """Whether the next frame, of this level (dB), stands out of the background: by 6 dB or more."""
        self._floor_db = min(level, self._floor_db + _FLOOR_RISE_DB)
        return level >= self._floor_db + _ABOVE_FLOOR_DB


class QuietHold(Generic[T]):
    """Passes frames of FRAME_MS on, at once while anything happens. After QUIET_AFTER_FRAMES in which nothing stood out
    of the background it holds frames back until there are HELD_FRAMES, or one that stands out. The voice detector calls
    only such a frame speech, so speech is never held."""

    def __init__(self) -> None:
        self._background = Background()
        self._quiet = 0
        self._held: list[T] = []

    def push(self, frame: T, pcm: bytes) -> list[T]:
        """The frames that go on now, oldest first; maybe none. `pcm`: what sounds in `frame`."""
        self._quiet = 0 if self._background.exceeded_by(level_db(pcm)) else self._quiet + 1
        self._held.append(frame)
        if self._quiet > QUIET_AFTER_FRAMES and len(self._held) < HELD_FRAMES:
            return []
        passed, self._held = self._held, []
        return passed
