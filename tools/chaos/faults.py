"""How each fault of a plan is brought about in a house, and undone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from daemons.orders import Orders
from tools.chaos.plan import BadHop, Clock, Cut, DiskFull, Engine, Kill, Limit, Step, Stop
from tools.harness import NO_FAULTS, House
from tools.harness.processes import go_on, limit, stop, unlimit

Undo = Callable[[], None]


class Hand:
    """Brings faults about. What it does blocks for milliseconds."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._orders: dict[str, Orders] = {}
        self._one_at_a_time = threading.Lock()

    def bring_about(self, step: Step) -> Undo:
        """Returns what ends it. Raises OSError or HarnessError when it cannot be."""
        match step:
            case Kill(daemon=daemon):
                self._house.kill(daemon)
            case Stop(daemon=daemon):
                pid = self._house.pid(daemon)
                stop(pid)
                return partial(_if_there, go_on, pid)
            case BadHop(daemon=daemon):
                self._house.hop(daemon).faults = step.faults()
                return partial(self._good_hop, daemon)
            case Cut(daemon=daemon):
                self._house.hop(daemon).cut()
            case Limit():
                return self._limit(step)
            case DiskFull():
                self._house.place.fill_disk()
                return self._house.place.free_disk
            case Clock(daemon=daemon, step_s=step_s):
                self._order(daemon, wall_clock_s=step_s)
                return partial(self._order, daemon, wall_clock_s=0.0)
            case Engine(daemon=daemon):
                self._order(daemon, fault=step.fault, after=step.after, slow_ms=step.slow_ms)
                return partial(self._order, daemon, fault="none", after=0, slow_ms=0.0)
        return lambda: None

    def _good_hop(self, daemon: str) -> None:
        self._house.hop(daemon).faults = NO_FAULTS

    def _order(self, daemon: str, **changes: Any) -> None:
        with self._one_at_a_time:
            self._orders[daemon] = msgspec.structs.replace(self._orders.get(daemon, Orders()), **changes)
            self._house.place.order(daemon, self._orders[daemon])

    def _limit(self, step: Limit) -> Undo:
        pid = self._house.pid(step.daemon)
        if step.what == "descriptors":
            highest = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
            what, value = "nofile", highest + 1 + step.room
        else:
            pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[0])
            what, value = "as", pages * 4096 + step.room * 1_000_000
        before = limit(pid, what, value)
        return partial(_if_there, unlimit, pid, what, before)


def _if_there(act: Callable[..., None], pid: int, *arguments: Any) -> None:
    try:
        act(pid, *arguments)
    except ProcessLookupError:
        return  # it died of it
