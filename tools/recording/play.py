"""Sending recorded requests again, each at its time: the clock decides, never an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ipc import limits
from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError, Code
from ipc.messages import Body, Cancel, Cancelled, End, Error
from tools.recording.again import ENDLESS, Names, conversation_of, renewed, times_of
from tools.recording.asked import LISTENERS, Asked, Assembler, Sent
from tools.recording.file import Entry, Gap
from tools.recording.take import Take

CALLER = "replay"

LEAD_S = 0.5
"""So long before its first request a connection is made."""

LISTEN_S = 15.0
"""So much later than then a listener may get what it got. What is slower still it misses."""

ANSWER_S = 60.0
"""A request without a time of its own that has no end so long after its last item has none."""

SETTLE_S = 5.0
"""What a daemon says to a cancel comes within this time."""


@dataclass
class Played:
    """What came of a replay. `again` has each request as it went this time, in their order."""

    again: list[Asked] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    late_ms: float = 0.0
    """By how much the latest message was sent after its time, where no credit was waited for."""
    waited: int = 0
    """Items that waited for credit."""
    waited_ms: float = 0.0
    """For how long, in sum."""


class Clock:
    """From the recording's time, which begins at `base_ns`, to that of the replay."""

    def __init__(self, base_ns: int, speed: float) -> None:
        self._base_ns, self._speed = base_ns, speed
        self._start_ns = time.monotonic_ns() + int(LEAD_S * 1e9)

    def now(self, t_ns: int) -> int:
        """What the monotonic clock shows when it is due."""
        return self._start_ns + int((t_ns - self._base_ns) / self._speed)


