"""`timmy bench turn`: how long after the last voiced sample the answer begins to sound, and why."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click
import msgspec

from ipc.audio import read_wav
from tools.bench.house import own_house
from tools.recorded import TurnResult, open_talk
from tools.show import json_option, print_json, print_table

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 1000), help="How often each is asked.")
@json_option
def turn(rounds: int, as_json: bool) -> None:
    """Say the bundled questions at speaking pace; report the time to the first audible sample.

    The first round warms up and is not counted.

    \b
    timmy bench turn --rounds 10 --json
    """
    questions = [read_wav(path) for path in sorted(EXAMPLES.glob("*.wav"))]
    with own_house():
        results = asyncio.run(_ask(questions, rounds))
    figures = summary(results)
    if as_json:
        print_json(figures)
        return
    print_table(
        ["ms", "p50", "p90"],
        [
            [name, f"{row['p50']:.0f}", f"{row['p90']:.0f}"]
            for name, row in {
                "speech end to first audio": figures["speech_end_to_first_audio_ms"],
                **figures["stages_ms"],
            }.items()
        ],
    )
    click.echo(f"{figures['turns']} turns, {figures['answered']} answered")


async def _ask(questions: Sequence[bytes], rounds: int) -> list[TurnResult]:
    results: list[TurnResult] = []
    async with AsyncExitStack() as stack:
        talk = await open_talk(stack, None)
        for number in range(rounds + 1):
            for pcm in questions:
                turns = [result async for result in talk.play(pcm)]
                if number:
                    results += turns
    return results


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


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and 90th percentile (inclusive method, as numpy's default)."""
    if len(values) == 1:
        return {"p50": values[0], "p90": values[0]}
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    return {"p50": statistics.median(values), "p90": deciles[8]}
