"""Two sets of turns: a verdict for each stage, and all of it in one sentence. Pure.

Users find the rules in docs/latency.md, "Comparing".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tools.latency.samples import tenths
from tools.latency.stages import TOTAL
from tools.latency.statistics import (
    CONFIDENCE,
    LEAST,
    QUANTILES,
    Difference,
    Samples,
    bounded_from,
    differences,
    needed,
)

FASTER, SLOWER, SAME, UNDECIDED = "faster", "slower", "no difference", "undecided"

COMPARED = ("p50", "p95")


@dataclass(frozen=True, slots=True)
class Row:
    """One stage. `differences` has those of COMPARED that so many turns can tell."""

    stage: str
    differences: Mapping[str, Difference]
    verdict: str
    telling: str
    """The quantile to quote: the first that says so; empty where none is told."""

    @property
    def change_ms(self) -> float:
        return self.differences[self.telling].ms if self.telling else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A. Rows: what got faster or slower first, then the biggest change first; TOTAL last."""

    n_a: int
    n_b: int
    tolerance_ms: float
    confidence: float
    """Of each interval: those that are judged hold together with CONFIDENCE."""
    seed: int
    quantiles: tuple[str, ...]
    """Those of COMPARED that so many turns can tell."""
    judged: tuple[str, ...]
    """Those that so many turns can bound: what decides."""
    rows: tuple[Row, ...]

    def stages(self, verdict: str) -> list[str]:
        """Those with this verdict."""
        return [row.stage for row in self.rows if row.verdict == verdict]


def compare(a: Samples, b: Samples, tolerance_ms: float, seed: int) -> Comparison:
    """Compares the stages that both sets have. Neither set may be empty.

    Bonferroni: each of the intervals errs with its part of 1 - CONFIDENCE, so that where nothing has changed all
    verdicts together are right with CONFIDENCE.
    """
    n_a, n_b = (len(samples[TOTAL]) for samples in (a, b))
    fewest = min(n_a, n_b)
    stages = [stage for stage in a if stage in b]
    told = {name: QUANTILES[name] for name in COMPARED if fewest >= needed(QUANTILES[name])}
    judged = tuple(name for name in told if fewest >= decides_from(name, len(stages)))
    confidence = _each(len(stages) * max(1, len(judged)))
    found = differences(a, b, told, confidence, seed)
    rows = sorted((_row(stage, found[stage], judged, tolerance_ms) for stage in stages), key=_order)
    return Comparison(n_a, n_b, tolerance_ms, confidence, seed, tuple(told), judged, tuple(rows))


def decides_from(name: str, stages: int) -> int:
    """How many turns of each set it takes until this quantile decides: as many as can bound it, however it spreads.

    With fewer, what is beyond the slowest turns is not known; one busy minute would make the p95."""
    return max(LEAST, bounded_from(QUANTILES[name], _each(stages * (1 + COMPARED.index(name)))))


def _each(intervals: int) -> float:
    return 1 - (1 - CONFIDENCE) / intervals


def verdict(difference: Difference, tolerance_ms: float) -> str:
    """SAME when the interval lies within the tolerance, else SLOWER or FASTER when it leaves out 0."""
    if difference.interval is None:
        return UNDECIDED
    low, high = difference.interval
    if -tolerance_ms <= low and high <= tolerance_ms:
        return SAME
    return SLOWER if low > 0 else FASTER if high < 0 else UNDECIDED


def _row(stage: str, found: Mapping[str, Difference], judged: Collection[str], tolerance_ms: float) -> Row:
    """Slower in one quantile is slower. There is no difference where none is seen, not even in what is not judged."""
    verdicts = {name: verdict(difference, tolerance_ms) for name, difference in found.items()}
    for each in (SLOWER, FASTER, UNDECIDED, SAME):
        telling = [name for name in judged if verdicts[name] == each]
        if telling:
            seen = each == SAME and not {SLOWER, FASTER}.isdisjoint(verdicts.values())
            return Row(stage, found, UNDECIDED if seen else each, telling[0])
    return Row(stage, found, UNDECIDED, next(iter(found), ""))


def _order(row: Row) -> tuple[bool, bool, float]:
    return row.stage == TOTAL, row.verdict not in (SLOWER, FASTER), -abs(row.change_ms)


def headline(comparison: Comparison) -> str:
    """All of it in one sentence."""
    parts = [
        f"B is {each}: {', '.join(_by(row) for row in comparison.rows if row.verdict == each)}"
        for each in (SLOWER, FASTER)
        if comparison.stages(each)
    ]
    if parts:
        return "; ".join(parts)
    if not comparison.judged:
        return f"Undecided: {comparison.n_a} against {comparison.n_b} turns; it takes {LEAST} of each"
    undecided = comparison.stages(UNDECIDED)
    if not undecided:
        return f"No difference over {comparison.tolerance_ms:g} ms in any stage"
    names = "all of them" if len(undecided) == len(comparison.rows) else ", ".join(undecided)
    return f"No stage is slower or faster for certain; undecided: {names}"


def _by(row: Row) -> str:
    difference = row.differences[row.telling]
    sign = -1 if row.verdict == FASTER else 1
    at = "" if row.telling == COMPARED[0] else f" at {row.telling}"
    return f"{row.stage} by {tenths(sign * difference.ms)} ms{at} {interval(difference, sign)}"


def interval(difference: Difference, sign: int = 1) -> str:
    """`[17.1, 24.0]`; with a `sign` of -1 that of A - B. Empty where there is none."""
    if difference.interval is None:
        return ""
    low, high = sorted(sign * end for end in difference.interval)
    return f"[{tenths(low)}, {tenths(high)}]"
