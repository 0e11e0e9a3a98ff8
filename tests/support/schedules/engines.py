"""Engines that bear words as numbers, and fail, stall and come late as a seed decides."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from array import array
from collections.abc import AsyncGenerator, Sequence

from daemons.engines.base import EngineError, EngineInfo, Prompt, Superseded, Transcript, Usage, never
from daemons.engines.fakes_memory import FakeEmbedder
from daemons.engines.fakes_tts import FakeSynthesizer, tone
from daemons.llm.core import CHECK_QUESTION
from daemons.stt.service import KNOWN_CLIP
from daemons.tts.service import KNOWN_TEXT
from ipc.audio import FRAME_BYTES, read_wav
from ipc.errors import Code
from tests.support.schedules.book import Book, place_of
from tests.support.schedules.ear import ECHO, SILENCE, understood

STALL_S = 3.0
"""Longer than the patience of these schedules."""

HEARD = 1000
"""Samples of a frame bear its conversation and its word, and this."""


def frame(place: str, word: str) -> bytes:
    """20 ms of a conversation in which `word` is spoken, or our own voice is heard."""
    if not word:
        return bytes(FRAME_BYTES)
    number = 0 if word == ECHO else int(word[3:])
    return (array("h", [HEARD + int(place), HEARD + number]) * (FRAME_BYTES // 4)).tobytes()


def _word(pcm: bytes) -> str:
    place, number = array("h", pcm[:4])
    if not place:
        return SILENCE
    return f"{place - HEARD:03d}{number - HEARD:04d}" if number > HEARD else ECHO


class Transcriber:
    info = EngineInfo("fake", "fake", "cpu")

    def __init__(self, book: Book, chance: random.Random) -> None:
        self._book, self._chance = book, chance
        self._known = read_wav(KNOWN_CLIP)

    def transcribe(self, pcm: bytes, draft: bool = False, superseded: Superseded = never) -> Transcript:
        if pcm == self._known:
            return Transcript("what is the capital of France", 0.0)
        read = [_word(pcm[at : at + FRAME_BYTES]) for at in range(0, len(pcm), FRAME_BYTES)]
        text = understood(read)
        place, fault = place_of(text), self._chance.random()
        if fault > 0.97:
            self._book.note(place, "stalled", "stt")
        time.sleep(self._chance.uniform(0.001, 0.01) if fault <= 0.97 else 0.3)
        if fault < 0.01 and place:
            record = self._book.records[place]
            self._book.note(place, "untold", min(word.from_ns for word in record.words if word.text in read))
            raise EngineError(Code.ENGINE_FAILED, "failed")
        return Transcript(text, 0.0)


class Model:
    """Each answer bears a number of its own in every clause."""

    info = EngineInfo("fake", "fake", "none")

    def __init__(self, book: Book, chance: random.Random, numbers: itertools.count[int]) -> None:
        self._book, self._chance, self._numbers = book, chance, numbers

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str | Usage, None]:
        question = prompt.messages[-1][1]
        if question == CHECK_QUESTION:
            yield "Paris"
        elif prompt.max_tokens:
            async for piece in self._answer(place_of(question)):
                yield piece
        yield Usage(9, 1, 5, "stop")

    async def _answer(self, place: str) -> AsyncGenerator[str, None]:
        chance, name = self._chance, f"n{next(self._numbers)}"
        fault = chance.random()
        pieces = [chance.choice((f" {name} is", f" {name} it,", f" {name} so.")) for _ in range(chance.randrange(1, 6))]
        broken = chance.randrange(len(pieces)) if fault < 0.08 else len(pieces)
        for piece in pieces[:broken]:
            await asyncio.sleep(chance.uniform(0.002, 0.02))
            yield piece
        if fault < 0.04:
            self._book.note(place, "stalled", "llm")
            await asyncio.sleep(STALL_S)
        if fault < 0.08:
            raise EngineError(Code.ENGINE_FAILED, "failed")

    def rest(self, seconds: float) -> None:
        """It uses no processor."""

    async def close(self) -> None:
        """Nothing to free."""


class Embedder(FakeEmbedder):
    def __init__(self, book: Book, chance: random.Random) -> None:
        super().__init__()
        self._book, self._chance = book, chance

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        fault = self._chance.random()
        if fault < 0.01:
            self._book.note(place_of(texts[0]), "stalled", "memory")
        time.sleep(self._chance.uniform(0.0, 0.005) if fault >= 0.01 else 1.2)
        return super().embed(texts)


class Synthesizer(FakeSynthesizer):
    def __init__(self, book: Book, chance: random.Random) -> None:
        super().__init__()
        self._book, self._chance = book, chance

    async def synthesize(self, text: str) -> AsyncGenerator[bytes, None]:
        if text == KNOWN_TEXT:
            yield tone(1000, self.sample_rate)
            return
        fault = self._chance.random()
        await asyncio.sleep(self._chance.uniform(0.01, 0.15))
        if fault < 0.01:
            for name in {name for name, said in self._book.spoken if said == text}:
                self._book.note(name, "stalled", "tts")
            await asyncio.sleep(STALL_S)
        if fault > 0.98:
            raise EngineError(Code.ENGINE_FAILED, "failed")
        if fault >= 0.03:
            yield tone(60 + 50 * len(text.split()), self.sample_rate)
