"""`timmy latency summary`: how long each stage takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tools.latency import display
from tools.latency.reading import Losses, trace_folder
from tools.latency.samples import Sampled, sample, tenths
from tools.latency.selection import Selection, selection_options, trace_option
from tools.latency.statistics import CONFIDENCE, QUANTILES, StageSummary, needed, order_interval, summarize
from tools.show import json_option, print_json

_TITLES = ("stage", "n", "mean", *QUANTILES, "max", "share", "slowest")


@click.command()
@selection_options
@trace_option
@json_option
def summary(last: int | None, since: float | None, session: str | None, folder: Path | None, as_json: bool) -> None:
    """How long each stage takes, in ms, and its share of the time from the end of speech to the first sound.

    \b
    timmy latency summary
    timmy latency summary --since 2h --json

    SHARE is what a stage alone has of that time over all turns, SLOWEST the same within the slowest tenth of them.
    What is done within the silence that ends a turn has no share: it costs nothing. A quantile is shown where at
    least two turns lie beyond it (p90 from 20 turns on, p95 from 40, p99 from 200).
    """
    losses = Losses()
    found = sample(Selection(last, since, session).of(display.told_turns(trace_folder(folder), losses)))
    rows = summarize(found.times, found.shares)
    if as_json:
        print_json(_record(found, rows, losses))
        return
    display.print_rows(_TITLES, [_cells(row) for row in rows], right=_TITLES[1:])
    click.echo(f"\n{found.described()}")


def _cells(row: StageSummary) -> tuple[str, ...]:
    times = (row.mean, *row.quantiles.values(), row.max)
    shares = (row.share, row.share_slowest)
    return (
        row.stage,
        str(row.n),
        *("-" if ms is None else tenths(ms) for ms in times),
        *(f"{share:.1%}" for share in shares),
    )


def _record(found: Sampled, rows: list[StageSummary], losses: Losses) -> dict[str, Any]:
    return {
        "turns": found.n,
        "left_out": found.left_out,
        "quantile_needs": {name: needed(q) for name, q in QUANTILES.items()},
        "interval_confidence": CONFIDENCE,
        "stages": {row.stage: _figures(row, found) for row in rows},
        "losses": display.losses_record(losses),
    }


def _figures(row: StageSummary, found: Sampled) -> dict[str, Any]:
    """Milliseconds; of a quantile's interval an end is null where so few turns do not bound it."""
    told = {name: q for name, q in QUANTILES.items() if row.quantiles[name] is not None}
    ends = {name: order_interval(found.times[row.stage], q) for name, q in told.items()}
    return {
        "n": row.n,
        "mean_ms": display.rounded(row.mean),
        **{f"{name}_ms": display.rounded(ms) for name, ms in row.quantiles.items()},
        "intervals_ms": {name: [display.rounded(end) for end in pair] for name, pair in ends.items()},
        "max_ms": display.rounded(row.max),
        "share": display.rounded(row.share),
        "share_slowest_tenth": display.rounded(row.share_slowest),
    }
