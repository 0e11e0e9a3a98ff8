"""Turns become columns of milliseconds, as the statistics take them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tools.latency.reading import NoTurns
from tools.latency.stages import NAMES, TOTAL
from tools.latency.turns import Turn


@dataclass(frozen=True, slots=True)
class Sampled:
    """The complete turns of a set, in ms. Both have TOTAL, the time to first audio."""

    times: dict[str, array[float]]
    """How long each stage took. What was done within the silence that ends a turn counts here, and costs nothing."""
    shares: dict[str, array[float]]
    """What each stage alone has of the time to first audio: they add up to TOTAL."""
    left_out: int
    """Turns that are not complete: typed, silent, given up, or with marks missing."""

    @property
    def n(self) -> int:
        return len(self.times[TOTAL])

    def described(self) -> str:
        """How many turns there are, for a person."""
        others = f", {self.left_out} left out (typed, not answered aloud, or with marks missing)"
        return f"{self.n} complete {'turn' if self.n == 1 else 'turns'}{others if self.left_out else ''}"


def sample(turns: Iterable[Turn], name: str = "these traces") -> Sampled:
    """The complete turns, in the order in which they come. Raises NoTurns when there is none in `name`."""
    found = Sampled(_columns(), _columns(), 0)
    left_out = 0
    for turn in turns:
        if not turn.complete:
            left_out += 1
            continue
        shares = turn.shares_ms()
        total = sum(shares.values())
        for columns, row in ((found.shares, shares), (found.times, _times_ms(turn))):
            for stage, ms in row.items():
                columns[stage].append(ms)
            columns[TOTAL].append(total)
    if not found.n:
        others = f", only {left_out} typed or with stages missing" if left_out else ""
        raise NoTurns(f"no spoken question in {name} was answered aloud{others}")
    return replace(found, left_out=left_out)


def _columns() -> dict[str, array[float]]:
    return {stage: array("d") for stage in (*NAMES, TOTAL)}


def _times_ms(turn: Turn) -> dict[str, float]:
    """How long each stage took, all its spans together."""
    times = dict.fromkeys(NAMES, 0)
    for span in turn.spans:
        if span.stage in times:
            times[span.stage] += span.end_ns - span.start_ns
    return {stage: ns / 1e6 for stage, ns in times.items()}


def tenths(ms: float) -> str:
    """Milliseconds in tenths, and from 1,000 ms on in whole ones."""
    return f"{ms:z.1f}" if abs(ms) < 1000 else f"{ms:.0f}"
