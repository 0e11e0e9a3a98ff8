"""`timmy bench truth`: whether the trace says the same as a recording of the conversation.

Questions are played into the microphone of a virtual sound card, the daemons answer at its speaker, and a recorder
takes down both with one clock. The time from the last voiced sample of a question to the first audible sample of
its answer is found in the recording alone (recorder.py), and in the trace alone (tools/latency).
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
import wave
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipc.audio import STT_RATE
from ipc.client import Client, Stream
from ipc.messages import HOME, Follow, TurnReport
from tools.bench.house import own_folders, running
from tools.bench.questions import Question, speak
from tools.bench.recorder import exchanges, voiced
from tools.bench.soundcard import RECORD_RATE, Recording, SoundCard, SoundCardError
from tools.latency.reading import Losses, read_turns, trace_folder
from tools.show import json_option, print_json, print_table

if TYPE_CHECKING:
    from tools.bench.recorder import Channel

QUESTIONS = (
    "What is the capital of France?",
    "How far is the moon?",
    "What do cats eat?",
    "Who wrote Hamlet?",
    "What colour is the sky?",
)
SHORT_ANSWERS = {"TIMMY_DIALOG_MAX_ANSWER_TOKENS": "12", "TIMMY_DIALOG_HISTORY_TURNS": "0"}

OFFSET_TURNS = 5
"""Asked first, and not compared: what both times of the trace are late or early by the way through the card."""

SETTLE_S = 15.0
"""When a recorder comes, the sound server works in smaller blocks, and needs a while to tell their times well."""

BREATH_S = (0.4, 0.5)
"""Between an answer and the next question, so that questions begin anywhere in a frame of the daemons."""

ANSWER_S = 30.0
"""A question without a report for this long is not answered."""

LOUD = 1 / 30
"""A question is cut after its last sample this high: 10 dB above what is voiced, so that all agree on its end."""

FADE = 48
"""Samples at STT_RATE in which it then fades, so that it does not click: 3 ms."""

TARGET_MEDIAN_MS, TARGET_P95_MS = 5.0, 20.0
BIN_MS = 2
BAR = 40


@dataclass(frozen=True, slots=True)
class Wait:
    """From the end of a question to its answer, in ms, by both; None where there is no answer."""

    recording_ms: float | None
    trace_ms: float | None

    @property
    def difference_ms(self) -> float | None:
        """How much more the trace says."""
        if self.recording_ms is None or self.trace_ms is None:
            return None
        return self.trace_ms - self.recording_ms


@click.command()
@click.option("--turns", default=100, show_default=True, type=click.IntRange(2, 1000), help="Questions to compare.")
@json_option
def truth(turns: int, as_json: bool) -> None:
    """Compare the first-audio latency of the trace with a recording of the same conversation.

    Both sides of a virtual sound card are recorded with one clock. Of each turn the recording tells by the height of
    its samples alone when the question ended and when the answer began. What the trace always differs by (the way
    through the card) is taken from five turns of their own and subtracted. A turn takes about five seconds.

    \b
    timmy bench truth --turns 20 --json
    """
    figures = compare(measure(OFFSET_TURNS + turns), OFFSET_TURNS)
    if as_json:
        print_json(figures)
    else:
        show(figures)


def measure(turns: int) -> list[Wait]:
    """Asks so many questions of daemons of its own. Raises SoundCardError where there can be no virtual sound card, and
    when the recording does not hold what was played."""
    with SoundCard() as card, own_folders(**card.variables, **SHORT_ANSWERS):
        with tempfile.TemporaryDirectory(prefix="questions-") as folder, running():
            files = _question_files(Path(folder))
            with card.record() as recording:
                time.sleep(SETTLE_S)
                asked = asyncio.run(_ask(card, files, turns))
        traced = {turn.rid: turn.first_audio_ms for turn in read_turns(trace_folder(None), Losses())}
    return [
        Wait(recorded, traced.get(rid) if rid else None)
        for recorded, rid in zip(_recorded(recording, turns), asked, strict=True)
    ]


def compare(waits: Sequence[Wait], offset_turns: int) -> dict[str, Any]:
    """What `--json` prints. The offset is the median of the first `offset_turns`, which are not compared."""
    offset = _differences(waits[:offset_turns])
    compared = waits[offset_turns:]
    both = [wait for wait in compared if wait.difference_ms is not None]
    if not offset or len(both) < 2:
        raise click.ClickException("too few questions were answered aloud for a comparison")
    offset_ms = statistics.median(offset)
    away = [difference - offset_ms for difference in _differences(both)]
    size = _spread([abs(ms) for ms in away])
    one_sided = sum((wait.recording_ms is None) != (wait.trace_ms is None) for wait in compared)
    agrees = size["p50"] <= TARGET_MEDIAN_MS and size["p95"] <= TARGET_P95_MS and not one_sided
    return {
        "turns": len(compared),
        "compared": len(both),
        "in_one_only": one_sided,
        "offset_ms": offset_ms,
        "offset_turns": len(offset),
        "recording_ms": _spread([wait.recording_ms for wait in both if wait.recording_ms is not None]),
        "trace_ms": _spread([wait.trace_ms for wait in both if wait.trace_ms is not None]),
        "difference_ms": size,
        "target_ms": {"p50": TARGET_MEDIAN_MS, "p95": TARGET_P95_MS},
        "agrees": agrees,
        "differences_ms": away,
    }


def _differences(waits: Sequence[Wait]) -> list[float]:
    return [wait.difference_ms for wait in waits if wait.difference_ms is not None]


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Quantiles as numpy's default."""
    return {
        "p50": statistics.median(values),
        "p95": statistics.quantiles(values, n=20, method="inclusive")[18],
        "max": max(values),
    }


