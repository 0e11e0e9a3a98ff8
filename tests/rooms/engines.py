"""`python -m tests.rooms.engines DAEMON`: a daemon of the house. A number that is said goes through ear, mind and voice
and comes back as what sounds: so one knows whose answer it is.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import AsyncGenerator, Callable
from functools import partial

from daemons import runtime
from daemons.dialog.service import DialogService
from daemons.engines.base import Prompt, Superseded, Transcript, never
from daemons.engines.fakes_llm import FakeModel
from daemons.engines.fakes_memory import FakeClassifier, FakeEmbedder
from daemons.engines.fakes_stt import FakeDetector, FakeTranscriber
from daemons.engines.fakes_tts import FakeSynthesizer
from daemons.llm.service import LlmService
from daemons.memory.service import MemoryService
from daemons.stt.service import SttService
from daemons.tts.service import TtsService

STEP = 1000
"""The number 7 is said as samples of 7000."""

SOUND_S = 0.6


def said(pcm: bytes | bytearray) -> int:
    """The number that the loudest sample stands for."""
    return max(map(abs, array("h", bytes(pcm))), default=0) // STEP


def sound(number: int, rate: int, seconds: float = SOUND_S) -> bytes:
    """How a number sounds: 500 Hz, square."""
    period = rate // 1000
    wave = [number * STEP + 100] * period + [-number * STEP - 100] * period
    return (array("h", wave).tobytes() * (int(rate * seconds) // len(wave) + 1))[: int(rate * seconds) * 2]


class Ear(FakeTranscriber):
    """Hears the number; in the known clip, which comes first, its words."""

    checked = False

    def transcribe(self, pcm: bytes, draft: bool = False, superseded: Superseded = never) -> Transcript:
        heard = super().transcribe(pcm, draft, superseded)
        if not self.checked:
            self.checked = True
            return heard
        return Transcript(f"What is number {said(pcm)}?", 0.0) if heard.text else heard


def _answer(prompt: Prompt) -> str:
    """To the last question."""
    numbers = re.findall(r"number (\d+)", prompt.messages[-1][1]) if prompt.messages else []
    return f"It is number {numbers[-1]}." if numbers else "Paris it is."


class Voice(FakeSynthesizer):
    async def synthesize(self, text: str) -> AsyncGenerator[bytes, None]:
        numbers = re.findall(r"number (\d+)", text)
        yield sound(int(numbers[-1]) if numbers else 1, self.sample_rate)


MAKERS: dict[str, Callable[[], runtime.Make]] = {
    "stt": lambda: partial(SttService, transcriber=Ear, detector=FakeDetector),
    "dialog": lambda: DialogService,
    "llm": lambda: partial(LlmService, model=FakeModel(_answer)),
    "memory": lambda: partial(MemoryService, embedder=FakeEmbedder, classifier=lambda embedder: FakeClassifier()),
    "tts": lambda: partial(TtsService, synthesizer=Voice),
}


if __name__ == "__main__":
    sys.exit(runtime.main(sys.argv[1], MAKERS[sys.argv[1]]()))
