"""Numbers out of milliseconds. Pure: a set of turns is a mapping of stage to its time in each turn, row i turn i.

Every quantile is of Hyndman and Fan's type 7: linear between order statistics, the default of numpy, R and
spreadsheets, so that whoever computes one again gets the same figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tools.latency.stages import TOTAL

Samples = Mapping[str, Sequence[float]]
"""Stage to milliseconds, all sequences equally long and in the order of the turns; TOTAL is one of the stages."""

Array = npt.NDArray[np.float64]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

BEYOND = 2
"""A quantile is told where at least so many samples lie beyond it: one odd turn alone can then never make it."""

CONFIDENCE = 0.95

RESAMPLES = 10_000
"""Bootstrap resamples: 10 of them lie beyond an interval of 99.8 %, as 20 comparisons at once need it."""

LEAST = 10
"""Turns below which there is no interval: they would be fewer than three blocks."""

_CHUNK = 250_000
"""Values resampled at a time, so that they stay in the processor's cache."""


def needed(q: float) -> int:
    """How many samples quantile `q` needs to be told."""
    return math.ceil(round(BEYOND / min(q, 1 - q), 6))


def quantile(values: Sequence[float] | Array, q: float) -> float:
    """Type 7. `values` is not empty."""
    return float(np.quantile(np.asarray(values, dtype=float), q))


def told(values: Sequence[float] | Array, q: float) -> float | None:
    """The quantile, or None where there are too few samples for it."""
    return quantile(values, q) if len(values) >= needed(q) else None


def bounded_from(q: float, confidence: float) -> int:
    """How many samples it takes to bound quantile `q` (0.5 or more) from both sides with this confidence, whatever its
    distribution: with fewer, all of them may well lie below it."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log(q))


def order_interval(
    values: Sequence[float] | Array, q: float, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Where quantile `q` of the source of these values lies, whatever its distribution; None: no bound on that side.

    Order statistics: the number of samples below the true quantile is binomial(n, q), so it lies under the k-th
    smallest with the probability of fewer than k such samples. Each side errs with at most half of what
    `confidence` leaves. Takes samples for independent.
    """
    ordered = sorted(values)
    n = len(ordered)
    half = (1 - confidence) / 2
    below = np.cumsum(_binomial(n, q))  # [k]: at most k samples lie below
    low = int(np.searchsorted(below, half, side="right"))
    high = int(np.searchsorted(below, 1 - half, side="left")) + 1
    return (float(ordered[low - 1]) if low else None, float(ordered[high - 1]) if high <= n else None)


def _binomial(n: int, q: float) -> Array:
    """Probabilities of 0..n successes."""
    log = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(q) + (n - k) * math.log1p(-q)
        for k in range(n + 1)
    ]
    return np.array([math.exp(each) for each in log])


@dataclass(frozen=True, slots=True)
class StageSummary:
    """One stage over a set of turns, in ms. A quantile is None where the turns are too few for it."""

    stage: str
    n: int
    mean: float
    quantiles: Mapping[str, float | None]
    """By the names of QUANTILES."""
    max: float
    share: float
    """Of the total, over all turns: 0 to 1."""
    share_slowest: float
    """The same within the slowest tenth of the turns by total, at least one turn."""


def summarize(samples: Samples, shares: Samples | None = None) -> list[StageSummary]:
    """A row for each stage, in their order; `shares` is what of the total they have where that is not `samples` itself.

    Raises ValueError when there is no turn."""
    columns, parts = _arrays(samples), _arrays(shares or samples)
    total = columns[TOTAL]
    if not len(total):
        raise ValueError("no turns")
    slowest = np.argsort(-total, kind="stable")[: math.ceil(len(total) / 10)]
    return [
        StageSummary(
            stage=stage,
            n=len(values),
            mean=float(values.mean()),
            quantiles={name: told(values, q) for name, q in QUANTILES.items()},
            max=float(values.max()),
            share=_share(parts[stage], total),
            share_slowest=_share(parts[stage][slowest], total[slowest]),
        )
        for stage, values in columns.items()
    ]


def _arrays(samples: Samples) -> dict[str, Array]:
    return {stage: np.asarray(values, dtype=float) for stage, values in samples.items()}


def _share(part: Array, whole: Array) -> float:
    return float(part.sum() / whole.sum()) if whole.sum() else 0.0


