"""The ear of one conversation: voice detector and segmenter, fed with frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from daemons.engines.base import Frame, VoiceDetector
from daemons.stt.core import Effect, Segmenter, Transcribe
from daemons.stt.endpointing import ConfirmAfter
from daemons.stt.turn import Heard
from daemons.stt.worker import TranscriptWorker
from ipc.audio import voice_ns
from ipc.limits import LEASE_MAX_MS
from ipc.messages import Down


class Ear:
    """Lives on the event loop. `emit` gets the events in their order."""

    def __init__(
        self, core: Segmenter, detector: VoiceDetector, worker: TranscriptWorker, emit: Callable[[Down], None]
    ) -> None:
        self._core = core
        self._detector = detector
        self._worker = worker
        self._emit = emit
        self._over = False
        self._idle = asyncio.Event()

    @property
    def dropped_ms(self) -> int:
        return self._core.dropped_ms

    def adopt(self, confirm_after: ConfirmAfter, candidate_ms: int) -> None:
        self._core.adopt(confirm_after, candidate_ms)

    def hear(self, frame: Frame) -> None:
        voiced = self._detector.is_speech(frame.pcm)
        heard = Heard(frame.t_ns, voiced, frame.pcm, voice_ns(frame.pcm) if voiced else 0)
        self._apply(self._core.frame(heard, time.monotonic_ns()))

    def mute(self, from_ns: int, lease_ms: int) -> None:
        self._apply(self._core.mute(from_ns, lease_ms, time.monotonic_ns()))

    def muted(self, from_ns: int, until_ns: int) -> None:
        """What was told before there was this ear."""
        self.mute(from_ns, LEASE_MAX_MS)
        self.mute(until_ns, 0)

    def silence(self) -> None:
        """Nothing comes for a while."""
        self._apply(self._core.silence(time.monotonic_ns()))

    def close(self) -> None:
        """Nothing comes any more; what was said is still told when its transcript is there."""
        self._over = True
        self._settle()

    async def finished(self) -> None:
        """After `close`: until everything is told."""
        await self._idle.wait()

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Transcribe):
                self._worker.ask(effect, self._answer)
            else:
                self._emit(effect)

    def _answer(self, text: str | None) -> None:
        self._apply(self._core.transcribed(text, time.monotonic_ns()))
        if self._over:
            self._settle()

    def _settle(self) -> None:
        self.silence()
        if self._core.idle:
            self._idle.set()
