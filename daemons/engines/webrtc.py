"""The voice detector: WebRTC's, with its own hangover taken off."""

from __future__ import annotations

from daemons.engines.base import FRAME_MS, STT_RATE
from ipc.quiet import Background, level_db

_BELOW_PEAK_DB = 35.0
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
        self._background = Background()
        self._peak_db = _SILENT_DB

    def is_speech(self, pcm: bytes) -> bool:
        voiced: bool = self._vad.is_speech(pcm, STT_RATE)
        level = level_db(pcm)
        stands_out = self._background.exceeded_by(level)
        self._peak_db -= _PEAK_FALL_DB
        if not voiced:
            return False
        self._peak_db = max(level, self._peak_db)
        return stands_out and level >= self._peak_db - _BELOW_PEAK_DB
