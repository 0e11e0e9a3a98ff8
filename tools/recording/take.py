"""Taking a recording: what daemons tell of all that passes, as entries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Self

from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError, Code, PeerGone
from ipc.messages import Passed, Record
from tools.recording.file import Entry, Gap

Sink = Callable[[Entry | Gap], None]

DRAIN_S = 5.0
"""A daemon that does not tell the rest in this time hangs."""

AGAIN_S = 0.2

_COMES_BACK = frozenset({Code.PEER_GONE, Code.OVER_QUOTA})
"""After these a recording of the daemon can begin anew."""


class Take:
    """`async with Take(daemons, sink) as take: await take.until(future)`. All that passes meanwhile goes to `sink`.

    Raises CallError when one of the daemons is not there or too old. One that goes away later leaves a Gap, and is
    recorded again when it has come back."""

    def __init__(self, daemons: Sequence[str], sink: Sink, folder: Path | None = None) -> None:
        self.gaps: list[Gap] = []
        self._sink = sink
        self._clients = {daemon: Client(daemon, "record", folder=folder) for daemon in daemons}
        self._streams: dict[str, Stream] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()
        self._ending = False

    async def __aenter__(self) -> Self:
        try:
            for client in self._clients.values():
                await self._stack.enter_async_context(client)
            for client in self._clients.values():
                await client.wait_connected()
                self._begin(client)
            self._tasks = [asyncio.create_task(self._keep(client)) for client in self._clients.values()]
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def until(self, happened: asyncio.Future[Any]) -> None:
        """Waits for it. Raises what the sink raises, and what a daemon says that refuses to be recorded."""
        done, _ = await asyncio.wait({*self._tasks, happened}, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        try:
            for stream in self._streams.values():
                with suppress(PeerGone):  # its task has seen it, too
                    stream.end()
            await asyncio.wait(self._tasks, timeout=DRAIN_S)
            for daemon, task in zip(self._clients, self._tasks, strict=True):
                if not task.done():
                    self._gap(daemon, f"{daemon} does not tell the rest")
                elif error := task.exception():
                    raise error
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._stack.aclose()

    def _begin(self, client: Client) -> None:
        assert client.peer is not None
        if "record" not in client.peer.features:
            raise CallError(Code.UNKNOWN_TYPE, f"{client.daemon} is of an older release, which cannot be recorded")
        self._streams[client.daemon] = client.open(Record())

    async def _keep(self, client: Client) -> None:
        """Records one daemon, whatever becomes of it."""
        while True:
            try:
                if client.daemon not in self._streams:
                    await client.wait_connected()
                    self._begin(client)
                await self._take(client.daemon, self._streams[client.daemon])
                return
            except (CallError, CallCancelled) as error:
                if isinstance(error, CallError) and error.code not in _COMES_BACK:
                    raise
                if self._streams.pop(client.daemon, None) is not None:
                    self._gap(client.daemon, str(error))
            if self._ending:
                return
            await asyncio.sleep(AGAIN_S)

    async def _take(self, daemon: str, stream: Stream) -> None:
        frames: list[bytes] = []
        async for item, payload in stream:
            assert isinstance(item, Passed)
            frames.append(payload)
            if not item.more:
                self._sink(Entry(item.t_ns, daemon, item.peer, item.caller, item.incoming, item.under_way, frames))
                frames = []
        await stream.result()

    def _gap(self, daemon: str, detail: str) -> None:
        gap = Gap(time.monotonic_ns(), daemon, detail)
        self.gaps.append(gap)
        self._sink(gap)
