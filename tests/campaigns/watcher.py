"""The peer that pings through a campaign: python -m tests.campaigns.watcher FOLDER DAEMON...

In a process of its own, so that a campaign's own work does not look like a daemon's. It answers each line on its
standard input with a line of JSON: what it saw of each daemon since the line before. On `settle` it first waits
until no daemon has more requests open than at first, for as long as one may take to notice that a caller is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from daemons.runtime import resident_bytes
from ipc import limits
from ipc.client import Client
from ipc.errors import CallError
from ipc.messages import Ping, Pong, Status, StatusReport
from tools.harness.processes import starved_ns
from tools.latency.statistics import quantile

PERIOD_S = 0.01
"""Between an answer and the next ping."""

SETTLED_S = 3 * limits.CLIENT_SILENCE_S
"""A daemon looks for silent callers every half CLIENT_SILENCE_S; twice that for a busy machine."""


class Watcher:
    """Pings one daemon."""

    def __init__(self, daemon: str, folder: Path) -> None:
        self._client = Client(daemon, "watcher", folder=folder)
        self._open_at_first = 0
        self._unanswered: tuple[int, int, int] | None = None
        """The first ping that failed: when it was sent, to which process, how long that and this one had starved."""
        self._resident: dict[int, list[int]] = {}
        """For each process: what it held first, at most, and last."""
        self._pinged = asyncio.Event()
        self._begin()

    def _begin(self) -> None:
        self._trips_ns: list[int] = []
        self._waits_ns: list[int] = []
        self._silences_ns: list[int] = []

    async def run(self) -> None:
        """Until cancelled."""
        async with self._client:
            await self._client.wait_connected(SETTLED_S)
            self._open_at_first = await self._open()
            while True:
                await self._ping()
                self._pinged.set()
                await asyncio.sleep(PERIOD_S)

    @property
    def _pid(self) -> int:
        return self._client.peer.pid if self._client.peer is not None else 0

    async def _ping(self) -> None:
        asked = time.monotonic_ns(), self._pid, self._starved_ns(self._pid)
        try:
            pong = await self._client.request(Ping(), ttl_ms=int(SETTLED_S * 1000))
        except CallError:
            self._unanswered = self._unanswered or asked
            return
        assert isinstance(pong, Pong)
        self._weigh()
        if self._unanswered is not None:
            self._silences_ns.append(self._since(self._unanswered, pong.t_ns))
            self._unanswered = None
        else:
            self._trips_ns.append(time.monotonic_ns() - asked[0])
            self._waits_ns.append(self._since(asked, pong.t_ns))

    def _since(self, asked: tuple[int, int, int], answered_ns: int) -> int:
        """Time in which the kernel gave the daemon no core is not its fault, nor is that of who pings it."""
        sent_ns, pid, starved = asked
        excused_ns = self._starved_ns(pid) - starved if pid == self._pid else 0
        return max(0, answered_ns - sent_ns - max(0, excused_ns))

    @staticmethod
    def _starved_ns(pid: int) -> int:
        return starved_ns(pid) + starved_ns(os.getpid())

    def _weigh(self) -> None:
        try:
            now = resident_bytes(self._pid)
        except OSError:
            return  # killed since it answered
        first, most, _ = self._resident.get(self._pid, (now, now, now))
        self._resident[self._pid] = [first, max(most, now), now]

    async def _open(self) -> int:
        status = await self._client.request(Status())
        assert isinstance(status, StatusReport)
        return status.requests_open

    async def settle(self) -> int:
        """How many requests stay open that were not when the watch began. 0, too, if nobody is there: that shows
        in the silences."""
        for _ in range(2):  # the second one began after all that the campaign did
            self._pinged.clear()
            await self._pinged.wait()
        try:
            async with asyncio.timeout(SETTLED_S):
                while (more := await self._open() - self._open_at_first) > 0:
                    self._pinged.clear()
                    await self._pinged.wait()
        except TimeoutError:
            return more
        except CallError:
            return 0
        return 0

    async def figures(self, settle: bool) -> dict[str, Any]:
        """Since the last call; the memory, since the beginning."""
        left_open = await self.settle() if settle else 0
        silences_ns = list(self._silences_ns)
        if self._unanswered is not None:
            silences_ns.append(time.monotonic_ns() - self._unanswered[0])
        seen = {
            "pings": len(self._trips_ns),
            "p95_ms": quantile(self._trips_ns, 0.95) / 1e6 if self._trips_ns else 0.0,
            "blocked_s": max(self._waits_ns, default=0) / 1e9,
            "silent_s": max(silences_ns, default=0) / 1e9,
            "silences": len(silences_ns),
            "processes": len(self._resident),
            "grown_bytes": max((last - first for first, _, last in self._resident.values()), default=0),
            "peak_bytes": max((most - first for first, most, _ in self._resident.values()), default=0),
            "left_open": left_open,
        }
        self._begin()
        return seen


async def main(folder: Path, daemons: list[str]) -> None:
    watchers = {daemon: Watcher(daemon, folder) for daemon in daemons}
    tasks = [asyncio.create_task(watcher.run()) for watcher in watchers.values()]
    tasks.append(asyncio.create_task(_answer(watchers)))
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in done:
        task.result()


async def _answer(watchers: dict[str, Watcher]) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        settle = line.strip() == "settle"
        print(json.dumps({daemon: await watcher.figures(settle) for daemon, watcher in watchers.items()}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
