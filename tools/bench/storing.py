"""`timmy bench storing`: whether an answer comes later because what was said before is still to be remembered."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from daemons import config
from ipc.client import Client, Stream
from ipc.ids import new_rid
from ipc.messages import Ask, Say
from tools.bench.comparison import SEED, bootstrap, spread
from tools.bench.house import own_folders, running
from tools.bench.questions import memories
from tools.latency.reading import Losses, read_turns, trace_folder
from tools.show import json_option, print_json, print_table
from tools.voice import WireSpeaker

WITH, WITHOUT = "with storing", "without"

QUESTION = "What is the capital of France?"

SHORT_ANSWERS = {"TIMMY_DIALOG_MAX_ANSWER_TOKENS": "4", "TIMMY_DIALOG_HISTORY_TURNS": "0"}
"""The less is made before the first sound, the less its time varies; and each prompt is as long as the one before."""

TRIMMED = 0.2
"""Share of the differences that is left out at each end: other work on the machine makes some of them large."""

CONFIDENCE = 0.99
"""Of the interval. At 95 % one run of twenty would show an effect where there is none."""

LISTEN_S = 0.1
BREATH_S = 0.1
POLL_S = 0.005
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A question. `waiting`: something was still to be remembered when it was asked."""

    rid: bytes
    waiting: bool


Pair = Mapping[str, Asked]
"""The same question WITH and WITHOUT."""


@click.command()
@click.option("--pairs", default=140, show_default=True, type=click.IntRange(2, 1000), help="How often both are asked.")
@json_option
def storing(pairs: int, as_json: bool) -> None:
    """Ask a question while the words before it wait to be remembered, and when nothing waits; compare the times to the
    first audible sample.

    Before each question something is told in another conversation, and its answer is broken off: what was told lies
    in the journal. With storing, the question comes while it waits there; without, when it has been stored. In between
    the voice reads a sentence and is broken off, so that the question follows the same work at once in both: after half
    a second of rest alone a first sound comes some 25 ms later. Which of a pair comes first is drawn. A pair takes
    about 3 seconds.

    \b
    timmy bench storing --pairs 20 --json
    """
    with own_folders(**SHORT_ANSWERS):
        with running():
            asked = asyncio.run(_measure(pairs))
        sounded = {turn.rid: turn.first_audio_ms for turn in read_turns(trace_folder(None), Losses())}
    figures = compare(asked, {rid: ms for rid, ms in sounded.items() if ms is not None})
    if as_json:
        print_json(figures)
    else:
        show(figures)


def show(figures: Mapping[str, Any]) -> None:
    """The figures, for a person."""
    print_table(
        ["first audio, ms", "p50", "p90", "words waited"],
        [
            [name, f"{row['ms']['p50']:.0f}", f"{row['ms']['p90']:.0f}", f"{row['waiting']} of {figures['pairs']}"]
            for name, row in figures["asked"].items()
        ],
    )
    added = figures["added_ms"]
    click.echo(
        f"Storing adds {added['mean']:+.1f} ms (trimmed mean of {figures['pairs']} pairs; {CONFIDENCE * 100:.0f} % "
        f"interval {added['low']:+.1f} to {added['high']:+.1f}, bootstrap and order with seed {figures['seed']})."
    )


def compare(asked: Sequence[Pair], sounded_ms: Mapping[bytes, float]) -> dict[str, Any]:
    """What `--json` prints. `sounded_ms`: time to first audio of each question that was answered aloud; a pair of which
    one was not is left out. Raises ClickException when too few are left."""
    pairs = [pair for pair in asked if all(each.rid in sounded_ms for each in pair.values())]
    if len(pairs) < 2:
        raise click.ClickException("too few questions were answered aloud: see the logs of the daemons")
    times = {name: [sounded_ms[pair[name].rid] for pair in pairs] for name in (WITH, WITHOUT)}
    return {
        "asked": {
            name: {"ms": spread(values), "waiting": sum(pair[name].waiting for pair in pairs)}
            for name, values in times.items()
        },
        "added_ms": added([stored - plain for stored, plain in zip(times[WITH], times[WITHOUT], strict=True)]),
        "pairs": len(pairs),
        "seed": SEED,
    }


def added(differences: Sequence[float]) -> dict[str, float]:
    """Trimmed mean with its percentile bootstrap interval (Efron 1979). `from_zero`: how far from 0 the interval is, 0
    when 0 is in it."""
    low, high = bootstrap(differences, _trimmed_mean, confidence=CONFIDENCE)
    return {
        "mean": _trimmed_mean(differences),
        "low": low,
        "high": high,
        "half_width": (high - low) / 2,
        "from_zero": max(0.0, low, -high),
    }


def _trimmed_mean(values: Sequence[float]) -> float:
    out = int(TRIMMED * len(values))
    return statistics.fmean(sorted(values)[out : len(values) - out])


# --- the conversations ------------------------------------------------------------------------------------------


async def _measure(pairs: int) -> list[Pair]:
    chance, facts = random.Random(SEED), [f"Please remember that {text}" for text in memories()]
    async with AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(Client(name, "bench")) for name in ("dialog", "tts")}
        for client in clients.values():
            await client.wait_connected()
        speakers = {name: WireSpeaker(clients["tts"], name) for name in ("told", "asked")}
        for speaker in speakers.values():
            stack.callback(asyncio.create_task(speaker.run()).cancel)
        room = _Room(clients["dialog"], speakers)
        for name in (WITHOUT, WITH):  # the first ones find nothing in the caches
            await room.ask(name, facts[-1])
        asked: list[Pair] = []
        for number in range(pairs):
            order = chance.sample((WITH, WITHOUT), 2)
            told = [facts[(2 * number + place) % len(facts)] for place in range(2)]
            asked.append({name: await room.ask(name, fact) for name, fact in zip(order, told, strict=True)})
        return asked


class _Room:
    """Two conversations with one house: in one something is told, in the other a question follows."""

    def __init__(self, dialog: Client, speakers: Mapping[str, WireSpeaker]) -> None:
        self._dialog = dialog
        self._speakers = speakers
        self._journal = config.state_dir() / "dialog" / "to-remember.jsonl"

    async def ask(self, name: str, fact: str) -> Asked:
        """Asks QUESTION after something was told, WITH it in the journal or WITHOUT, until its answer sounds."""
        told = await self._heard("told", Ask(conversation="told", text=fact, speak=True))
        await self._until(stored=False)
        await asyncio.sleep(LISTEN_S)
        told.cancel("the next question is asked")
        if name == WITHOUT:
            await self._until(stored=True)
        read = await self._heard("told", Say(conversation="told", text=fact))
        await asyncio.sleep(LISTEN_S)
        read.cancel("the next question is asked")
        waiting = _holds_something(self._journal)
        asked = await self._heard("asked", Ask(conversation="asked", text=QUESTION, speak=True))
        asked.cancel("its answer was heard")
        await asyncio.sleep(BREATH_S)
        await self._until(stored=True)
        return Asked(asked.rid, waiting)

    async def _heard(self, conversation: str, body: Ask | Say) -> Stream:
        """Its request, once its first sound is there. Raises TimeoutError."""
        stream = self._dialog.open(body, rid=new_rid())
        async with asyncio.timeout(PATIENCE_S):
            while stream.rid not in self._speakers[conversation].replies:  # noqa: ASYNC110 - it knows of no event
                await asyncio.sleep(POLL_S)
        return stream

    async def _until(self, *, stored: bool) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while _holds_something(self._journal) is stored:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(POLL_S)


def _holds_something(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