class Player:
    """Plays `asked` at the daemons that it was asked of, `speed` times as fast. For one `play`."""

    def __init__(self, asked: Sequence[Asked], speed: float, folder: Path | None = None) -> None:
        self._asked = asked
        self._speed = speed
        self._folder = folder
        self._names = Names(asked)
        self._played = Played()
        self._capture = Assembler()
        self._seen: dict[tuple[str, bytes, int], Asked] = {}
        self._sent: dict[int, tuple[str, bytes, int]] = {}
        """By number of the request: its daemon, and the rid and epoch that it has now."""
        self._failures: dict[int, Error] = {}
        self._news = asyncio.Event()
        times = [each.t_ns for each in asked if not each.under_way]
        times += [sent.t_ns for each in asked for sent in each.sent]
        self._base_ns = min(times, default=0)
        self._last_ns = max([*times, *(each.ended_ns for each in asked)], default=0)

    async def play(self) -> Played:
        """Raises CallError when a daemon is not there at the beginning."""
        async with Take(sorted({each.daemon for each in self._asked}), self._come, self._folder) as take:
            self._clock = Clock(self._base_ns, self._speed)
            connections: dict[tuple[str, int, int], list[int]] = {}
            for number, each in enumerate(self._asked):
                connections.setdefault((each.daemon, each.life, each.peer), []).append(number)
            playing = asyncio.gather(*(self._connection(numbers) for numbers in connections.values()))
            try:
                await take.until(playing)
            finally:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
            await self._until(lambda: all(map(self._over, self._sent)), time.monotonic_ns() + int(SETTLE_S * 1e9))
        self._played.gaps = take.gaps
        self._played.again = [self._outcome(number) for number in range(len(self._asked))]
        return self._played

    # --- what comes back ---

    def _come(self, entry: Entry | Gap) -> None:
        if (asked := self._capture.add(entry)) is not None:
            self._seen[asked.daemon, asked.rid, asked.epoch] = asked
        self._news.set()

    def _now(self, number: int) -> Asked | None:
        return self._seen.get(self._sent[number]) if number in self._sent else None

    def _over(self, number: int) -> bool:
        now = self._now(number)
        return number in self._failures or (now is not None and (now.end is not None or bool(now.broken)))

    def _outcome(self, number: int) -> Asked:
        now, then = self._now(number), self._asked[number]
        if now is None:  # it could not be sent
            now = Asked(then.daemon, 0, 0, CALLER, then.rid, then.epoch, 0, then.ttl_ms, then.body, under_way=False)
        now.end = now.end or self._failures.get(number)
        return now

    async def _until(self, true: Callable[[], bool], until_ns: int) -> None:
        """Returns when it is true, which what comes back can make it, or when it is too late for that."""
        with suppress(TimeoutError):
            async with asyncio.timeout((until_ns - time.monotonic_ns()) / 1e9):
                while not true():
                    self._news.clear()
                    await self._news.wait()

    # --- what is sent ---

    async def _connection(self, numbers: Sequence[int]) -> None:
        """All requests of one connection of then."""
        first = self._asked[numbers[0]]
        await _sleep_until(self._due(first) - int(LEAD_S * 1e9))
        async with Client(first.daemon, CALLER, folder=self._folder) as client:
            await asyncio.gather(*(self._ask(number, client) for number in numbers))

    def _due(self, asked: Asked) -> int:
        if asked.under_way:  # it was there before anything else happened
            return self._clock.now(self._base_ns) - int(LEAD_S / 2 * 1e9)
        return self._clock.now(asked.t_ns)

    async def _ask(self, number: int, client: Client) -> None:
        asked = self._asked[number]
        await self._at(self._due(asked))
        try:
            if not client.connected:
                await client.wait_connected(limits.CONNECT_TIMEOUT_S)
            body = self._renewed(asked.body)
            stream = client.open(body, rid=self._names.rid(asked.rid), ttl_ms=asked.ttl_ms)
            self._sent[number] = (asked.daemon, stream.rid, stream.epoch)
            reading = asyncio.create_task(_read(stream))
            try:
                await self._send_all(asked, stream)
                await self._result(asked, stream)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        except CallCancelled:
            return
        except CallError as error:
            self._failures[number] = Error(code=error.code, detail=str(error))

    def _renewed(self, body: Body) -> Body:
        return renewed(body, self._names, {name: self._clock.now(t_ns) for name, t_ns in times_of(body).items()})

    async def _send_all(self, asked: Asked, stream: Stream) -> None:
        free_ns = 0
        for sent in asked.sent:
            due_ns = self._clock.now(sent.t_ns)
            if isinstance(sent.body, Cancel):
                break
            if due_ns > free_ns:
                await self._at(due_ns)
            if isinstance(sent.body, End):
                stream.end()
            elif not stream.offer(body := self._renewed(sent.body), sent.payload):
                began_ns = time.monotonic_ns()
                await stream.send(body, sent.payload)
                free_ns = time.monotonic_ns()
                self._played.waited += 1
                self._played.waited_ms += (free_ns - began_ns) / 1e6
        if (cancel := self._cancel(asked)) is not None:
            await _sleep_until(self._clock.now(cancel.t_ns))
            if isinstance(asked.body, ENDLESS) and not isinstance(asked.end, Error):
                late_ns = self._clock.now(cancel.t_ns) + int(LISTEN_S * 1e9)
                await self._until(lambda: self._heard_all(asked), late_ns)
            stream.cancel("as recorded")

    def _cancel(self, asked: Asked) -> Sent | None:
        """When its caller gave it up. One that was killed or recorded to no end did not say."""
        cancels = [sent for sent in asked.sent if isinstance(sent.body, Cancel)]
        if cancels:
            return cancels[0]
        superseded = isinstance(asked.end, Cancelled) and asked.end.reason == "superseded"
        if isinstance(asked.end, Cancelled | Error) and isinstance(asked.body, ENDLESS) and not superseded:
            return Sent(asked.ended_ns, Cancel(reason=""), b"")
        return Sent(self._last_ns, Cancel(reason=""), b"") if asked.end is None else None

    def _heard_all(self, asked: Asked) -> bool:
        """Whether who listens to its conversation has got as many answers as then."""
        conversation = conversation_of(asked.body)
        for number, other in enumerate(self._asked):
            if isinstance(other.body, LISTENERS) and conversation_of(other.body) in ("", conversation):
                now = self._now(number)
                if (0 if now is None else now.answers) < other.answers and number not in self._failures:
                    return False
        return True

    async def _result(self, asked: Asked, stream: Stream) -> None:
        """Until its end. Raises what it fails with."""
        try:
            async with asyncio.timeout(asked.ttl_ms / 1000 + 1 if asked.ttl_ms else ANSWER_S):
                await stream.result()
        except TimeoutError:
            stream.cancel("no answer")
            raise CallError(Code.DEADLINE, f"{asked.daemon} did not end {asked.name}") from None

    async def _at(self, due_ns: int) -> None:
        await _sleep_until(due_ns)
        self._played.late_ms = max(self._played.late_ms, (time.monotonic_ns() - due_ns) / 1e6)


async def _sleep_until(due_ns: int) -> None:
    if (left_ns := due_ns - time.monotonic_ns()) > 0:
        await asyncio.sleep(left_ns / 1e9)


async def _read(stream: Stream) -> None:
    """Reads, so that its sender gets credit; what it reads the capture has seen."""
    with suppress(CallError, CallCancelled):
        async for _ in stream:
            continue
