"""`timmy bench speaking`: whether answers sound without gaps and clicks where their clauses meet."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import click

from daemons import config
from ipc.client import Client
from ipc.ids import new_rid
from ipc.messages import Ask, Attach, Delta, Remember, Sound
from tools.bench.house import own_folders, running
from tools.bench.machine import machine
from tools.bench.questions import memories, resampled, to_speak_of
from tools.bench.seams import GAP_MS, Frame, Heard, Silence, listen
from tools.bench.stacks import REMEMBER_TTL_MS
from tools.bench.stt import comparable, words_of
from tools.recorded import LAST_SOUND_S
from tools.show import json_option, print_json, print_table

SETTINGS = {"TIMMY_DIALOG_MAX_ANSWER_TOKENS": "28"}
"""About 20 words in three clauses, so that 50 answers take four minutes."""

ANSWER_TTL_MS = 60_000
WARM_UP = "What can you do for me?"


@dataclass(slots=True)
class Answer:
    """What came of one question: `clauses` as they were given to the voice, and when; `frames` as they came from it."""

    question: str
    clauses: list[str] = field(default_factory=list)
    given_ns: list[int] = field(default_factory=list)
    rate: int = 0
    frames: list[Frame] = field(default_factory=list)
    complete: asyncio.Event = field(default_factory=asyncio.Event)


@click.command()
@click.option("--answers", default=50, show_default=True, type=click.IntRange(1, 1000), help="How many questions.")
@json_option
def speaking(answers: int, as_json: bool) -> None:
    """Type questions that are answered aloud over the wire; examine the sound where one clause follows the other.

    A gap is silence that lasts over 20 ms longer than the pause that the voice leaves there, or that is where there
    should be none, for a player that plays each frame when it is due, there, and the one before has sounded. A click is
    a step at the edge of a silence that stands out of the speech around it. A recogniser then reads what was heard.
    50 answers take about 4 minutes.

    \b
    timmy bench speaking --json
    """
    with own_folders(**SETTINGS), running():
        spoken = asyncio.run(_converse(list(itertools.islice(itertools.cycle(to_speak_of()), answers))))
    heard = [listen(each.frames, each.rate, each.clauses) for each in spoken]
    figures = figures_of(spoken, heard) | {"words": _read_again(spoken, heard), "machine": machine()}
    if as_json:
        print_json(figures)
    else:
        show(figures)


# --- the conversation -------------------------------------------------------------------------------------------


async def _converse(questions: Sequence[str]) -> list[Answer]:
    """Asks one after the other, each when the answer before has sounded. Raises TimmyError."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(name, "bench")) for name in ("memory", "dialog", "tts")]
        for client in clients:
            await client.wait_connected()
        memory, dialog, tts = clients
        for text in memories():
            await memory.request(Remember(heard=text, always=True), ttl_ms=REMEMBER_TTL_MS)
        ear = await stack.enter_async_context(listening(tts))
        await ear.ask(dialog, WARM_UP)
        return [await ear.ask(dialog, question) for question in questions]


class Ear:
    """The speaker of a conversation of its own, which takes down when each frame comes. Use `listening`."""

    def __init__(self) -> None:
        self._conversation = f"bench-{new_rid().hex()[-12:]}"
        self._answers: dict[bytes, Answer] = {}

    async def run(self, tts: Client) -> None:
        """Until cancelled. Raises what ends the request."""
        async for item, pcm in tts.open(Attach(conversation=self._conversation)):
            arrived_ns = time.monotonic_ns()
            assert isinstance(item, Sound)
            answer = self._answers.setdefault(item.turn, Answer(""))
            answer.rate = item.sample_rate
            if pcm:
                answer.frames.append(Frame(item.t_ns, arrived_ns, pcm))
            if item.last:
                answer.complete.set()

    async def ask(self, dialog: Client, question: str) -> Answer:
        """Returns when the answer has sounded. Raises TimmyError, and ClickException when its sound does not end."""
        rid = new_rid()
        answer = self._answers[rid] = Answer(question)
        request = Ask(conversation=self._conversation, text=question, speak=True)
        stream = dialog.open(request, rid=rid, ttl_ms=ANSWER_TTL_MS)
        async for item, _ in stream:
            assert isinstance(item, Delta)
            answer.clauses.append(item.text.strip())
            answer.given_ns.append(time.monotonic_ns())
        await stream.result()
        try:
            await asyncio.wait_for(answer.complete.wait(), LAST_SOUND_S)
        except TimeoutError:
            raise click.ClickException(f"the answer to {question!r} was spoken, and its end never came") from None
        return self._answers.pop(rid)


@asynccontextmanager
async def listening(tts: Client) -> AsyncIterator[Ear]:
    """An Ear that hears as long as the context lasts."""
    ear = Ear()
    task = asyncio.create_task(ear.run(tts))
    try:
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- what came of it --------------------------------------------------------------------------------------------


