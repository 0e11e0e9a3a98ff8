"""Campaign 7: each daemon is killed at random moments while all of them are busy."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable
from unittest import mock

from ipc.endpoints import DAEMONS
from tests.campaigns.crowd import Crowd, check_nothing_is_left, crowd, slow_down
from tests.campaigns.lanes import housed, side_by_side
from tools import supervision
from tools.harness import House
from tools.harness.processes import starved_ns

HOUSES = 2
"""Side by side: as many as keep two cores busy, and no more, since what is promised is a time."""

BACK_MAX_S = 2.0
"""From the kill until another process serves, less what the kernel let that process wait for a core."""

PAUSE_MAX_S = 0.3
TOLD = frozenset({"peer_gone", "done"})
"""How a request may end that was open when its daemon died. `done`: its answer was on the way."""


def run(count: int, seed: int, make: Callable[[], House] = House) -> dict[str, int]:
    """Kills each of the five `count` times. Each is a first death: what a supervisor does about many in a row is
    not what is asked here. Raises AssertionError when a promise is broken."""
    chance = random.Random(seed)
    victims = [daemon for daemon in DAEMONS for _ in range(count)]
    chance.shuffle(victims)
    parts = [(victims[number::HOUSES], random.Random(chance.random())) for number in range(HOUSES)]
    with mock.patch.object(supervision, "STEADY_S", 0.0):
        found = side_by_side([_in_a_house(*part, make) for part in parts if part[0]])
    backs = [back_s for backs_s, _, _ in found for back_s in backs_s]
    return {
        "times each": count,
        "kills": len(backs),
        "callers told": sum(told for _, told, _ in found),
        "requests": sum(requests for _, _, requests in found),
        "ms to be back": round(statistics.median(backs) * 1000),
        "ms at most": round(max(backs) * 1000),
    }


Found = tuple[list[float], int, int]
"""How long each took to be back, callers that were told, and requests in all."""


async def _in_a_house(victims: list[str], chance: random.Random, make: Callable[[], House]) -> Found:
    backs, told = [], 0
    async with housed(make) as house:
        slow_down(house)
        async with crowd(house.place.run) as callers:
            for daemon in victims:
                await asyncio.sleep(chance.uniform(0.0, PAUSE_MAX_S))
                back_s, asked = await _kill(house, daemon, callers)
                backs.append(back_s)
                told += asked
                callers.check_deadlines()
        await asyncio.to_thread(check_nothing_is_left, house)
    return backs, told, sum(callers.outcomes.values())


async def _kill(house: House, daemon: str, callers: Crowd) -> tuple[float, int]:
    old = house.kill(daemon)
    asked = callers.waiting(daemon, old)
    back_s = await asyncio.to_thread(house.until_back, daemon, old)
    back_s -= starved_ns(house.pid(daemon)) / 1e9
    if back_s > BACK_MAX_S:
        raise AssertionError(f"{daemon} was back {back_s:.1f} s after it was killed, not within {BACK_MAX_S:g} s")
    await callers.ended(asked, TOLD)
    return back_s, sum(request.outcome == "peer_gone" for request in asked)
