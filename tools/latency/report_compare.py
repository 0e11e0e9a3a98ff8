"""The comparisons of the HTML report: which sets of turns are offered, and what `compare` says of pairs of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tools.latency.comparing import COMPARED, Comparison, compare, headline
from tools.latency.display import local
from tools.latency.gathering import Floats, Gathered, Rows
from tools.latency.samples import Sampled
from tools.latency.stages import TOTAL
from tools.latency.statistics import LEAST, QUANTILES, Difference, told

AT_MOST = 200
"""Newest turns of a set that are compared: an interval is then narrow enough, and is had in a second or two."""

DAYS, SESSIONS = 7, 12
"""Newest days and sessions on offer."""

TESTED = 3
"""The newest session is compared with so many before it; other pairs show their plain difference."""

TOLERANCE_MS = 10.0
SEED = 1
"""As `timmy latency compare` has them by default."""


@dataclass(frozen=True, slots=True)
class Set:
    """Turns that can be compared with later ones of the same `group`. `name` is empty where the page finds one."""

    group: str
    name: str
    begun_s: float
    samples: dict[str, Floats]

    @property
    def n(self) -> int:
        return len(self.samples[TOTAL])


def comparisons(gathered: Gathered, of: Rows, against: Sampled | None, against_name: str) -> dict[str, Any]:
    """`sets`, the oldest of each group first, and `pairs` of places in it that were compared, the one to show first.

    `of` are the sessions of the rows. `against` are the earlier turns that were asked for."""
    sets: list[Set] = []
    for group in (
        _against(gathered, against, against_name),
        _halves(gathered),
        _days(gathered),
        _by_session(gathered, of),
    ):
        if len(group) > 1:
            sets += group
    return {
        "least": LEAST,
        "at_most": AT_MOST,
        "tolerance": TOLERANCE_MS,
        "sets": [_set(each) for each in sets],
        "pairs": [_pair(sets, a, b) for a, b in _tested(sets)],
    }


def _tested(sets: Sequence[Set]) -> Iterator[tuple[int, int]]:
    """Places of the pairs that are worth the time of a bootstrap."""
    for group in dict.fromkeys(each.group for each in sets):
        places = [place for place, each in enumerate(sets) if each.group == group]
        *before, newest = places
        count = TESTED if group == "session" else 1
        yield from (
            (place, newest) for place in before[: -count - 1 : -1] if min(sets[place].n, sets[newest].n) >= LEAST
        )


def _pair(sets: Sequence[Set], a: int, b: int) -> dict[str, Any]:
    newest = [{name: values[-AT_MOST:].tolist() for name, values in sets[place].samples.items()} for place in (a, b)]
    found = compare(newest[0], newest[1], TOLERANCE_MS, SEED)
    return {"a": a, "b": b, "headline": headline(found), "rows": _rows(found)}


def _rows(comparison: Comparison) -> dict[str, Any]:
    return {
        row.stage: {
            "verdict": row.verdict,
            "telling": row.telling,
            **{name: _difference(difference) for name, difference in row.differences.items()},
        }
        for row in comparison.rows
    }


def _difference(found: Difference) -> list[float]:
    """A, B, and the ends of the interval of B - A where there is one."""
    return [round(float(value), 2) for value in (found.a, found.b, *(found.interval or ()))]


def _set(each: Set) -> dict[str, Any]:
    quantiles = {name: QUANTILES[name] for name in COMPARED}
    return {
        "group": each.group,
        "name": each.name,
        "begun_s": round(each.begun_s, 3),
        "n": each.n,
        "stages": {
            stage: {name: _told(values, q) for name, q in quantiles.items()} for stage, values in each.samples.items()
        },
    }


def _told(values: Floats, q: float) -> float | None:
    found = told(values, q)
    return None if found is None else round(found, 2)


def _split(
    gathered: Gathered, group: str, names: Sequence[str], edges: Sequence[int], rows: Rows, places: Rows
) -> list[Set]:
    """A set for each stretch between two edges, of complete turns in an order where the sets lie side by side."""
    assert gathered.sampled is not None
    columns = {name: np.array(values)[places] for name, values in gathered.sampled.times.items()}
    return [
        Set(group, name, gathered.begun_s[rows[low]], {stage: values[low:high] for stage, values in columns.items()})
        for name, (low, high) in zip(names, pairwise(edges), strict=True)
    ]


def _against(gathered: Gathered, against: Sampled | None, name: str) -> list[Set]:
    rows, places = gathered.complete_in_time()
    if against is None or not len(rows):
        return []
    earlier = Set("against", name, 0.0, {stage: np.array(values) for stage, values in against.times.items()})
    return [earlier, *_split(gathered, "against", ["this report"], [0, len(rows)], rows, places)]


def _halves(gathered: Gathered) -> list[Set]:
    rows, places = gathered.complete_in_time()
    if len(rows) < 2:
        return []
    return _split(gathered, "half", ["earlier half", "later half"], [0, len(rows) // 2, len(rows)], rows, places)


def _days(gathered: Gathered) -> list[Set]:
    """By the calendar of this machine."""
    rows, places = gathered.complete_in_time()
    if not len(rows):
        return []
    days = [local(gathered.begun_s[row]).toordinal() for row in rows]
    edges = [0, *(place for place in range(1, len(days)) if days[place] != days[place - 1]), len(days)][-DAYS - 1 :]
    return _split(gathered, "day", [""] * (len(edges) - 1), edges, rows, places)


def _by_session(gathered: Gathered, of: Rows) -> list[Set]:
    rows, places = gathered.complete_in_time()
    if not len(rows):
        return []
    order = np.argsort(of[rows], kind="stable")
    rows, places = rows[order], places[order]
    edges = [0, *(int(place) + 1 for place in np.flatnonzero(np.diff(of[rows]))), len(rows)][-SESSIONS - 1 :]
    names = list(gathered.conversations)
    called = [names[gathered.conversation[rows[low]]] for low in edges[:-1]]
    return _split(gathered, "session", called, edges, rows, places)
