"""`timmy bench settings`: what each technique brings, and what each setting costs and gives."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from daemons import catalogue, config
from ipc.errors import CallError
from tools.bench.comparison import OURS, SEED, bootstrap, figures_of
from tools.bench.house import own_folders, running
from tools.bench.machine import machine
from tools.bench.questions import Question, Spoken, memories, persona, questions, speak
from tools.bench.stacks import STACKS, Outcome
from tools.bench.stt import recordings, word_errors, words_of
from tools.bench.techniques import TECHNIQUES
from tools.show import json_option, print_json, print_table

AS_IT_IS = "as it is"

WHISPERS = ("tiny.en", "base")

VARIANTS: Mapping[str, Mapping[str, str]] = {
    AS_IT_IS: {},
    **{f"without {name}": settings for name, settings in TECHNIQUES.items()},
    **{f"at most {n} memories": {"TIMMY_DIALOG_RECALL_LIMIT": str(n)} for n in (1, 8, 20)},
    "Whisper base": {"TIMMY_STT_MODEL": "base"},
}
"""What is changed for each, in variables of the daemons' environment."""


@click.command()
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(1, 100), help="How often each is asked.")
@json_option
def settings(rounds: int, as_json: bool) -> None:
    """Say the questions of `timmy bench turn` to the daemons as they are, without each technique, and with other
    settings; report the time to the first audible sample, and what a setting gives for it.

    The variants take turns, each with daemons of its own. A round takes about twelve minutes.

    \b
    timmy bench settings --rounds 4 --json
    """
    for name in WHISPERS:
        try:
            catalogue.resolve("stt", name)
        except CallError as error:
            raise click.ClickException(str(error)) from None
    tts = config.load().tts
    spoken = asyncio.run(speak(questions(), tts.voice, tts.threads))
    outcomes: dict[str, list[Outcome]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, changed in VARIANTS.items():
            outcomes[name] += _asked(changed, spoken)
    asked = [each.question for each in spoken] * rounds
    figures = {
        "variants": {name: row(outcomes[name], outcomes[AS_IT_IS], asked) for name in VARIANTS},
        "words": words(),
        "n": len(asked),
        "rounds": rounds,
        "seed": SEED,
        "machine": machine(),
    }
    if as_json:
        print_json(figures)
    else:
        show(figures)


def show(figures: Mapping[str, Any]) -> None:
    """The figures, for a person."""
    print_table(
        ["", "first audio ms", "p90", "more than as it is", "right memory in the prompt", "prompt tokens, cached"],
        [
            [
                name,
                f"{each['first_audio_ms']['p50']:.0f}",
                f"{each['first_audio_ms']['p90']:.0f}",
                _interval(each["more_ms"]) if name != AS_IT_IS else "",
                "{turns} of {of}".format(**each["right_memory_in_prompt"]),
                "{p50:.0f}, {cached_p50:.0f}".format(**each["prompt_tokens"]),
            ]
            for name, each in figures["variants"].items()
        ],
    )
    click.echo()
    print_table(
        ["Whisper", "word errors", "ms a sentence"],
        [[name, f"{each['percent']:.1f} %", f"{each['ms']:.0f}"] for name, each in figures["words"]["models"].items()],
    )
    click.echo(f"{figures['words']['clips']} recordings: {figures['words']['source']}.")
    click.echo(
        f"{figures['n']} spoken questions each, by turns. More: median of the differences, question by question, with "
        f"a 95 % bootstrap interval (seed {figures['seed']})."
    )


def _interval(more: Mapping[str, float]) -> str:
    return f"{more['p50']:+.0f} ({more['low']:+.0f} to {more['high']:+.0f})"


def row(outcomes: Sequence[Outcome], usual: Sequence[Outcome], asked: Sequence[Question]) -> dict[str, Any]:
    """Figures of one variant; `usual` are the outcomes of the same questions as it is."""
    found = figures_of(OURS, outcomes, asked)
    pairs = zip(outcomes, usual, strict=True)
    more = [one.total_ms - other.total_ms for one, other in pairs if one.total_ms and other.total_ms]
    return {
        "first_audio_ms": found["speech_end_to_first_audio_ms"],
        "more_ms": median_interval(more),
        "right_memory_in_prompt": found["right_memory_in_prompt"],
        "prompt_tokens": found["prompt_tokens"],
    }


def median_interval(values: Sequence[float]) -> dict[str, float]:
    """The median with its percentile bootstrap interval (Efron 1979). Raises ClickException without values."""
    if not values:
        raise click.ClickException("no question sounded with both")
    low, high = bootstrap(values, statistics.median)
    return {"p50": statistics.median(values), "low": low, "high": high}


def _asked(changed: Mapping[str, str], spoken: Sequence[Spoken]) -> list[Outcome]:
    """What came of each question in a house of its own. The first one asked warms up and is not counted."""
    with own_folders(TIMMY_DIALOG_PERSONA=persona(), **changed), running():
        return asyncio.run(_ask(spoken))


async def _ask(spoken: Sequence[Spoken]) -> list[Outcome]:
    async with STACKS[OURS]() as house:
        await house.remember(memories())
        await house.ask(spoken[-1].pcm)
        return [await house.ask(each.pcm) for each in spoken]


def words() -> dict[str, Any]:
    """Word errors and time of each Whisper, by turns, on the sentences of `timmy bench stt`."""
    from daemons.engines.whisper import WhisperTranscriber

    source, said = recordings(100)
    stt = config.load().stt
    readers = {name: WhisperTranscriber(name, stt.device, stt.threads, stt.language) for name in WHISPERS}
    errors, took = dict.fromkeys(readers, 0), {name: list[float]() for name in readers}
    for clip in said:
        for name, reader in readers.items():
            began = time.perf_counter()
            text = reader.transcribe(clip.pcm).text
            took[name].append((time.perf_counter() - began) * 1000)
            errors[name] += word_errors(words_of(clip.text), words_of(text))
    total = sum(len(words_of(clip.text)) for clip in said)
    models = {name: {"percent": errors[name] / total * 100, "ms": statistics.median(took[name])} for name in readers}
    return {"models": models, "clips": len(said), "words": total, "source": source}
