"""What is asked in a benchmark, and what is remembered before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ipc.audio import STT_RATE, Resampler, read_wav, to_pcm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@dataclass(frozen=True, slots=True)
class Question:
    """`memory`: how the memory begins that answers it, empty for one about the world. `recording`: a file of
    `examples/`, empty for what the voice is to say."""

    text: str
    memory: str
    recording: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """`pcm`: STT_RATE, 16-bit mono."""

    question: Question
    pcm: bytes


def questions() -> list[Question]:
    lines = (DATA / "questions.tsv").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [Question(*("" if field == "-" else field for field in row)) for row in rows]


def memories() -> list[str]:
    """200 things that a household wants to be remembered."""
    return (DATA / "memories_200.txt").read_text("utf-8").splitlines()


def to_speak_of() -> list[str]:
    """50 questions: three in five for a memory, the others for an answer of several clauses."""
    return (DATA / "speaking.txt").read_text("utf-8").splitlines()


def persona() -> str:
    """One of about 550 tokens, for a comparison: the shorter the persona, the less an uncached prompt costs."""
    return (DATA / "persona.txt").read_text("utf-8").strip()


async def speak(asked: Sequence[Question], voice: str, threads: int) -> list[Spoken]:
    """All of them as sound: recordings where there are some, else as `voice` (of Piper) says them now."""
    import numpy as np

    from daemons.engines.piper import PiperSynthesizer

    synthesizer = PiperSynthesizer(voice, threads=threads)
    try:
        spoken = []
        for question in asked:
            if question.recording:
                spoken.append(Spoken(question, read_wav(EXAMPLES / question.recording)))
                continue
            pcm = b"".join([part async for part in synthesizer.synthesize(question.text)])
            spoken.append(Spoken(question, resampled(np.frombuffer(pcm, "<i2"), synthesizer.sample_rate)))
        return spoken
    finally:
        await synthesizer.close()


def resampled(samples: NDArray[np.int16], rate: int) -> bytes:
    """The same sound at STT_RATE, for the transcriber."""
    import numpy as np

    resampler = Resampler(rate, STT_RATE)
    waves = samples.astype(np.float32) / np.float32(32768)
    return to_pcm(np.concatenate([resampler.push(waves), resampler.flush()]))