def figures_of(spoken: Sequence[Answer], heard: Sequence[Heard]) -> dict[str, Any]:
    """What `--json` prints of the sound. Raises ClickException when no clause followed another: then nothing has been
    examined."""
    seams = sum(each.pauses for each in heard)
    if not seams:
        raise click.ClickException("no answer had more than one clause: there is no seam to examine")
    silences = [(answer, one) for answer, each in zip(spoken, heard, strict=True) for one in each.silences]
    late_ms = [ms for each in heard for ms in each.late_ms]
    pauses = sorted({one.asked_ms for _, one in silences if one.asked_ms is not None})
    gaps = [(answer, one) for answer, one in silences if one.gap]
    return {
        "answers": len(spoken),
        "clauses": sum(len(answer.clauses) for answer in spoken),
        "seams": seams,
        "speech_s": sum(len(each.samples) / answer.rate for answer, each in zip(spoken, heard, strict=True)),
        "gaps": len(gaps),
        "gap_ms": GAP_MS,
        "gaps_found": [_gap(answer, one) for answer, one in gaps],
        "clicks": sum(one.click for _, one in silences),
        "pauses": {f"{ms}": _pause([one for _, one in silences if one.asked_ms == ms]) for ms in pauses},
        "longest_unasked_ms": max((one.unasked_ms for _, one in silences), default=0.0),
        "without_a_pause": sum(max(0, each.pauses - len(each.silences)) for each in heard),
        "waited": sum(one.waited_ms > 0 for _, one in silences),
        "frames": {"of": len(late_ms), "late": sum(ms > 0 for ms in late_ms), "latest_ms": max(late_ms)},
    }


def _gap(answer: Answer, gap: Silence) -> dict[str, Any]:
    """With when each clause was given to the voice, counted from the first sample: late words, or a late voice?"""
    first_ns = answer.frames[0].due_ns
    return {
        "question": answer.question,
        "at_s": gap.at_s,
        "asked_ms": gap.asked_ms,
        "unasked_ms": gap.unasked_ms,
        "clauses": answer.clauses,
        "given_s": [(ns - first_ns) / 1e9 for ns in answer.given_ns],
    }


def _pause(silences: Sequence[Silence]) -> dict[str, float]:
    return {
        "n": len(silences),
        "longest_ms": max(one.silent_ms for one in silences),
        "longest_quiet_ms": max(one.quiet_ms for one in silences),
    }


def _read_again(spoken: Sequence[Answer], heard: Sequence[Heard]) -> dict[str, Any]:
    """What the recogniser makes of the answers that can be compared word by word."""
    from daemons.engines.whisper import WhisperTranscriber

    settings = config.load().stt
    reader = WhisperTranscriber(settings.model, settings.device, settings.threads, settings.language)
    total = Lost()
    for answer, each in zip(spoken, heard, strict=True):
        if comparable(" ".join(answer.clauses)):
            text = reader.transcribe(resampled(each.samples, answer.rate)).text
            total = total.plus(lost(answer.clauses, text))
    return {"model": settings.model, **total._asdict()}


class Lost(NamedTuple):
    """Words of `answers` that were not heard as they were said: those beside a seam, and all others."""

    answers: int = 0
    at_seams: int = 0
    at_seams_of: int = 0
    elsewhere: int = 0
    elsewhere_of: int = 0

    def plus(self, other: Lost) -> Lost:
        return Lost(*(one + another for one, another in zip(self, other, strict=True)))


def lost(clauses: Sequence[str], text: str) -> Lost:
    """Of one answer, of which `text` was heard."""
    said = [words for clause in clauses if (words := words_of(clause))]
    ends = list(itertools.accumulate(map(len, said)))[:-1]
    beside = {place for end in ends for place in (end - 1, end)}
    words = list(itertools.chain(*said))
    same = difflib.SequenceMatcher(None, words, words_of(text), autojunk=False).get_matching_blocks()
    missing = set(range(len(words))) - {block.a + place for block in same for place in range(block.size)}
    at_seams = len(missing & beside)
    return Lost(1, at_seams, len(beside), len(missing) - at_seams, len(words) - len(beside))


# --- what is shown ----------------------------------------------------------------------------------------------


def show(figures: Mapping[str, Any]) -> None:
    """The figures, for a person."""
    print_table(
        ["pause asked for, ms", "pauses", "longest", "with what is too low to be heard"],
        [
            [asked, f"{row['n']}", f"{row['longest_ms']:.1f}", f"{row['longest_quiet_ms']:.1f}"]
            for asked, row in figures["pauses"].items()
        ],
    )
    click.echo(
        f"{figures['answers']} answers, {figures['clauses']} clauses, {figures['seams']} seams, "
        f"{figures['speech_s']:.0f} s of sound."
    )
    click.echo(
        f"Gaps over {figures['gap_ms']} ms: {figures['gaps']}; the most that a silence was longer than asked for: "
        f"{figures['longest_unasked_ms']:.1f} ms. Clicks: {figures['clicks']}."
    )
    for gap in figures["gaps_found"]:
        given = ", ".join(f"{s:.2f} s" for s in gap["given_s"])
        click.echo(
            f"  {gap['question']} {gap['unasked_ms']:.0f} ms too long at {gap['at_s']:.2f} s; clauses at {given}"
        )
    frames = figures["frames"]
    click.echo(
        f"Seams without a pause: {figures['without_a_pause']}. Silences in which there was nothing to play yet: "
        f"{figures['waited']}. {frames['late']} of {frames['of']} frames came late, the latest "
        f"{abs(frames['latest_ms']):.1f} ms {'after' if frames['latest_ms'] > 0 else 'before'} it was due."
    )
    words = figures["words"]
    click.echo(
        f"{words['model']} missed {words['at_seams']} of {words['at_seams_of']} words beside a seam and "
        f"{words['elsewhere']} of {words['elsewhere_of']} others, in {words['answers']} answers without numbers."
    )
