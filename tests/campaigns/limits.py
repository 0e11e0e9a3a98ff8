"""Campaign 6: a machine that has too little of descriptors, memory, disk, or folders that can be written. What suffers
refuses with a sentence, or dies and is started again; when there is enough again, all is as before."""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from ipc import zmtp
from ipc.endpoints import DAEMONS, socket_path
from ipc.messages import Body, Remember
from tests.campaigns.crowd import check_nothing_is_left, crowd, slow_down
from tests.campaigns.lanes import housed, side_by_side
from tests.campaigns.stops import ASKED as ANSWERED
from tools import supervision
from tools.harness import House
from tools.harness.processes import descriptors, limit, unlimit

HOUSES = 2
CROWD_TTL_MS = 3000
BACK_MAX_S = 20.0
"""From the moment there is enough again until all five serve. A daemon that died is started again after up to some
seconds, and a full database is tried again; the rest is for a busy machine."""

DISK_BYTES = 32_000_000
"""Room for the marks of half an hour beside the database: 6 kB of them are written in a second."""

STRANGERS = 30


ASKED: dict[str, tuple[Body, ...]] = {**ANSWERED, "memory": (Remember(heard="The key is here.", always=True),)}
"""What each is asked when there is enough again: the memory, to keep something."""


class Want(NamedTuple):
    """`what` there is too little of for one daemon, or for all of them where it is the disk; `spare`: how much is left,
    of descriptors or bytes."""

    what: str
    daemon: str
    spare: int
    seconds: float


SPARE = {"descriptors": 4, "memory": 1_000_000, "file size": 200_000, "full disk": 1, "locked folder": 1}
"""What there can be too little of: less than this is left."""


def run(count: int, seed: int, make: Callable[[], House] = lambda: House(disk_bytes=DISK_BYTES)) -> dict[str, int]:
    """Each `count` times. Raises AssertionError for a request without an end, and for a house that does not recover."""
    chance = random.Random(seed)
    wants = [_drawn(what, chance) for what in SPARE for _ in range(count)]
    chance.shuffle(wants)
    with mock.patch.object(supervision, "STEADY_S", 0.0):  # each death is a first one
        parts = [wants[number::HOUSES] for number in range(HOUSES)]
        found = side_by_side([_in_a_house(part, make) for part in parts if part])
    tried = sum((deaths for deaths, _, _ in found), Counter[str]())
    return {
        "times each": count,
        "requests": sum(requests for _, requests, _ in found),
        **{f"deaths of {what}": tried[what] for what in SPARE if tried[what]},
        "ms to serve again at most": round(max(back_s for _, _, back_s in found) * 1000),
    }


RESTARTED = tuple(daemon for daemon in DAEMONS if daemon != "memory")
"""Who is started again although its folder cannot be written. A memory that cannot write its database ends with a
sentence and for good: somebody has to see to it (exit 78, as for a wrong configuration)."""


def _drawn(what: str, chance: random.Random) -> Want:
    return Want(
        what,
        chance.choice(RESTARTED if what == "locked folder" else DAEMONS),
        chance.randrange(SPARE[what]),
        chance.uniform(0.2, 1.5),
    )


async def _in_a_house(wants: list[Want], make: Callable[[], House]) -> tuple[Counter[str], int, float]:
    """How often daemons died of what, how many requests there were, and the longest that it took to serve again."""
    deaths, longest_s = Counter[str](), 0.0
    async with housed(make) as house:
        slow_down(house)
        async with crowd(house.place.run, CROWD_TTL_MS) as callers:
            for want in wants:
                before = {daemon: house.pid(daemon) for daemon in DAEMONS}
                try:
                    await asyncio.to_thread(_suffer, house, want)
                    callers.check_deadlines()
                    back_s = await asyncio.to_thread(_serve_again, house)
                except AssertionError as error:
                    raise AssertionError(f"{want}: {error}") from error
                longest_s = max(longest_s, back_s)
                deaths[want.what] += sum(house.pid(daemon) != pid for daemon, pid in before.items())
        await asyncio.to_thread(check_nothing_is_left, house)
    return deaths, sum(callers.outcomes.values()), longest_s


def _suffer(house: House, want: Want) -> None:
    with WAYS[want.what](house, want):
        until = time.monotonic() + want.seconds
        while time.monotonic() < until:
            _want_much(house.place.run, want.daemon)
            time.sleep(0.05)


def _want_much(folder: Path, daemon: str) -> None:
    """Connections at once, and much to read: a daemon that has too little may refuse them, or die."""
    said = zmtp.GREETING + zmtp.ready(b"DEALER") + zmtp.frame(bytes(60_000)) * 10
    with ExitStack() as stack:
        for _ in range(STRANGERS):
            other = stack.enter_context(socket.socket(socket.AF_UNIX))
            other.settimeout(0.2)
            with suppress(OSError):
                other.connect(str(socket_path(daemon, folder)))
                other.sendall(said)


# --- what there is too little of ---


Way = Callable[[House, Want], AbstractContextManager[None]]


@contextmanager
def _limited(house: House, want: Want, kind: str, value: Callable[[int], int]) -> Iterator[None]:
    pid = house.pid(want.daemon)
    with ExitStack() as stack, suppress(ProcessLookupError):  # the next process has no limits
        before = limit(pid, kind, value(pid))
        stack.callback(_lift, pid, kind, before)
        yield


def _lift(pid: int, kind: str, before: tuple[int, int]) -> None:
    with suppress(ProcessLookupError):
        unlimit(pid, kind, before)


def _address_space(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[0]) * resource.getpagesize()


@contextmanager
def _full_disk(house: House, want: Want) -> Iterator[None]:
    house.place.fill_disk()
    try:
        yield
    finally:
        house.place.free_disk()


@contextmanager
def _locked_folder(house: House, want: Want) -> Iterator[None]:
    """A daemon that is started then cannot open what it needs."""
    house.place.lock_disk()
    try:
        house.kill(want.daemon)
        yield
    finally:
        house.place.unlock_disk()


WAYS: Mapping[str, Way] = {
    "descriptors": lambda house, want: _limited(house, want, "nofile", lambda pid: descriptors(pid) + want.spare),
    "memory": lambda house, want: _limited(house, want, "as", lambda pid: _address_space(pid) + want.spare),
    "file size": lambda house, want: _limited(house, want, "fsize", lambda pid: want.spare),
    "full disk": _full_disk,
    "locked folder": _locked_folder,
}


# --- when there is enough again ---


def _serve_again(house: House) -> float:
    """How long it took until all five did what they are for, in s. Raises AssertionError."""
    began_s = time.monotonic()
    for daemon in DAEMONS:
        body, *items = ASKED[daemon]
        while (reply := house.ask(daemon, body, *items, ttl_ms=3000)).outcome != "done":
            if time.monotonic() > began_s + BACK_MAX_S:
                raise AssertionError(f"{daemon} does not serve again: {reply.code} {reply.detail}")
            time.sleep(0.05)
    return time.monotonic() - began_s
