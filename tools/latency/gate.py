"""`timmy latency gate`: budgets for the p95 of each stage, for continuous integration."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ipc.errors import EXIT_CONFIG, EXIT_NO_INPUT, EXIT_TEMPORARY, TimmyError
from tools.latency import display
from tools.latency.reading import Losses, trace_folder
from tools.latency.samples import sample, tenths
from tools.latency.selection import Selection, selection_options, trace_option
from tools.latency.stages import NAMES, TOTAL
from tools.latency.statistics import CONFIDENCE, QUANTILES, needed, order_interval, quantile
from tools.show import json_option, print_json

WITHIN, OVER, UNTOLD = "within", "over", "too few turns"

_TABLE = "p95_ms"
_Q = QUANTILES["p95"]


class BudgetError(TimmyError):
    """The file of budgets is not right."""

    exit_status = EXIT_CONFIG


class NoBudget(BudgetError):
    """It cannot be read."""

    exit_status = EXIT_NO_INPUT


@dataclass(frozen=True, slots=True)
class Judged:
    """A stage and its budget, in ms."""

    stage: str
    n: int
    p95: float | None
    """None: so few turns do not tell it."""
    interval: tuple[float | None, float | None]
    """Where the true p95 lies; None: no bound on that side."""
    budget: float
    result: str


def judge(stage: str, values: Sequence[float], budget: float) -> Judged:
    """OVER when the p95 is over the budget; where there are too few turns to tell it, when it surely is."""
    found = quantile(values, _Q) if len(values) >= needed(_Q) else None
    interval = order_interval(values, _Q)
    floor = found if found is not None else interval[0]
    result = OVER if floor is not None and floor > budget else UNTOLD if found is None else WITHIN
    return Judged(stage, len(values), found, interval, budget, result)


def read_budgets(path: Path) -> dict[str, float]:
    """Stage to the p95 it may have, in ms. Raises BudgetError, saying what is wrong and what is right."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NoBudget(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BudgetError(f"{path}: not TOML: {error}") from None
    for name in content:
        if name != _TABLE:
            raise BudgetError(f"{path}: there is no [{name}]: budgets stand under [{_TABLE}]")
    budgets = content.get(_TABLE)
    if not isinstance(budgets, Mapping) or not budgets:
        raise BudgetError(f"{path}: no budgets: write [{_TABLE}] and below it lines like `{TOTAL} = 1200`")
    return {stage: _budget(path, stage, value) for stage, value in budgets.items()}


def _budget(path: Path, stage: str, value: Any) -> float:
    known = (*NAMES, TOTAL)
    if stage not in known:
        near = difflib.get_close_matches(stage, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the stages are {', '.join(known)}"
        raise BudgetError(f"{path}: {_TABLE}.{stage}: there is no such stage; {hint}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise BudgetError(f"{path}: {_TABLE}.{stage} = {value}: a budget is a number of ms over 0")
    return float(value)


@click.command()
@click.option(
    "--budget", "path", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="TOML: under [p95_ms] a line for each stage, like `recall = 30`.",
)  # fmt: skip
@selection_options
@trace_option
@json_option
@click.pass_context
def gate(
    context: click.Context,
    path: Path,
    last: int | None,
    since: float | None,
    session: str | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Fail when the p95 of a stage is over its budget.

    \b
    timmy latency gate --budget budget.toml --last 100

    Exit status: 0 all within, 1 one is over, 75 none is over, but there are too few turns to tell (40 are needed).
    """
    budgets = read_budgets(path)
    losses = Losses()
    found = sample(Selection(last, since, session).of(display.told_turns(trace_folder(folder), losses)))
    judged = [judge(stage, found.times[stage], budget) for stage, budget in budgets.items()]
    if as_json:
        print_json(
            {"turns": found.n, "left_out": found.left_out, **_record(judged), "losses": display.losses_record(losses)}
        )
    else:
        titles = ("stage", "n", "p95", f"{CONFIDENCE:.0%} interval", "budget", "result")
        display.print_rows(titles, [_cells(each) for each in judged], right=titles[1:-1])
        click.echo(f"\n{found.described()}")
    context.exit(_status(judged))


def _status(judged: Sequence[Judged]) -> int:
    results = {each.result for each in judged}
    return 1 if OVER in results else EXIT_TEMPORARY if UNTOLD in results else 0


def _cells(each: Judged) -> tuple[str, ...]:
    low, high = ("-" if end is None else tenths(end) for end in each.interval)
    p95 = "-" if each.p95 is None else tenths(each.p95)
    return each.stage, str(each.n), p95, f"[{low}, {high}]", f"{each.budget:g}", _told(each)


def _told(each: Judged) -> str:
    if each.result == UNTOLD:
        return f"n too small: p95 needs {needed(_Q)} turns"
    if each.p95 is None:
        return "over, although n is too small for a p95"
    return f"{each.result}, by {tenths(abs(each.p95 - each.budget))} ms"


def _record(judged: Sequence[Judged]) -> dict[str, Any]:
    return {
        "interval_confidence": CONFIDENCE,
        "stages": {
            each.stage: {
                "n": each.n,
                "p95_ms": display.rounded(each.p95),
                "interval_ms": [display.rounded(end) for end in each.interval],
                "budget_ms": each.budget,
                "result": each.result,
            }
            for each in judged
        },
    }
