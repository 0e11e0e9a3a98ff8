"""Who records what passes at a daemon's socket. Nothing of it is lost unseen, and the daemon waits for nobody.

What passes is put into a backlog for each recorder and goes out as its credit allows. A backlog that grows over
RECORD_BACKLOG_MAX_BYTES ends its recording with an error instead of a gap that nobody would notice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from ipc import codec, limits
from ipc.channel import Channel
from ipc.codec import Message
from ipc.errors import CallCancelled, CallError, Code
from ipc.messages import Done, Passed, Result

log = logging.getLogger(__name__)

_ITEM_BYTES = 200
"""About what an item takes beside its frame."""


class Passing(NamedTuple):
    """Whose message it is, and which way it goes."""

    peer: int
    caller: str
    incoming: bool


class Backlog:
    """What a recorder has not been sent yet."""

    def __init__(self) -> None:
        self._items: deque[tuple[Passed, bytes]] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._ended = self._over = False

    def put(self, passing: Passing, t_ns: int, frames: Sequence[bytes], *, under_way: bool = False) -> None:
        if self._over:
            return
        frames = [frame for frame in frames if frame]
        for number, frame in enumerate(frames, 1):
            passed = Passed(
                t_ns=t_ns,
                peer=passing.peer,
                caller=passing.caller,
                incoming=passing.incoming,
                more=number < len(frames),
                under_way=under_way,
            )
            self._items.append((passed, frame))
            self._bytes += len(frame) + _ITEM_BYTES
        if self._bytes > limits.RECORD_BACKLOG_MAX_BYTES:
            self._over = True
            self._items.clear()
        self._changed.set()

    def end(self) -> None:
        """Nothing more is wanted but what is in it."""
        self._ended = True
        self._changed.set()

    async def next(self) -> tuple[Passed, bytes] | None:
        """The oldest item; None after the last one. Raises CallError(OVER_QUOTA)."""
        while not self._items:
            if self._over:
                raise CallError(Code.OVER_QUOTA, "the recorder does not keep up: what it had not read yet is lost")
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        self._bytes -= len(item[1]) + _ITEM_BYTES
        return item


class Recorders:
    """Those of one daemon. `active`: there are any."""

    def __init__(self, daemon: str) -> None:
        self.active = False
        self._daemon = daemon
        self._backlogs: dict[bytes, Backlog] = {}

    def see(self, rid: bytes, passing: Passing, frames: Sequence[bytes]) -> None:
        """A message of the request `rid` has come or leaves."""
        if rid not in self._backlogs:
            now_ns = time.monotonic_ns()
            for backlog in self._backlogs.values():
                backlog.put(passing, now_ns, frames)

    async def record(self, call: Channel, under_way: Iterable[tuple[Passing, int, Message]]) -> Result:
        """Serves one `record`. Raises CallError(BUSY | OVER_QUOTA). `under_way`: the requests that are open, looked at
        when the recording begins."""
        if len(self._backlogs) >= limits.RECORDERS_MAX:
            raise CallError(Code.BUSY, f"{limits.RECORDERS_MAX} recordings of {self._daemon} are going on already")
        backlog = self._backlogs[call.rid] = Backlog()
        self.active = True
        for passing, t_ns, request in under_way:
            backlog.put(passing, t_ns, codec.encode(request), under_way=True)
        log.info("%s is being recorded: everything that passes, words and sound", self._daemon)
        ending = asyncio.create_task(_until_end(call, backlog))
        try:
            while (item := await backlog.next()) is not None:
                await call.send(*item)
            return Done()
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)
            del self._backlogs[call.rid]
            self.active = bool(self._backlogs)
            log.info("a recording of %s has ended", self._daemon)


async def _until_end(call: Channel, backlog: Backlog) -> None:
    with suppress(CallError, CallCancelled):
        async for _ in call:
            continue  # a recorder has nothing to say; what it says all the same changes nothing
        backlog.end()
