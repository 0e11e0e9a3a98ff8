"""The voice detector: WebRTC's, with its own hangover taken off."""

from __future__ import annotations

import math

from daemons.engines.base import FRAME_MS, STT_RATE

_ABOVE_FLOOR_DB = 6.0
_BELOW_PEAK_DB = 35.0
_FIRST_FLOOR_DB = -50.0  # a recording may begin in the middle of a word
_FLOOR_RISE_DB = 3.0 * FRAME_MS / 1000
_PEAK_FALL_DB = 10.0 * FRAME_MS / 1000
_SILENT_DB = -100.0


class WebRtcDetector:
    """A VoiceDetector for one conversation: it remembers the background and the speaker's loudness.

    WebRTC's detector stays on for about 120 ms after the last sound, which would come on top of every answer's
    delay. A frame that it calls voiced counts only if it also stands 6 dB above the background and no more
    than 35 dB below the speaker's loudest: so the end of speech is seen within a frame.
    """

    def __init__(self, aggressiveness: int) -> None:
        import webrtcvad

        self._vad = webrtcvad.Vad(aggressiveness)
        self._floor_db = _FIRST_FLOOR_DB
        self._peak_db = _SILENT_DB

    def is_speech(self, pcm: bytes) -> bool:
        voiced: bool = self._vad.is_speech(pcm, STT_RATE)
        level = _level_db(pcm)
        self._floor_db = min(level, self._floor_db + _FLOOR_RISE_DB)
        self._peak_db -= _PEAK_FALL_DB
        if not voiced:
            return False
        self._peak_db = max(level, self._peak_db)
        return level >= max(self._floor_db + _ABOVE_FLOOR_DB, self._peak_db - _BELOW_PEAK_DB)


def _level_db(pcm: bytes) -> float:
    """Mean power of a frame in dB below full scale."""
    import numpy as np

    samples = np.frombuffer(pcm, "<i2").astype(np.float32)
    power = float(samples @ samples) / len(samples) / 32768**2
    return 10 * math.log10(power) if power > 1e-10 else _SILENT_DB
