"""`timmy bench stt`: what a short context saves the transcriber, and what it costs in words."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from daemons.config import Stt, load
from ipc.audio import STT_RATE
from tools.bench.comparison import spread
from tools.bench.questions import Question, memories, speak
from tools.show import json_option, print_json, print_table

_T = TypeVar("_T")

PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PROMPT_TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
PROMPTS_HINT = "For a person's voice: sudo apt install asterisk-core-sounds-en asterisk-core-sounds-en-g722"
PERSON = "recorded prompts"
LONGEST_S = 25
"""A longer recording is cut in pieces, whatever the context."""

WORDS_MIN = 4
"""A shorter text is no sentence."""

NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand first second third"
    " fourth fifth sixth seventh eighth ninth tenth eleventh twelfth twentieth half quarter"
)
"""Texts with one of these are left out: "nine" and "9" are the same, and no mistake."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What is said, and its sound: STT_RATE, 16-bit mono."""

    text: str
    pcm: bytes


@click.command()
@click.option(
    "--clips", default=40, show_default=True, type=click.IntRange(2, 1000), help="At most so many recordings."
)
@json_option
def stt(clips: int, as_json: bool) -> None:
    """Transcribe sentences with a context as short as the speech, as the daemon does, and with Whisper's own 30 s.

    The sentences are recorded prompts of the asterisk packages where they are installed, else they are spoken by the
    assistant's voice. Both contexts take turns. A word error is a word that is wrong, missing or too many; a short
    context is given up for the long one where its result looks doubtful.

    \b
    timmy bench stt --clips 100 --json
    """
    if person := PROMPTS.is_dir() and PROMPT_TEXTS.is_file():
        said = prompts(PROMPTS, gzip.decompress(PROMPT_TEXTS.read_bytes()).decode("utf-8"), clips)
    else:
        said = asyncio.run(_spoken(clips))
    source = PERSON if person else "the assistant's voice"
    contexts = measure(said, load().stt)
    words = sum(len(words_of(clip.text)) for clip in said)
    figures = {"source": source, "clips": len(said), "words": words, "contexts": contexts}
    if as_json:
        print_json(figures)
    else:
        show(figures)


def show(figures: Mapping[str, Any]) -> None:
    """The figures, for a person."""
    print_table(
        ["context", "word errors", "p50 ms", "p90 ms", "done again in full"],
        [
            [
                name,
                f"{row['word_errors_percent']:.1f} %",
                f"{row['ms']['p50']:.0f}",
                f"{row['ms']['p90']:.0f}",
                f"{row['second_readings_percent']:.0f} %",
            ]
            for name, row in figures["contexts"].items()
        ],
    )
    model = figures["contexts"]["short"]["model"]
    click.echo(f"{figures['clips']} recordings, {figures['words']} words: {figures['source']}, {model}.")
    if figures["source"] != PERSON:
        click.echo(PROMPTS_HINT)


def measure(said: Sequence[Clip], settings: Stt) -> dict[str, Any]:
    """Figures by context. Each clip is transcribed with both, one after the other."""
    from daemons.engines.whisper import FULL_CONTEXT_S, SHORT_CONTEXT_S, WhisperTranscriber

    readers = {
        name: WhisperTranscriber(settings.model, settings.device, settings.threads, settings.language, context_s)
        for name, context_s in (("short", SHORT_CONTEXT_S), ("30 s", FULL_CONTEXT_S))
    }
    times: dict[str, list[float]] = {name: [] for name in readers}
    errors = dict.fromkeys(readers, 0)
    for reader in readers.values():
        reader.transcribe(said[0].pcm)  # the first one takes longer
        reader.second_readings = 0
    for clip in said:
        for name, reader in readers.items():
            began = time.perf_counter()
            text = reader.transcribe(clip.pcm).text
            times[name].append((time.perf_counter() - began) * 1000)
            errors[name] += word_errors(words_of(clip.text), words_of(text))
    words = sum(len(words_of(clip.text)) for clip in said)
    return {
        name: {
            "model": f"{reader.info.model} on {reader.info.device}",
            "word_errors_percent": errors[name] / words * 100,
            "ms": spread(times[name]),
            "second_readings_percent": reader.second_readings / len(said) * 100,
        }
        for name, reader in readers.items()
    }


# --- words ------------------------------------------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    """The words alone, as they are compared: without case, punctuation, and the spelling of what is joined."""
    return re.findall(r"[a-z0-9]+", re.sub(r"['’]", "", text.lower()))


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words that have to be changed, removed or added (Levenshtein's distance). By `len(said)` it is the error rate."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(said, 1):
        before, row[0] = row[0], place
        for at, other in enumerate(heard, 1):
            before, row[at] = row[at], min(before + (word != other), row[at] + 1, row[at - 1] + 1)
    return row[-1]


def _sentence(text: str) -> bool:
    """Whether it can be compared word by word."""
    words = words_of(text)
    return len(words) >= WORDS_MIN and not set(NUMBERS.split()) & set(words) and not re.search(r"[\[\]\d]", text)


# --- what is said -------------------------------------------------------------------------------------------------


def prompts(folder: Path, texts: str, most: int) -> list[Clip]:
    """Recordings of that folder, evenly over the names of those that can be compared. `texts` has a line for each,
    NAME: TEXT. The half of them whose file names have an odd CRC-32 is kept for acceptance."""
    from daemons.engines.recording import read_recording

    found: Mapping[str, str] = dict(re.findall(r"^([\w/-]+): *(.+)$", texts, re.MULTILINE))
    paths = [folder / f"{name}.g722" for name, text in sorted(found.items()) if _sentence(text)]
    open_ = [path for path in paths if path.is_file() and zlib.crc32(path.name.encode()) % 2 == 0]
    clips = [Clip(found[path.stem], read_recording(path)) for path in _evenly(open_, most)]
    return [clip for clip in clips if len(clip.pcm) < LONGEST_S * STT_RATE * 2]


async def _spoken(most: int) -> list[Clip]:
    texts = [f"{text[0].upper()}{text[1:]}" for text in memories() if _sentence(text)]
    spoken = await speak([Question(text, "", "") for text in _evenly(texts, most)], load().tts.voice, 2)
    return [Clip(each.question.text, each.pcm) for each in spoken]


def _evenly(values: Sequence[_T], most: int) -> list[_T]:
    count = min(most, len(values))
    return [values[number * len(values) // count] for number in range(count)]