def block_length(n: int) -> int:
    """Turns that are drawn together: as many as there are blocks. Shorter blocks make intervals that are too narrow
    where a turn resembles the one before it (tests/support/synthetic.py measures that)."""
    return max(1, round(math.sqrt(n)))


def resampled(samples: Samples, quantiles: Sequence[float], generator: np.random.Generator) -> dict[str, Array]:
    """The quantiles of RESAMPLES resamples of the turns: stage to an array of a row a resample, a column a quantile.

    A circular block bootstrap (Politis and Romano 1992): turns in a row are drawn together, because a busy
    machine slows several turns in a row, and the same turns for all stages.
    """
    columns = _arrays(samples)
    orders = {stage: np.argsort(values) for stage, values in columns.items()}
    n = len(next(iter(columns.values())))
    length = block_length(n)
    found = {stage: np.empty((RESAMPLES, len(quantiles))) for stage in columns}
    step = max(1, _CHUNK // n)
    for at in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - at)
        starts = generator.integers(0, n, (rows, -(-n // length), 1))
        drawn = ((starts + np.arange(length)) % n).reshape(rows, -1)[:, :n]
        drawn += np.arange(rows)[:, None] * n
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        for stage, order in orders.items():
            found[stage][at : at + rows] = _quantiles(columns[stage][order], np.take(times, order, axis=1), quantiles)
    return found


def _quantiles(ordered: Array, times: npt.NDArray[np.int64], quantiles: Sequence[float]) -> Array:
    """Type 7 of resamples, a row each, in which the i-th smallest value occurs `times[row, i]` times."""
    rows, n = times.shape
    counted = np.cumsum(times)  # each row adds n, so that it rises through all of them
    first = np.arange(rows) * n
    columns = []
    for q in quantiles:
        place = (n - 1) * q
        low, high = (
            ordered[np.searchsorted(counted, first + rank, side="right") - first]
            for rank in (math.floor(place), math.ceil(place))
        )
        columns.append(low + (high - low) * (place % 1))
    return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class Difference:
    """A quantile of two sets, in ms, and where their true difference (B - A) lies; None: that cannot be told."""

    a: float
    b: float
    interval: tuple[float, float] | None = None

    @property
    def ms(self) -> float:
        return self.b - self.a


def differences(
    a: Samples, b: Samples, quantiles: Mapping[str, float], confidence: float, seed: int
) -> dict[str, dict[str, Difference]]:
    """Of each stage of both sets, and each of these quantiles, the difference with an interval of `confidence`.

    The two sets are resampled apart. Percentile intervals, because they follow the skew of a quantile; their ends are
    then moved away from the estimate by as much as a t distribution is wider than a normal one, with the degrees of
    freedom of so few blocks (after Hesterberg 2015, "What Teachers Should Know About the Bootstrap").
    Sets of fewer than LEAST turns get no interval. Neither may be empty.
    """
    stages = [stage for stage in a if stage in b]
    points = {
        stage: {name: Difference(quantile(a[stage], q), quantile(b[stage], q)) for name, q in quantiles.items()}
        for stage in stages
    }
    sizes = [len(samples[TOTAL]) for samples in (a, b)]
    if min(sizes) < LEAST:
        return points
    tail = (1 - confidence) / 2
    blocks = sum(n / block_length(n) for n in sizes)
    widening = _student_t(1 - tail, blocks - 2) / NormalDist().inv_cdf(1 - tail) * math.sqrt(blocks / (blocks - 2))
    generator = np.random.default_rng(seed)
    of_a, of_b = (
        resampled({stage: samples[stage] for stage in stages}, list(quantiles.values()), generator)
        for samples in (a, b)
    )
    for stage in stages:
        ends = np.quantile(of_b[stage] - of_a[stage], [tail, 1 - tail], axis=0).T
        for (name, point), (low, high) in zip(points[stage].items(), ends.tolist(), strict=True):
            below, above = max(0.0, point.ms - low), max(0.0, high - point.ms)
            interval = (point.ms - widening * below, point.ms + widening * above)
            points[stage][name] = replace(point, interval=interval)
    return points


def _student_t(p: float, freedom: float) -> float:
    """Quantile of Student's t: Abramowitz and Stegun 26.7.5, within 2 % from 4 degrees of freedom on for p to 0.999."""
    z = NormalDist().inv_cdf(p)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
