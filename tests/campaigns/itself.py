"""Campaign 18: the harness and the campaigns, tried with daemons that have a bug. Each bug is caught."""

from __future__ import annotations

import random

from tests.campaigns.altered import SOUND
from tests.campaigns.checks import CAUGHT_BY


def run(count: int, seed: int) -> dict[str, int]:
    """Plants `count` bugs in turn, in an order that the seed gives. Raises AssertionError for one that is missed,
    and for a daemon without one that does not pass."""
    order = list(CAUGHT_BY)
    random.Random(seed).shuffle(order)
    planted = [order[number % len(order)] for number in range(count)]
    missed = [bug for bug in planted if not caught(bug)]
    if missed:
        raise AssertionError(f"not caught: {', '.join(missed)}")
    checks = dict.fromkeys(CAUGHT_BY[bug] for bug in planted)
    for check in checks:
        check(SOUND)
    return {"bugs": count, "caught": count, "checks passed without one": len(checks)}


def caught(bug: str) -> bool:
    try:
        CAUGHT_BY[bug](bug)
    except AssertionError:
        return True
    return False