# --- the conversation -------------------------------------------------------------------------------------------


def _question_files(folder: Path) -> list[Path]:
    import numpy as np

    files = []
    spoken = asyncio.run(speak([Question(text, "", "") for text in QUESTIONS], "joe", 2))
    for number, question in enumerate(spoken):
        files.append(folder / f"{number}.wav")
        with wave.open(str(files[-1]), "wb") as file:
            file.setparams((1, 2, STT_RATE, 0, "NONE", ""))
            file.writeframes(cut_off(np.frombuffer(question.pcm, "<i2")).tobytes())
    return files


def cut_off(question: Channel) -> Channel:
    """The question without the decay of its voice: where exactly that ends is a matter of taste."""
    import numpy as np

    end = voiced(question, LOUD)
    tail = question[end : end + FADE] * np.linspace(1, 0, FADE)[: len(question) - end]
    return np.concatenate([question[:end], tail.astype("<i2")])


async def _ask(card: SoundCard, files: Sequence[Path], turns: int) -> list[bytes | None]:
    """Plays the questions one by one; the id of each one's turn, None where there was none."""
    asked: list[bytes | None] = []
    async with Client("dialog", "bench") as dialog:
        await dialog.wait_connected()
        for number in range(turns):
            happenings = dialog.open(Follow(conversation=HOME))
            await asyncio.to_thread(card.play, files[number % len(files)])
            asked.append(await _reported(happenings))
            happenings.cancel("the question is answered")
            await asyncio.sleep(random.uniform(*BREATH_S))
    return asked


async def _reported(happenings: Stream) -> bytes | None:
    with suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            async for item, _ in happenings:
                if isinstance(item, TurnReport):
                    return item.turn
    return None


def _recorded(recording: Recording, turns: int) -> list[float | None]:
    import numpy as np

    questions, answers = (np.frombuffer(side, "<i2") for side in (recording.microphone, recording.speaker))
    found = exchanges(questions, answers, RECORD_RATE)
    if len(found) != turns:
        raise SoundCardError(f"{turns} questions were played, {len(found)} are in the recording: the card stuttered")
    return [None if each.waited_s is None else each.waited_s * 1000 for each in found]


# --- what is shown ----------------------------------------------------------------------------------------------


def show(figures: Mapping[str, Any]) -> None:
    """The figures, for a person."""
    rows = {
        "wait, by the recording": figures["recording_ms"],
        "wait, by the trace": figures["trace_ms"],
        "difference, without its sign": figures["difference_ms"],
    }
    cells = [[name, f"{row['p50']:.1f}", f"{row['p95']:.1f}", f"{row['max']:.1f}"] for name, row in rows.items()]
    target = figures["target_ms"]
    print_table(["ms", "p50", "p95", "max"], [*cells, ["target", f"{target['p50']:.0f}", f"{target['p95']:.0f}", ""]])
    offset_ms = figures["offset_ms"]
    more = "more" if offset_ms > 0 else "less"
    click.echo(
        f"\n{figures['compared']} of {figures['turns']} turns compared; {figures['in_one_only']} answers are in one of"
        f" both only.\nThe trace always says {abs(offset_ms):.1f} ms {more}: the median of {figures['offset_turns']}"
        " turns before these, taken off here.\n"
    )
    for line in _histogram(figures["differences_ms"]):
        click.echo(line)
    click.echo("\nRecording and trace agree." if figures["agrees"] else "\nRecording and trace do NOT agree.")


def _histogram(values: Sequence[float]) -> Iterator[str]:
    """One line for each BIN_MS, from the least to the greatest."""
    bins = [round(value // BIN_MS) for value in values]
    highest = max(map(bins.count, bins))
    yield "trace - recording, ms"
    for place in range(min(bins), max(bins) + 1):
        count = bins.count(place)
        bar = f"{'█' * max(1, round(count / highest * BAR))} {count}" if count else ""
        yield f"{place * BIN_MS:+5d} to {(place + 1) * BIN_MS:+d}".ljust(14) + bar
