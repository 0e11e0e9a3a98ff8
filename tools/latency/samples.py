"""Turns become columns of milliseconds, as the statistics take them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from tools.latency.reading import NoTurns
from tools.latency.stages import NAMES, TOTAL
from tools.latency.turns import Turn


@dataclass(frozen=True, slots=True)
class Sampled:
    """The complete turns of a set: of each stage its share of the time to first audio, in ms, and TOTAL, their sum."""

    columns: dict[str, array[float]]
    left_out: int
    """Turns that are not complete: typed, silent, given up, or with marks missing."""

    @property
    def n(self) -> int:
        return len(self.columns[TOTAL])

    def described(self) -> str:
        """How many turns there are, for a person."""
        others = f", {self.left_out} left out (typed, not answered aloud, or with marks missing)"
        return f"{self.n} complete {'turn' if self.n == 1 else 'turns'}{others if self.left_out else ''}"


def sample(turns: Iterable[Turn], name: str = "these traces") -> Sampled:
    """The complete turns, in the order in which they come. Raises NoTurns when there is none in `name`."""
    columns = {stage: array("d") for stage in (*NAMES, TOTAL)}
    left_out = 0
    for turn in turns:
        if not turn.complete:
            left_out += 1
            continue
        shares = turn.shares_ms()
        for stage, ms in shares.items():
            columns[stage].append(ms)
        columns[TOTAL].append(sum(shares.values()))
    if not columns[TOTAL]:
        others = f", only {left_out} without all stages or typed" if left_out else ""
        raise NoTurns(f"no spoken question in {name} was answered aloud{others}")
    return Sampled(columns, left_out)


def tenths(ms: float) -> str:
    """Milliseconds in tenths, and from 1,000 ms on in whole ones."""
    return f"{ms:z.1f}" if abs(ms) < 1000 else f"{ms:.0f}"
