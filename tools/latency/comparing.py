"""Two sets of turns: a verdict for each stage, and all of it in one sentence. Pure.

Users find the rules in docs/latency.md, "Comparing".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tools.latency.samples import tenths
from tools.latency.stages import TOTAL
from tools.latency.statistics import CONFIDENCE, LEAST, QUANTILES, Difference, Samples, differences, needed

FASTER, SLOWER, SAME, UNDECIDED = "faster", "slower", "no difference", "undecided"

COMPARED = ("p50", "p95")


@dataclass(frozen=True, slots=True)
class Row:
    """One stage. `differences` has those of COMPARED that so many turns can tell."""

    stage: str
    differences: Mapping[str, Difference]
    verdict: str
    telling: str
    """The quantile to quote: the first with this verdict; empty where none is told."""

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
    """Of each interval: all of them hold together with CONFIDENCE."""
    seed: int
    quantiles: tuple[str, ...]
    """Those of COMPARED that so many turns can tell."""
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
    told = {name: QUANTILES[name] for name in COMPARED if min(n_a, n_b) >= needed(QUANTILES[name])}
    stages = [stage for stage in a if stage in b]
    confidence = 1 - (1 - CONFIDENCE) / (len(stages) * max(1, len(told)))
    found = differences(a, b, told, confidence, seed)
    rows = sorted((_row(stage, found[stage], tolerance_ms) for stage in stages), key=_order)
    return Comparison(n_a, n_b, tolerance_ms, confidence, seed, tuple(told), tuple(rows))


def verdict(difference: Difference, tolerance_ms: float) -> str:
    """SAME when the interval lies within the tolerance, else SLOWER or FASTER when it leaves out 0."""
    if difference.interval is None:
        return UNDECIDED
    low, high = difference.interval
    if -tolerance_ms <= low and high <= tolerance_ms:
        return SAME
    return SLOWER if low > 0 else FASTER if high < 0 else UNDECIDED


def _row(stage: str, found: Mapping[str, Difference], tolerance_ms: float) -> Row:
    """Slower in one quantile is slower; there is no difference where none of them says otherwise."""
    first: dict[str, str] = {}
    for name, difference in found.items():
        first.setdefault(verdict(difference, tolerance_ms), name)
    for each in (SLOWER, FASTER, UNDECIDED, SAME):
        if each in first:
            return Row(stage, found, each, first[each])
    return Row(stage, found, UNDECIDED, "")


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
    if min(comparison.n_a, comparison.n_b) < LEAST:
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
