"""Deadlines of many requests with one timer: nearly all of them end long before, and should not pay for it."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count

from ipc.limits import REMEMBERED_RIDS
from ipc.session import Exchange


class Deadlines:
    """Calls back for requests that are still open when their time is up. Lives on the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[int, int, Exchange, Callable[[], None]]] = []
        self._number = count()
        self._full = REMEMBERED_RIDS
        self._timer: asyncio.TimerHandle | None = None

    def add(self, exchange: Exchange, due_ns: int, late: Callable[[], None]) -> None:
        """`late` is due at `due_ns` (monotonic), unless `exchange` has been closed by then."""
        entry = (due_ns, next(self._number), exchange, late)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._arm()
        if len(self._heap) > self._full:
            self._heap = [other for other in self._heap if not other[2].closed]
            heapq.heapify(self._heap)
            self._full = max(REMEMBERED_RIDS, 2 * len(self._heap))

    def _arm(self) -> None:
        self.close()
        while self._heap and self._heap[0][2].closed:
            heapq.heappop(self._heap)
        if self._heap:
            left_s = (self._heap[0][0] - time.monotonic_ns()) / 1e9
            self._timer = self._loop.call_later(max(0.0, left_s), self._due)

    def _due(self) -> None:
        now_ns = time.monotonic_ns()
        while self._heap and self._heap[0][0] <= now_ns:
            _, _, exchange, late = heapq.heappop(self._heap)
            if not exchange.closed:
                late()
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
