"""Speech to text: listens until a turn is over, then transcribes all of it and sends the text on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from daemons import config
from daemons.engines.webrtc import WebRtcDetector
from daemons.engines.whisper import WhisperTranscriber
from ipc.audio import FRAME_NS, STT_RATE, PacedFrame, paced, silence, voice_ns
from tools.bench.old import END_SILENCE_MS, web
from tools.bench.old.replies import Done, Listened, Processed, Text

START_WINDOW, START_VOICED = 5, 3

CONTEXT_BYTES = 28 * STT_RATE * 2
"""Filled up to 28 s with silence, as Whisper's own `transcribe()` fills it up, the engine reads the full 30 s. It
takes the likeliest word each time, which is quicker than the five beams that are the default there."""

_AFTER_MS = 2 * END_SILENCE_MS


@dataclass
class Endpointer:
    """When a turn is over: `END_SILENCE_MS` after its last voiced frame."""

    last_voiced_ns: int = 0
    """Capture time of the last voiced sample; 0: nothing was said yet."""
    _voiced_until_ns: int = 0
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=START_WINDOW))

    def over(self, voiced: bool, t_ns: int, pcm: bytes) -> bool:
        """Whether it is, at the end of the next frame. Speech begins with 3 voiced frames of 5."""
        self._recent.append(voiced)
        end_ns = t_ns + FRAME_NS
        if voiced and (self.last_voiced_ns or sum(self._recent) >= START_VOICED):
            self.last_voiced_ns, self._voiced_until_ns = t_ns + voice_ns(pcm), end_ns
        return bool(self.last_voiced_ns) and end_ns - self._voiced_until_ns >= END_SILENCE_MS * 1_000_000


class SttService:
    """Its microphone is what a request brings: it is captured at speaking pace."""

    def __init__(self, setup: web.Setup) -> None:
        settings = config.load().stt
        self._transcriber = WhisperTranscriber(settings.model, settings.device, settings.threads, settings.language)
        self._detector = WebRtcDetector(settings.vad_aggressiveness)
        self._paused = threading.Event()
        self._next = setup.peers["preprocessor"]
        self._caller = web.Caller(setup.pooled)
        self.engines = [web.described(self._transcriber.info)]
        self.routes: Mapping[str, web.Route] = {"/listen": self._listen, "/pause": self._pause, "/resume": self._resume}

    def close(self) -> None:
        self._caller.close()

    def _listen(self, request: web.Request) -> Listened:
        ear = Endpointer()
        pcm = self._hear(ear, request.body)
        endpoint_ns = time.monotonic_ns()
        text = self._transcriber.transcribe(pcm.ljust(CONTEXT_BYTES, b"\0")).text if ear.last_voiced_ns else ""
        transcribed_ns = sent_ns = time.monotonic_ns()
        processed = None
        if text:
            body = msgspec.json.encode(Text(text))
            sent_ns = time.monotonic_ns()
            processed = self._caller.post(f"{self._next}/turn", request.rid, body, Processed)
        return Listened(ear.last_voiced_ns, endpoint_ns, transcribed_ns, sent_ns, text, processed)

    def _hear(self, ear: Endpointer, pcm: bytes) -> bytes:
        """What is captured until the turn is over; nothing while the listener is paused."""
        captured = bytearray()
        for frame in paced(pcm + silence(_AFTER_MS), time.monotonic_ns()):
            _wait_for(frame)
            if not self._paused.is_set():
                captured += frame.pcm
                if ear.over(self._detector.is_speech(frame.pcm), frame.t_ns, frame.pcm):
                    break
        return bytes(captured)

    def _pause(self, request: web.Request) -> Done:
        self._paused.set()
        return Done()

    def _resume(self, request: web.Request) -> Done:
        self._paused.clear()
        return Done()


def _wait_for(frame: PacedFrame) -> None:
    time.sleep(max(0, frame.due_ns - time.monotonic_ns()) / 1e9)


if __name__ == "__main__":
    web.main(SttService)
