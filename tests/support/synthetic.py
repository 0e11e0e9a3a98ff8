"""Milliseconds of synthetic turns whose truth is known, for the statistics of latency.

`python -m tests.support.synthetic` prints the table of docs/latency.md, "Comparing".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tools.latency.comparing import FASTER, SLOWER, compare
from tools.latency.stages import NAMES, TOTAL
from tools.latency.statistics import QUANTILES, Array, differences, needed

Make = Callable[[np.random.Generator, tuple[int, int]], Array]
"""Turns of a shape: a row a turn, a column an experiment or a stage."""


def correlated(noise: Array, resemblance: float) -> Array:
    """Each row (a turn) resembles the one before: a first-order autoregression of standard normal noise."""
    rows = noise.copy()
    for at in range(1, len(rows)):
        rows[at] = resemblance * rows[at - 1] + math.sqrt(1 - resemblance**2) * noise[at]
    return rows


LIKE_BEFORE = "each like the one before"
KINDS: dict[str, Make] = {
    "lognormal": lambda generator, size: 100 * generator.lognormal(0, 0.3, size),
    "heavy tail": lambda generator, size: 50 * (1 + generator.pareto(1.5, size)),
    "quantised, with ties": lambda generator, size: generator.normal(100, 20, size).round(-1),
    "bimodal": lambda generator, size: generator.normal(100, 10, size) + 100 * (generator.random(size) < 0.3),
    "odd turns": lambda generator, size: (
        generator.normal(100, 5, size) + generator.exponential(300, size) * (generator.random(size) < 0.05)
    ),
    LIKE_BEFORE: lambda generator, size: 100 * np.exp(0.3 * correlated(generator.normal(0, 1, size), 0.6)),
}


def _columns(turns: Array) -> dict[str, list[float]]:
    return {str(at): column.tolist() for at, column in enumerate(turns.T)}


def missed(kind: str, n: int, experiments: int) -> dict[str, int]:
    """By quantile, how many of so many intervals of 95 % do not hold the truth: B is 15 ms slower than A."""
    generator = np.random.default_rng(n)
    a, b = (_columns(KINDS[kind](generator, (n, experiments)) + late) for late in (0, 15))
    quantiles = {name: QUANTILES[name] for name in ("p50", "p95") if n >= needed(QUANTILES[name])}
    found = differences(a | {TOTAL: a["0"]}, b | {TOTAL: b["0"]}, quantiles, 0.95, 1)
    intervals = {name: [found[str(at)][name].interval for at in range(experiments)] for name in quantiles}
    return {name: sum(not (each and each[0] <= 15 <= each[1]) for each in all_) for name, all_ in intervals.items()}


def false_alarms(kind: str, n: int, trials: int) -> int:
    """How often anything is called faster or slower where all stages are of this shape and nothing has changed."""
    generator = np.random.default_rng(n)
    cried = 0
    for seed in range(trials):
        turns = [KINDS[kind](generator, (n, len(NAMES))) for _ in range(2)]
        a, b = (_columns(each) | {TOTAL: each.sum(axis=1).tolist()} for each in turns)
        cried += any(row.verdict in (SLOWER, FASTER) for row in compare(a, b, 10, seed).rows)
    return cried


def main() -> None:
    experiments, trials = 1000, 200
    for kind in KINDS:
        held = [
            f"{1 - count / experiments:.1%}" for n in (20, 40, 100) for count in missed(kind, n, experiments).values()
        ]
        cried = [f"{false_alarms(kind, n, trials) / trials:.1%}" for n in (40, 140)]
        print(f"| {kind} | {' | '.join([*held, *cried])} |", flush=True)


if __name__ == "__main__":
    main()
