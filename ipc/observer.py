"""Watching what passes at the sockets of daemons, without being noticed: the lossy side of the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from ipc import codec
from ipc.codec import Message
from ipc.endpoints import daemons_dir
from ipc.errors import RemoteProtocolError
from ipc.messages import Kind
from ipc.network import House
from ipc.transport import ZmqObserverTransport

QUEUE_MAX = 10_000
"""Headers that wait to be looked at; beyond them they are lost, and counted."""

FROM_CLIENT = frozenset({Kind.REQUEST, Kind.UP, Kind.END, Kind.CANCEL})


class Observed(NamedTuple):
    """A header that came to `daemon` or left it, without its payload. `t_ns`: monotonic, when it was seen here."""

    t_ns: int
    daemon: str
    message: Message


class Gaps:
    """Counts what was not seen: each daemon numbers what it publishes. What came before the first that was seen does
    not count, nor what a daemon that ended had said last."""

    def __init__(self) -> None:
        self.lost = 0
        self._due: dict[str, int] = {}

    def see(self, daemon: str, number: bytes) -> None:
        """What `daemon` published next, as it came."""
        came = int.from_bytes(number, "big")
        # A lower number than was due is a new life.
        self.lost += max(0, came - self._due.get(daemon, came))
        self._due[daemon] = came + 1


class Observer:
    """`async with Observer(daemons) as observer: async for seen in observer`. Daemons may come and go.

    `house`: those of another machine. Raises EndpointError when the sockets' folder cannot be trusted.
    """

    def __init__(self, daemons: Sequence[str], folder: Path | None = None, house: House | None = None) -> None:
        self._gaps = Gaps()
        self._dropped = 0
        self._transport = ZmqObserverTransport(daemons, folder or daemons_dir(), house)
        self._queue: asyncio.Queue[Observed] = asyncio.Queue(QUEUE_MAX)

    async def __aenter__(self) -> Self:
        self._transport.start(self._arrived)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    @property
    def lost(self) -> int:
        """Headers that a daemon did not wait to send, that were not looked at here in time, or that cannot be read."""
        return self._gaps.lost + self._dropped

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Observed:
        return await self._queue.get()

    def _arrived(self, daemon: str, frames: list[bytes]) -> None:
        _, *header, number = frames
        self._gaps.see(daemon, number)
        try:
            self._queue.put_nowait(Observed(time.monotonic_ns(), daemon, codec.decode(header)))
        except (RemoteProtocolError, asyncio.QueueFull):
            self._dropped += 1
