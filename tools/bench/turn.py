"""`timmy bench turn`: how long after the last voiced sample the answer begins to sound, and why, for this suite
and for the architecture that it follows."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import click
import msgspec

from daemons import config
from tools.bench.comparison import OURS, SEED, figures_of, ratios, spread, table
from tools.bench.house import own_folders, running
from tools.bench.machine import machine
from tools.bench.old import END_SILENCE_MS, PAUSE_WAIT_MS
from tools.bench.questions import Spoken, memories, persona, questions, speak
from tools.bench.stacks import STACKS, Outcome
from tools.bench.techniques import TECHNIQUES, first_turn, insights
from tools.latency.reading import Losses, read_turns, trace_folder
from tools.recorded import TurnResult
from tools.show import json_option, print_json, print_table

FIXED_WAITS_MS = {"end-of-turn silence": END_SILENCE_MS, "after pausing the listener": PAUSE_WAIT_MS}
"""Of the old architecture, as its write-up has them."""

NOTES = """\
Fixed waits of the old architecture, as in its write-up: {waits}. http-new opens a connection for each request,
http-pooled keeps them. Not counted for either: a hop to the model, which is in the preprocessor's process here, and
the opening of a sound device where there is none."""


def _names(context: click.Context, option: click.Parameter, value: str) -> list[str]:
    """Names of stacks, each once."""
    names = list(dict.fromkeys(value.split(",")))
    for name in names:
        if name not in STACKS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(STACKS)}", context, option)
    return names


@click.command()
@click.option("--stack", "names", callback=_names, default=",".join(STACKS), show_default=True, help="What to measure.")
@click.option(
    "--without",
    "left_out",
    type=click.Choice(list(TECHNIQUES)),
    multiple=True,
    help="Leave a technique out of timmy, to see what it brings.",
)
@click.option("--rounds", default=1, show_default=True, type=click.IntRange(1, 1000), help="How often each is asked.")
@json_option
def turn(names: list[str], left_out: tuple[str, ...], rounds: int, as_json: bool) -> None:
    """Say questions at speaking pace; report the time to the first audible sample, and its stages.

    The old architecture (three HTTP services with the same engines) is measured beside the five daemons: each question
    goes to one stack after the other. All have the same persona and the same 200 memories. One question to each warms
    up and is not counted. A round takes about 4 minutes, with timmy alone one.

    \b
    timmy bench turn --rounds 5 --json
    timmy bench turn --stack timmy --without early-work
    """
    if names != [OURS] and importlib.util.find_spec("requests") is None:
        raise click.ClickException("the HTTP stacks need the requests package: pip install requests")
    asked = questions() * rounds
    given = config.load().dialog.persona or persona()
    with ExitStack() as stack:
        settings = {variable: value for name in left_out for variable, value in TECHNIQUES[name].items()}
        stack.enter_context(own_folders(TIMMY_DIALOG_PERSONA=given, **settings))
        tts = config.load().tts
        spoken = asyncio.run(speak(questions(), tts.voice, tts.threads))
        if OURS in names:
            stack.enter_context(running())
        outcomes, first, engines = asyncio.run(_measure(names, spoken, rounds))
        traced = list(read_turns(trace_folder(None), Losses())) if OURS in names else []
    figures = {
        "stacks": {name: figures_of(name, outcomes[name], asked) | {"engines": engines[name]} for name in names},
        "ratios": ratios(outcomes),
        "n": len(asked),
        "rounds": rounds,
        "questions": len(spoken),
        "seed": SEED,
        "machine": machine(),
        "fixed_waits_ms": FIXED_WAITS_MS,
        "without": list(left_out),
    }
    if OURS in names:
        again = outcomes[OURS][len(spoken) - 1 :: len(spoken)]
        figures |= {"timmy": insights(outcomes[OURS], traced) | {"first_turn": first_turn(first[OURS], again)}}
    if names == [OURS]:
        figures |= summary([outcome.turn for outcome in outcomes[OURS] if outcome.turn])
    if as_json:
        print_json(figures)
    else:
        show(figures)


async def _measure(
    names: Sequence[str], spoken: Sequence[Spoken], rounds: int
) -> tuple[dict[str, list[Outcome]], dict[str, Outcome], dict[str, list[str]]]:
    """Outcomes, the very first one, and engines of each stack. One stack works at a time; the others wait, loaded."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    async with AsyncExitStack() as stack:
        stacks = {name: await stack.enter_async_context(STACKS[name]()) for name in names}
        for name, each in stacks.items():
            _tell(f"{name}: remembering")
            await each.remember(memories())
        # Not the question that follows: the same one again would find its prompt cached.
        first = {name: await each.ask(spoken[-1].pcm) for name, each in stacks.items()}
        for number in range(rounds):
            for place, question in enumerate(spoken):
                for name, each in stacks.items():
                    _tell(f"round {number + 1}, question {place + 1}: {name}")
                    outcomes[name].append(await each.ask(question.pcm))
        _tell("")
        return outcomes, first, {name: each.engines for name, each in stacks.items()}


