"""Requests to a daemon for code that has no event loop: a connection in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError, Code
from ipc.ids import new_rid
from ipc.limits import CONNECT_TIMEOUT_S
from ipc.messages import Body, Delta, Result, Token

T = TypeVar("T")
START_S = 20.0
_LOOK_S = 0.005


@dataclass(slots=True)
class Reply:
    """All that came back for one request. `outcome`: "done", "error" or "cancelled", its one terminal."""

    rid: bytes
    items: list[Body] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    outcome: str = ""
    result: Result | None = None
    code: Code | None = None
    detail: str = ""
    ms: float = 0.0

    @property
    def text(self) -> str:
        """The tokens or deltas, joined."""
        return "".join(item.text for item in self.items if isinstance(item, Token | Delta))


class Line:
    """A context manager: one connection to one daemon."""

    def __init__(self, daemon: str, folder: Path, name: str = "harness") -> None:
        self._daemon, self._name, self._folder = daemon, name, folder
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name=f"line to {daemon}")

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with Client(self._daemon, self._name, folder=self._folder) as self.client:
            self._up.set()
            await self._end.wait()

    def wait(self, pid: int) -> None:
        """Until the process `pid` answers. Raises PeerGone when it does not."""
        self.run(_met(self.client, pid))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, run where `client` lives."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def ask(self, body: Body, *items: Body | tuple[Body, bytes], ttl_ms: int = 5000) -> Reply:
        """One request, the `items` that belong to it (each alone or with its payload), and all that comes back.
        A failure is a Reply like any other."""
        return self.run(ask(self.client, body, items, ttl_ms))

    def open(self, body: Body, *, rid: bytes | None = None, ttl_ms: int = 0) -> Open:
        """A request that goes on beside what follows."""
        return Open(self, self.run(_opened(self.client, body, rid, ttl_ms)))


class Open:
    """A request that is under way. What is not said here raises as `ipc.client.Stream` does."""

    def __init__(self, line: Line, stream: Stream) -> None:
        self._line, self._stream = line, stream
        self.rid = stream.rid

    def send(self, item: Body, payload: bytes = b"") -> None:
        self._line.run(self._stream.send(item, payload))

    def next(self) -> tuple[Body, bytes]:
        """The next item, waited for, with its payload. Raises StopAsyncIteration after the last."""
        return self._line.run(_next(self._stream))

    def end(self) -> None:
        self._line.run(_call(self._stream.end))

    def cancel(self) -> None:
        self._line.run(_call(self._stream.cancel))

    def reply(self) -> Reply:
        """What has not been read, and the end."""
        return self._line.run(_collected(self._stream))


async def ask(client: Client, body: Body, items: Sequence[Body | tuple[Body, bytes]] = (), ttl_ms: int = 5000) -> Reply:
    """As Line.ask, for code on an event loop."""
    began = time.monotonic()
    rid = new_rid()
    try:
        stream = await _opened(client, body, rid, ttl_ms)
    except CallError as error:
        return Reply(rid, outcome="error", code=error.code, detail=str(error), ms=(time.monotonic() - began) * 1000)
    sending = asyncio.create_task(_send(stream, items))
    reply = await _collected(stream)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)  # what ended the sending ended the request
    reply.ms = (time.monotonic() - began) * 1000
    return reply


async def _opened(client: Client, body: Body, rid: bytes | None, ttl_ms: int) -> Stream:
    if not client.connected:
        await client.wait_connected(min(ttl_ms / 1000 or CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S))
    return client.open(body, rid=rid, ttl_ms=ttl_ms)


async def _met(client: Client, pid: int) -> None:
    deadline = time.monotonic() + START_S
    while client.peer is None or client.peer.pid != pid or not client.connected:
        await client.wait_connected(deadline - time.monotonic())
        await asyncio.sleep(_LOOK_S)


async def _send(stream: Stream, items: Sequence[Body | tuple[Body, bytes]]) -> None:
    for item in items:
        await (stream.send(*item) if isinstance(item, tuple) else stream.send(item))
    stream.end()


async def _collected(stream: Stream) -> Reply:
    reply = Reply(stream.rid)
    try:
        async for item, payload in stream:
            reply.items.append(item)
            reply.payloads.append(payload)
        reply.result = await stream.result()
        reply.outcome = "done"
    except CallCancelled as error:
        reply.outcome, reply.detail = "cancelled", str(error)
    except CallError as error:
        reply.outcome, reply.code, reply.detail = "error", error.code, str(error)
    return reply


async def _next(stream: Stream) -> tuple[Body, bytes]:
    return await anext(aiter(stream))


async def _call(act: Callable[[], None]) -> None:
    act()
