"""Looks at every daemon all the time: whether it lives, answers, is ready, grows, and ends what it was asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.errors import CallError, Code, TimmyError
from ipc.messages import Error, Kind, Ping, Pong, Status, StatusReport
from ipc.observer import Observed, Observer
from tools.chaos.record import Death, Record, Silence
from tools.harness import House
from tools.harness.processes import resident_bytes, starved_ns

PERIOD_S = 0.05
PING_MS = 20_000
READY_S = 120.0
NOTED_S = 0.5
"""A shorter silence is not worth a line."""
_LASTING = frozenset({"listen", "follow", "attach", "feed"})
"""Requests that end when their caller wants it, at the earliest with the run."""
_ENDS = frozenset({Kind.DONE, Kind.ERROR, Kind.CANCELLED})
_REFUSALS = frozenset({Code.BAD_MESSAGE, Code.UNKNOWN_TYPE, Code.UNSUPPORTED_VERSION, Code.PEER_GONE, Code.OVER_QUOTA})
_BURIED_S = 0.2


class Watch:
    """Of one daemon, past the proxy that may stand before it."""

    def __init__(
        self, name: str, house: House, record: Record, clock: Callable[[], float], died: Callable[[str], None]
    ) -> None:
        """`died` is told when a process has gone."""
        self.name = name
        self._house, self._record, self._clock, self._died = house, record, clock, died
        self.report: StatusReport | None = None
        self.well_s: float | None = None
        """When it last said that it is ready; None: the last time it did not."""
        self._pid = house.pid(name)
        self._first_bytes: dict[int, int] = {}

    async def run(self) -> None:
        """Until cancelled. Each process gets a connection of its own: one that has tried in vain tries ever more
        seldom."""
        while True:
            async with Client(self.name, "watch", folder=self._house.place.folder_of(self.name)) as client:
                tasks = [asyncio.create_task(work) for work in (self._ask_on(client), self._ping_on(client))]
                try:
                    await until(self._gone)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
            self.well_s = None
            self._record.deaths.append(Death(self.name, self._pid, round(self._clock(), 3)))
            self._died(self.name)
            await until(lambda: self._house.pid(self.name) != self._pid)
            self._pid = self._house.pid(self.name)

    def _gone(self) -> bool:
        return self._house.pid(self.name) != self._pid or not Path(f"/proc/{self._pid}").exists()

    async def _ask_on(self, client: Client) -> None:
        while True:
            asked_s = self._clock()
            try:
                answer = await client.request(Status(), ttl_ms=1000)
            except TimmyError:
                self.well_s = None
            else:
                assert isinstance(answer, StatusReport)
                self.report = answer
                self.well_s = asked_s if answer.state == "ready" else None
                self._first_bytes.setdefault(answer.pid, answer.rss_bytes)
            await asyncio.sleep(PERIOD_S)

    async def _ping_on(self, client: Client) -> None:
        await client.wait_connected(READY_S)
        waiting: tuple[int, int] | None = None
        while True:
            await asyncio.sleep(PERIOD_S)
            if waiting is None:
                waiting = (time.monotonic_ns(), starved_ns(self._pid))
            try:
                pong = await client.request(Ping(), ttl_ms=PING_MS)
            except CallError:
                continue
            assert isinstance(pong, Pong)
            self._answered(*waiting, pong.t_ns)
            waiting = None

    def _answered(self, sent_ns: int, starved: int, answered_ns: int) -> None:
        """Time in which the kernel gave the process no core is not its fault."""
        waited_s = (answered_ns - sent_ns - max(0, starved_ns(self._pid) - starved)) / 1e9
        if waited_s > NOTED_S:
            now_s = self._clock()
            self._record.silences.append(Silence(self.name, round(now_s - waited_s, 3), round(now_s, 3)))

    def grown_bytes(self) -> int:
        """What the process that runs now holds more than at the first look at it."""
        now = resident_bytes(self._pid)
        return now - self._first_bytes.get(self._pid, now)

    @property
    def requests_open(self) -> int:
        """How many it had when it answered last."""
        return self.report.requests_open if self.report is not None else 0


class Ends:
    """Counts the ends of every request that came to a daemon, by what it publishes."""

    def __init__(self, house: House, record: Record) -> None:
        self._observer = Observer(DAEMONS, house.place.run)
        self._record = record
        self._open: dict[tuple[str, bytes, int], tuple[str, float]] = {}
        self._ended: dict[tuple[str, bytes, int], str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with self._observer:
            async for seen in self._observer:
                self._see(seen)

    def _see(self, seen: Observed) -> None:
        message = seen.message
        key, name = (seen.daemon, message.rid, message.epoch), message.body.type_name()
        if message.body.KIND is Kind.REQUEST:
            if key not in self._ended:  # else it came twice
                self._open[key] = (name, time.monotonic())
        elif message.body.KIND in _ENDS:
            asked = self._open.pop(key, ("", 0.0))[0]
            if asked:
                self._ended[key] = asked
            elif key in self._ended and not _is_refusal(message.body, message.seq):
                self._record.doubled.append(f"{self._ended[key]} {message.rid.hex()[-8:]} at {seen.daemon}")

    def died(self, daemon: str) -> None:
        """What it had open died with it. What it published last may still be on its way. Dialog's next life numbers
        what it asks the others from the start: what has ended there tells nothing of what will."""
        if daemon == "dialog":
            self._ended = {key: name for key, name in self._ended.items() if key[0] == daemon}
        asyncio.get_running_loop().call_later(_BURIED_S, self._bury, daemon)

    def _bury(self, daemon: str) -> None:
        self._open = {key: value for key, value in self._open.items() if key[0] != daemon}

    @property
    def lost(self) -> int:
        return self._observer.lost

    def unended(self, older_s: float = 0.0) -> list[str]:
        """Requests without an end that began more than `older_s` ago."""
        before = time.monotonic() - older_s
        return [
            f"{name} {rid.hex()[-8:]} at {daemon}"
            for (daemon, rid, _), (name, since) in self._open.items()
            if name not in _LASTING and since < before
        ]


async def until(holds: Callable[[], bool]) -> None:
    """Returns once it holds."""
    while not holds():  # noqa: ASYNC110 - the kernel and the supervisor's thread tell, not an event
        await asyncio.sleep(PERIOD_S)


def _is_refusal(body: object, seq: int) -> bool:
    """The answer to a message that is not understood: it belongs to no request that is open (PROTOCOL.md)."""
    return isinstance(body, Error) and seq == 0 and body.code in _REFUSALS
