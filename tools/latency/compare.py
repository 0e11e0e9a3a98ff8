"""`timmy latency compare`: what got faster or slower between two sets of turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tools.latency import display, statistics
from tools.latency.comparing import COMPARED, FASTER, SAME, SLOWER, Comparison, Row, decides_from, headline, interval
from tools.latency.comparing import compare as compared
from tools.latency.reading import Losses, trace_folder
from tools.latency.samples import Sampled, sample, tenths
from tools.latency.selection import trace_option
from tools.latency.sets import SetType, TurnSet
from tools.latency.statistics import CONFIDENCE, LEAST, Difference
from tools.show import json_option, print_json

_WIDTH = 120
"""Columns of a terminal from which on all quantiles stand in one table."""


@click.command()
@click.argument("a", type=SetType())
@click.argument("b", type=SetType())
@click.option(
    "--tolerance", default=10.0, show_default=True, type=click.FloatRange(0), metavar="MS",
    help="What counts as no difference.",
)  # fmt: skip
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the bootstrap.")
@trace_option
@json_option
@click.pass_context
def compare(
    context: click.Context, a: TurnSet, b: TurnSet, tolerance: float, seed: int, folder: Path | None, as_json: bool
) -> None:
    """Two sets of turns: which stages are faster or slower in B, by how much, and how sure that is.

    \b
    timmy latency compare before/trace after/trace
    timmy latency compare session=old session=new
    timmy latency compare until=10:00,last=100 since=10:00

    A set is a folder of trace files, or since=, until=, session=, last= (of the turns that --trace holds), or both,
    with commas between.

    Of each stage p50 and p95 are compared. A difference comes with the interval in which it lies; all that decide hold
    together with 95 %. SLOWER and FASTER: the interval leaves out 0. NO DIFFERENCE: it lies within the tolerance.
    UNDECIDED: neither can be said. A p95 is shown from 40 turns on and decides from 133 on.

    Exit status: 0 no stage is slower, 1 one is.
    """
    losses = {name: Losses() for name in ("a", "b")}
    found = {
        name: sample(each.of(display.told_turns(trace_folder(each.folder or folder), losses[name])), repr(each.name))
        for name, each in (("a", a), ("b", b))
    }
    comparison = compared(found["a"].times, found["b"].times, tolerance, seed)
    if as_json:
        sets = {
            name: {
                "set": each.name,
                "turns": found[name].n,
                "left_out": found[name].left_out,
                "losses": display.losses_record(losses[name]),
            }
            for name, each in (("a", a), ("b", b))
        }
        print_json({**sets, **record(comparison)})
    else:
        _print(comparison, found)
    context.exit(1 if comparison.stages(SLOWER) else 0)


def _print(comparison: Comparison, found: dict[str, Sampled]) -> None:
    click.echo(f"{headline(comparison)}\n")
    names = comparison.quantiles
    for columns in [names] if display.console().width >= _WIDTH else [(name,) for name in names]:
        titles = [title for name in columns for title in (f"{name} A", f"{name} B", f"{name} B-A")]
        rows = [(row.stage, *_cells(row, columns), _verdict(row, comparison)) for row in comparison.rows]
        display.print_rows(["stage", *titles, "verdict"], rows, right=titles)
        click.echo()
    for name, each in found.items():
        click.echo(f"{name.upper()}: {each.described()}")
    for line in _notes(comparison):
        click.echo(line)


def _cells(row: Row, quantiles: Sequence[str]) -> list[str]:
    cells = []
    for name in quantiles:
        difference = row.differences[name]
        cells += [tenths(difference.a), tenths(difference.b), f"{difference.ms:+z.1f} {interval(difference)}".strip()]
    return cells


def _verdict(row: Row, comparison: Comparison) -> str:
    if row.verdict == SAME:
        return f"{SAME} over {comparison.tolerance_ms:g} ms"
    decided = row.verdict in (SLOWER, FASTER) and row.telling != COMPARED[0]
    return f"{row.verdict} at {row.telling}" if decided else row.verdict


def _notes(comparison: Comparison) -> list[str]:
    """How the intervals were made, and what decides nothing."""
    if not comparison.judged:
        return [f"An interval takes {LEAST} turns in each set"]
    sure = f"{comparison.confidence:.2%} each, {CONFIDENCE:.0%} together"
    notes = [f"Intervals: {sure}; {statistics.RESAMPLES:,} resamples, seed {comparison.seed}"]
    for name in COMPARED:
        if name not in comparison.judged:
            least = decides_from(name, len(comparison.rows))
            notes.append(f"The verdicts are about {COMPARED[0]}: {name} decides from {least} turns in each set on")
    return notes


def record(comparison: Comparison) -> dict[str, Any]:
    """A comparison for programs, in ms."""
    return {
        "headline": headline(comparison),
        "slower": comparison.stages(SLOWER),
        "faster": comparison.stages(FASTER),
        "tolerance_ms": comparison.tolerance_ms,
        "confidence": CONFIDENCE,
        "interval_confidence": comparison.confidence,
        "judged": list(comparison.judged),
        "resamples": statistics.RESAMPLES,
        "seed": comparison.seed,
        "stages": [
            {
                "stage": row.stage,
                "verdict": row.verdict,
                **{name: _figures(row.differences.get(name)) for name in COMPARED},
            }
            for row in comparison.rows
        ],
    }


def _figures(difference: Difference | None) -> dict[str, Any] | None:
    """None where there are too few turns for the quantile; no interval where there are too few for one."""
    if difference is None:
        return None
    return {
        "a_ms": display.rounded(difference.a),
        "b_ms": display.rounded(difference.b),
        "difference_ms": display.rounded(difference.ms),
        "interval_ms": None if difference.interval is None else [round(end, 3) for end in difference.interval],
    }
