"""Campaign 9: a daemon that stands still for a while: its process, its event loop, or its engine at work."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from typing import NamedTuple

from ipc.endpoints import DAEMONS
from ipc.errors import Code
from ipc.messages import Ask, Body, ChatMessage, Clause, Generate, Mute, Ping, Recall, Release, Speak
from tests.campaigns.crowd import HUNG_S, PROBE, check_nothing_is_left, crowd, slow_down
from tests.campaigns.lanes import housed, side_by_side
from tests.campaigns.watch import BLOCKED_MAX_S, Watch
from tools.harness import House, Reply
from tools.harness.processes import go_on, stop

HOUSES = 2
"""Side by side: more of them would take each other's cores, and be silent for that."""

SHORTEST_S, LONGEST_S = 0.1, 30.0
CROWD_TTL_MS = 3000
CALM_S = 0.2
TOLD = frozenset({"deadline", "peer_gone"})

ASKED: dict[str, tuple[Body, ...]] = {
    "stt": (Mute(conversation=PROBE, from_ns=0, lease_ms=0),),
    "dialog": (Ask(conversation=PROBE, text="Which city?"),),
    "llm": (Generate(messages=[ChatMessage(role="user", content="Which city?")], max_tokens=8),),
    "memory": (Recall(text="Where is the key?", limit=3),),
    "tts": (Speak(conversation=PROBE), Clause(text="Well."), Release()),
}
"""What a caller asks of each while it stands still, and afterwards."""


class Stop(NamedTuple):
    """`how`: "stop" (SIGSTOP), "block" (its event loop) or "hang" (its engine)."""

    daemon: str
    how: str
    seconds: float
    ttl_ms: int


def run(count: int, seed: int, make: Callable[[], House] = House) -> dict[str, int]:
    """Raises AssertionError when a caller hangs, another daemon suffers, or one does not serve again."""
    stops = _drawn(count, random.Random(seed))
    shares: list[list[Stop]] = [[] for _ in range(min(HOUSES, count))]
    for each in sorted(stops, key=lambda each: -each.seconds):
        min(shares, key=lambda share: sum(s.seconds for s in share)).append(each)
    told = side_by_side([_in_a_house(share, make) for share in shares])
    return {
        "stops": count,
        "s stood still": round(sum(each.seconds for each in stops)),
        "callers told": sum(told),
    }


def _drawn(count: int, chance: random.Random) -> list[Stop]:
    """Each way with each daemon comes as often as any other; short ones are as likely as long ones."""
    ways = [
        (daemon, how) for daemon in DAEMONS for how in ("stop", "block", "hang") if (daemon, how) != ("dialog", "hang")
    ]
    chance.shuffle(ways)
    return [
        Stop(
            *ways[number % len(ways)],
            math.exp(chance.uniform(math.log(SHORTEST_S), math.log(LONGEST_S))),
            chance.choice((200, 1000, 3000)),
        )
        for number in range(count)
    ]


async def _in_a_house(stops: list[Stop], make: Callable[[], House]) -> int:
    """Returns how many callers were told that the daemon does not answer."""
    told = 0
    async with housed(make) as house:
        slow_down(house)
        async with crowd(house.place.run, CROWD_TTL_MS) as callers:
            with Watch(house.place.run, *DAEMONS, calm_s=CALM_S) as watch:
                for each in stops:
                    await asyncio.to_thread(watch.figures)
                    told += await _stand_still(house, each)
                    callers.check_deadlines()
                    await asyncio.to_thread(_check_the_others, watch, each)
                    await asyncio.to_thread(_hear_again, watch, each.daemon)
        await asyncio.to_thread(check_nothing_is_left, house)
    return told + sum(n for (_, outcome), n in callers.outcomes.items() if outcome in TOLD)


async def _stand_still(house: House, each: Stop) -> int:
    pid = house.pid(each.daemon)
    began_s = time.monotonic()
    await asyncio.to_thread(_begin, house, each, pid)
    try:
        reply = await asyncio.to_thread(_asked, house, each.daemon, each.ttl_ms)
        _check_told(each, reply)
        await asyncio.sleep(began_s + each.seconds - time.monotonic())
    finally:
        _end(house, each, pid)
    await asyncio.to_thread(_serves, house, each.daemon)
    if house.pid(each.daemon) != pid:
        raise AssertionError(f"{each.daemon} was started again, although it only stood still")
    return reply.outcome != "done"


def _begin(house: House, each: Stop, pid: int) -> None:
    if each.how == "stop":
        stop(pid)
    else:
        slow_down(house, each.daemon, fault=each.how)
    until = time.monotonic() + HUNG_S
    while each.how == "block" and house.ask(each.daemon, Ping(), ttl_ms=100).outcome == "done":
        assert time.monotonic() < until, f"{each.daemon} cannot be blocked"


def _end(house: House, each: Stop, pid: int) -> None:
    if each.how == "stop":
        go_on(pid)
    else:
        slow_down(house, each.daemon)


def _asked(house: House, daemon: str, ttl_ms: int) -> Reply:
    """Raises AssertionError when nothing at all comes of it."""
    body, *items = ASKED[daemon]
    until = time.monotonic() + HUNG_S
    while True:
        began_s = time.monotonic()
        reply = house.ask(daemon, body, *items, ttl_ms=ttl_ms)
        if reply.code is not Code.DEVICE_MISSING or began_s > until:
            break
        time.sleep(0.05)  # who listens was away: on a busy machine a caller can fall silent for too long
    late_s = time.monotonic() - began_s - ttl_ms / 1000
    if late_s > HUNG_S:
        raise AssertionError(f"a caller of {daemon} waited {late_s:.1f} s beyond its time")
    return reply


def _check_told(each: Stop, reply: Reply) -> None:
    """An engine that hangs is nothing to what needs none, nor is a daemon to who asks when it has just gone on."""
    short = each.ttl_ms / 1000 >= each.seconds
    if reply.outcome == "done" and not short and (each.how, each.daemon) != ("hang", "stt"):
        raise AssertionError(f"{each.daemon} answered although it stood still ({each.how})")
    if reply.outcome != "done" and reply.code not in TOLD:
        raise AssertionError(f"a caller of {each.daemon} was told {reply.code}: {reply.detail}")


def _serves(house: House, daemon: str) -> None:
    """Raises AssertionError when it does not, again."""
    until = time.monotonic() + HUNG_S
    while (reply := _asked(house, daemon, 3000)).outcome != "done":
        if time.monotonic() > until:
            raise AssertionError(f"{daemon} does not serve after it stood still: {reply.code} {reply.detail}")


def _check_the_others(watch: Watch, each: Stop) -> None:
    for daemon, seen in watch.figures().items():
        if seen.processes != 1:
            raise AssertionError(f"{daemon} died when {each.daemon} stood still")
        silent_s = max(seen.silent_s, seen.blocked_s)
        if daemon != each.daemon and silent_s > BLOCKED_MAX_S:
            raise AssertionError(f"{daemon} was not there for {silent_s:.1f} s when {each.daemon} stood still")


def _hear_again(watch: Watch, daemon: str) -> None:
    """Until the watcher, too, has found it again: else its silence would be held against the next one's time."""
    until = time.monotonic() + HUNG_S
    while not watch.figures()[daemon].pings:
        assert time.monotonic() < until, f"{daemon} serves, and its watcher does not hear it"
        time.sleep(0.05)