def _tell(what: str) -> None:
    """What is going on, for somebody who watches."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{what}", nl=False, err=True)


def summary(results: Sequence[TurnResult]) -> dict[str, Any]:
    """Figures of all turns that sounded; `answered` says how many were answered without an apology."""
    sounded = [(r.report.first_audio_ms, r.report.stages) for r in results]
    complete = [(ms, msgspec.structs.asdict(stages)) for ms, stages in sounded if ms is not None and stages]
    if not complete:
        raise click.ClickException("no question got a spoken answer: see the logs of the daemons")
    names = complete[0][1]
    return {
        "turns": len(results),
        "answered": sum(r.report.outcome == "answered" for r in results),
        "speech_end_to_first_audio_ms": spread([ms for ms, _ in complete]),
        "stages_ms": {name: spread([stages[name] for _, stages in complete]) for name in names},
    }


def show(figures: Mapping[str, Any]) -> None:
    """The figures, for a person."""
    if figures["ratios"]:
        _print_comparison(figures)
    else:
        _print_ours(figures)


def _print_ours(figures: Mapping[str, Any]) -> None:
    rows = {"speech end to first audio": figures["speech_end_to_first_audio_ms"], **figures["stages_ms"]}
    print_table(["ms", "p50", "p90"], [[name, f"{row['p50']:.0f}", f"{row['p90']:.0f}"] for name, row in rows.items()])
    click.echo(f"{figures['turns']} turns, {figures['answered']} answered")
    _print_insights(figures["timmy"])


def _print_insights(found: Mapping[str, Any]) -> None:
    if found["after_confirmation_ms"]:
        after = found["after_confirmation_ms"]
        click.echo(f"after the end of the turn was confirmed: {after['p50']:.0f} ms (median), {after['p90']:.0f} (p90)")
    if found["transcript_after_candidate_ms"]:
        wait = found["transcript_after_candidate_ms"]
        click.echo(f"the words came after the candidate: {wait['p50']:.0f} ms (median), {wait['p90']:.0f} (p90)")
    if first := found["first_turn"]:
        click.echo(
            f"the first turn took {first['ms']:.0f} ms, the same question at the end of a round {first['later_ms']:.0f}"
        )
    cached = found["start_of_prompt_cached"]
    click.echo(f"the whole unchanging start of the prompt was cached in {cached['turns']} of {cached['of']} turns")


def _print_comparison(figures: Mapping[str, Any]) -> None:
    stacks = figures["stacks"]
    print_table(*table(stacks))
    click.echo()
    for name, row in figures["ratios"].items():
        click.echo(f"{name}: {row['ratio']:.1f} times (median; 95 % interval {row['low']:.1f} to {row['high']:.1f})")
    click.echo()
    print_table(
        ["", "answered", "right memory in the prompt", "memories", "prompt tokens, cached"],
        [
            [
                name,
                f"{row['answered']} of {row['turns']}",
                "{turns} of {of}".format(**row["right_memory_in_prompt"]),
                f"{row['right_memory_in_prompt']['memories_p50']:.0f}",
                "{p50:.0f}, {cached_p50:.0f}".format(**row["prompt_tokens"]),
            ]
            for name, row in stacks.items()
        ],
    )
    if "timmy" in figures:
        click.echo()
        _print_insights(figures["timmy"])
    click.echo()
    click.echo(
        f"{figures['questions']} questions, rounds: {figures['rounds']}. Stages are means, the ratio is of medians; "
        f"its interval is a bootstrap of pairs (seed {figures['seed']})."
    )
    waits = ", ".join(f"{ms} ms {what}" for what, ms in figures["fixed_waits_ms"].items())
    click.echo(NOTES.format(waits=waits))
