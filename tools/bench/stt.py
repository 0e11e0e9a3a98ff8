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
from ipc.messages import TurnCandidate, TurnFinal
from tools.bench import noise
from tools.bench.comparison import bootstrap, spread
from tools.bench.endpoint import rehearse, transcripts
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
    "--clips", default=100, show_default=True, type=click.IntRange(2, 1000), help="At most so many recordings."
)
@click.option(
    "--noises", default=100, show_default=True, type=click.IntRange(0, 1000), help="Clips in which nobody speaks."
)
@json_option
def stt(clips: int, noises: int, as_json: bool) -> None:
    """Transcribe sentences with a context as short as the speech, as the daemon does, and with Whisper's own 30 s.

    The sentences are recorded prompts of the asterisk packages where they are installed, else they are spoken by the
    assistant's voice. Both contexts take turns. A word error is a word that is wrong, missing or too many; a short
    context is given up for the long one where its result looks doubtful. Then noise, hum, music, clicks and silence go
    through detector, segmenter and transcriber as in the daemon, which should find no words in them.

    \b
    timmy bench stt --clips 100 --json
    """
    source, said = recordings(clips)
    words = sum(len(words_of(clip.text)) for clip in said)
    figures = {"source": source, "clips": len(said), "words": words, **measure(said, load().stt)}
    figures["invented"] = invented(noises)
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
    more = figures["more_word_errors_points"]
    click.echo(
        f"The short context makes {more['points']:+.2f} points more word errors (95 % interval {more['low']:+.2f} to "
        f"{more['high']:+.2f})."
    )
    model = figures["contexts"]["short"]["model"]
    click.echo(f"{figures['clips']} recordings, {figures['words']} words: {figures['source']}, {model}.")
    if figures["source"] != PERSON:
        click.echo(PROMPTS_HINT)
    nobody = figures["invented"]
    click.echo(f"Words were found in {nobody['with_words']} of {nobody['clips']} clips in which nobody speaks.")
    for found in nobody["found"]:
        click.echo(f"  {found}")


def measure(said: Sequence[Clip], settings: Stt) -> dict[str, Any]:
    """Figures by context, and their difference. Each clip is transcribed with both, one after the other."""
    from daemons.engines.whisper import FULL_CONTEXT_S, SHORT_CONTEXT_S, WhisperTranscriber

    readers = {
        name: WhisperTranscriber(settings.model, settings.device, settings.threads, settings.language, context_s)
        for name, context_s in (("short", SHORT_CONTEXT_S), ("30 s", FULL_CONTEXT_S))
    }
    times: dict[str, list[float]] = {name: [] for name in readers}
    errors: dict[str, list[int]] = {name: [] for name in readers}
    for reader in readers.values():
        reader.transcribe(said[0].pcm)  # the first one takes longer
        reader.second_readings = 0
    for clip in said:
        for name, reader in readers.items():
            began = time.perf_counter()
            text = reader.transcribe(clip.pcm).text
            times[name].append((time.perf_counter() - began) * 1000)
            errors[name].append(word_errors(words_of(clip.text), words_of(text)))
    lengths = [len(words_of(clip.text)) for clip in said]
    words = sum(lengths)
    contexts = {
        name: {
            "model": f"{reader.info.model} on {reader.info.device}",
            "word_errors_percent": sum(errors[name]) / words * 100,
            "ms": spread(times[name]),
            "second_readings_percent": reader.second_readings / len(said) * 100,
        }
        for name, reader in readers.items()
    }
    more = [short - full for short, full in zip(errors["short"], errors["30 s"], strict=True)]
    return {"contexts": contexts, "more_word_errors_points": difference(more, lengths)}


def difference(more: Sequence[int], lengths: Sequence[int]) -> dict[str, float]:
    """In points of the word error rate, with its percentile bootstrap interval (Efron 1979; whole clips drawn anew).
    `more`: errors more in each clip; `lengths`: its words."""
    clips = list(zip(more, lengths, strict=True))
    low, high = bootstrap(clips, _points)
    return {"points": _points(clips), "low": low, "high": high}


def _points(clips: Sequence[tuple[int, int]]) -> float:
    return sum(more for more, _ in clips) / sum(words for _, words in clips) * 100


def invented(count: int) -> dict[str, Any]:
    """In how many clips without speech a candidate or a final has words, and which."""
    read = transcripts()
    found = []
    for name, pcm in noise.clips(count):
        told = [
            each for each in rehearse(pcm, load().stt.endpointing, read) if isinstance(each, TurnCandidate | TurnFinal)
        ]
        if told:
            found.append(f"{name}: {told[-1].text}")
    return {"clips": count, "with_words": len(found), "found": found}


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


def comparable(text: str) -> bool:
    """Whether it can be compared word by word."""
    words = words_of(text)
    return len(words) >= WORDS_MIN and not set(NUMBERS.split()) & set(words) and not re.search(r"[\[\]\d]", text)


# --- what is said -------------------------------------------------------------------------------------------------


def prompts(folder: Path, texts: str, most: int) -> list[Clip]:
    """Recordings of that folder, evenly over the names of those that can be compared. `texts` has a line for each,
    NAME: TEXT. The half of them whose file names have an odd CRC-32 is kept for acceptance."""
    from daemons.engines.recording import read_recording

    found: Mapping[str, str] = dict(re.findall(r"^([\w/-]+): *(.+)$", texts, re.MULTILINE))
    paths = {folder / f"{name}.g722": text for name, text in sorted(found.items()) if comparable(text)}
    open_ = [path for path in paths if path.is_file() and zlib.crc32(path.name.encode()) % 2 == 0]
    clips = [Clip(paths[path], read_recording(path)) for path in _evenly(open_, most)]
    return [clip for clip in clips if len(clip.pcm) < LONGEST_S * STT_RATE * 2]


def recordings(most: int) -> tuple[str, list[Clip]]:
    """At most so many sentences, and whose voice it is: a person's where recordings are installed."""
    if PROMPTS.is_dir() and PROMPT_TEXTS.is_file():
        return PERSON, prompts(PROMPTS, gzip.decompress(PROMPT_TEXTS.read_bytes()).decode("utf-8"), most)
    return "the assistant's voice", asyncio.run(_spoken(most))


async def _spoken(most: int) -> list[Clip]:
    texts = [f"{text[0].upper()}{text[1:]}" for text in memories() if comparable(text)]
    spoken = await speak([Question(text, "", "") for text in _evenly(texts, most)], load().tts.voice, 2)
    return [Clip(each.question.text, each.pcm) for each in spoken]


def _evenly(values: Sequence[_T], most: int) -> list[_T]:
    count = min(most, len(values))
    return [values[number * len(values) // count] for number in range(count)]
