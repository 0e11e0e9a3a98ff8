"""Spoken test audio, made by the real voice."""

from __future__ import annotations

import asyncio
import functools
from difflib import SequenceMatcher

import numpy as np

from daemons.engines.piper import PiperSynthesizer
from ipc.audio import STT_RATE, Resampler, to_pcm


@functools.cache
def speak(text: str) -> bytes:
    """`text` as STT_RATE 16-bit mono."""
    return asyncio.run(_speak(text))


async def _speak(text: str) -> bytes:
    voice = PiperSynthesizer("joe")
    try:
        pcm = b"".join([chunk async for chunk in voice.synthesize(text)])
        resampler = Resampler(voice.sample_rate, STT_RATE)
    finally:
        await voice.close()
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
    return to_pcm(np.concatenate([resampler.push(samples), resampler.flush()]))


def words(text: str) -> list[str]:
    """For comparing what was said with what was heard."""
    return "".join(char if char.isalnum() else " " for char in text.lower()).split()


def heard(word: str, transcript: str) -> bool:
    """Whether `word` is in it, as a recogniser spells it: "Paris" may be "Parris", "France is" "Frances"."""
    return any(SequenceMatcher(None, word, other).ratio() > 0.75 for other in words(transcript))


def share_heard(said: str, transcript: str) -> float:
    """How much of `said` a recogniser heard, 0 to 1; the small one mishears a word in seven."""
    spoken = words(said)
    return sum(heard(word, transcript) for word in spoken) / len(spoken)
