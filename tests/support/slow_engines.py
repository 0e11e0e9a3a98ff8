"""Fake engines, and other parts of the daemons, of which one at a time is 20 ms slower than the others."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

from daemons.engines import paced_out
from daemons.engines.base import Prompt, Superseded, Transcript, Usage, never
from daemons.engines.fakes_llm import FakeModel
from daemons.engines.fakes_memory import FakeEmbedder
from daemons.engines.fakes_stt import FakeTranscriber
from daemons.engines.fakes_tts import FakeSynthesizer, tone
from daemons.tts.service import KNOWN_TEXT
from ipc.inproc import InprocHub

LATE_S = 0.020
WORK_S = (0.003, 0.007)
NOTHING = "nothing"
STAGES = (
    "endpoint",
    "stt",
    "recall",
    "prompt",
    "llm_first_token",
    "llm_first_clause",
    "tts_synthesis",
    "tts_playout",
    "ipc",
)
"""Where time can be planted: all but `unaccounted`, which is none of them."""

QUESTION = "What time is it?"
ANSWER = "Paris it is. "


class Plant:
    """The stage that is slow at present."""

    def __init__(self) -> None:
        self.stage = NOTHING

    def late_s(self, stage: str) -> float:
        return LATE_S if stage == self.stage else 0.0

    def work_s(self, stage: str) -> float:
        """How long an engine works."""
        return random.uniform(*WORK_S) + self.late_s(stage)


class Transcriber(FakeTranscriber):
    def __init__(self, plant: Plant) -> None:
        super().__init__("What is the capital of France?", QUESTION)  # the first is what the check at the start plays
        self._plant = plant

    def transcribe(self, pcm: bytes, draft: bool = False, superseded: Superseded = never) -> Transcript:
        time.sleep(self._plant.work_s("stt"))
        return super().transcribe(pcm, draft, superseded)


class Embedder(FakeEmbedder):
    def __init__(self, plant: Plant) -> None:
        super().__init__()
        self._plant = plant

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        time.sleep(self._plant.work_s("recall"))
        return super().embed(texts)


class Model(FakeModel):
    def __init__(self, plant: Plant) -> None:
        super().__init__(ANSWER)
        self._plant = plant

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str | Usage, None]:
        slow = iter(("llm_first_token", "llm_first_clause") if prompt.max_tokens else ())
        async for piece in super().generate(prompt):
            if stage := next(slow, ""):
                await asyncio.sleep(self._plant.work_s(stage))
            yield piece


class Voice(FakeSynthesizer):
    """Short answers, so that many fit into a minute."""

    def __init__(self, plant: Plant) -> None:
        super().__init__()
        self._plant = plant

    async def synthesize(self, text: str) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(self._plant.work_s("tts_synthesis"))
        yield tone(1000 if text == KNOWN_TEXT else 20, self.sample_rate)


class Wire(InprocHub):
    """What comes in on it comes late."""

    def __init__(self, plant: Plant) -> None:
        super().__init__()
        self._plant = plant

    def arrive(self, peer: bytes, frames: list[bytes]) -> bool:
        asyncio.get_running_loop().call_later(self._plant.late_s("ipc"), super().arrive, peer, frames)
        return True


@contextmanager
def slow_parts(plant: Plant) -> Iterator[None]:
    """What no engine does: making the prompt, and the device's way from samples to sound."""

    def clock() -> str:
        time.sleep(plant.late_s("prompt"))
        return "noon"

    class Lead:
        """A number that is read anew for each answer."""

        def __radd__(self, now_ns: int) -> int:
            return now_ns + 5_000_000 + round(plant.late_s("tts_playout") * 1e9)

    with (
        mock.patch("daemons.dialog.service._clock", clock),
        mock.patch.object(paced_out, "LEAD_NS", Lead()),
    ):
        yield
