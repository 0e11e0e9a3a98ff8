"""A server and its clients on either wire, with handlers that do what tests need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ipc import codec
from ipc.call import Call, Handler
from ipc.client import Client
from ipc.codec import Message
from ipc.errors import Code
from ipc.ids import new_rid
from ipc.inproc import InprocClient, InprocHub
from ipc.messages import (
    FEATURES,
    Body,
    Clause,
    ClauseReady,
    Done,
    Error,
    Fed,
    Generate,
    Generated,
    Hello,
    Kind,
    Ping,
    Pong,
    Release,
    Result,
    Spoken,
    StatusReport,
    Token,
    Welcome,
)
from ipc.server import Server
from ipc.session import Exchange, Session, Side
from ipc.transport import ClientTransport, ServerTransport, ZmqClientTransport, ZmqServerTransport

DAEMON = "llm"
GENERATED = Generated(
    prompt_tokens=1, cached_tokens=0, completion_tokens=0, finish="stop", received_ns=0, first_token_ns=0
)
HANG_S = 30.0
"""No test takes this long; one that does hangs."""


def prompt(tokens: int) -> Generate:
    return Generate(messages=[], max_tokens=tokens)


def report() -> StatusReport:
    return StatusReport(
        daemon=DAEMON,
        state="ready",
        detail="",
        engine="none",
        model="",
        device="",
        pid=1,
        uptime_s=0.0,
        rss_bytes=0,
        requests_open=0,
        last_error="",
    )


# --- handlers ------------------------------------------------------------------------------------------


async def tokens(call: Call) -> Result:
    """`max_tokens` tokens as fast as credit allows."""
    for number in range(call.body.max_tokens):
        await call.send(Token(text=str(number), t_ns=number))
    return GENERATED


async def count_audio(call: Call) -> Result:
    frames = size = 0
    async for _, payload in call:
        frames, size = frames + 1, size + len(payload)
    return Fed(frames=frames, dropped_ms=size)


async def echo_clauses(call: Call) -> Result:
    """A `clause_ready` for each clause, with its length; `release` is not answered."""
    count = 0
    async for item, _ in call:
        if isinstance(item, Clause):
            await call.send(ClauseReady(index=count, received_ns=len(item.text), started_ns=0, ready_ns=0))
            count += 1
        else:
            assert isinstance(item, Release)
    return Spoken(clauses=count, audio_ms=0)


class Blocked:
    """A handler that waits until it is let go or cancelled, and remembers how it ended."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.let_go = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.calls = 0

    async def __call__(self, call: Call) -> Result:
        self.calls += 1
        self.started.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Done()


# --- either wire ---------------------------------------------------------------------------------------


class Wire:
    """Where servers and clients meet: a folder of sockets, or a hub in this process."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._hub = InprocHub()

    def server_transport(self) -> ServerTransport:
        return ZmqServerTransport(DAEMON, self.folder) if self.folder else self._hub

    def client_transport(self) -> ClientTransport:
        return ZmqClientTransport(DAEMON, self.folder) if self.folder else InprocClient(self._hub)

    @asynccontextmanager
    async def server(self, handlers: Mapping[type[Body], Handler] | None = None) -> AsyncIterator[Server]:
        server = Server(DAEMON, self.server_transport(), handlers or {}, report)
        server.start()
        try:
            yield server
        finally:
            await server.close()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        client = Client(DAEMON, "test", transport=self.client_transport())
        await client.start()
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def pair(self, handlers: Mapping[type[Body], Handler]) -> AsyncIterator[tuple[Server, Client]]:
        async with self.server(handlers) as server, self.client() as client:
            await client.wait_connected(HANG_S)
            yield server, client


def run(test: Coroutine[Any, Any, None]) -> None:
    """Runs one test; one that hangs fails. Nothing it started may be left over."""

    async def main() -> None:
        await asyncio.wait_for(test, HANG_S)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left over: {left}"

    asyncio.run(main())


async def until(true: Callable[[], Any]) -> None:
    """Waits for something to become true; `run` bounds the wait."""
    while not true():  # noqa: ASYNC110 - what it waits for are counters, not events
        await asyncio.sleep(0.005)


# --- peers that do as they are told --------------------------------------------------------------------


class RawClient:
    """A client without rules: sends any frames, keeps the messages that come."""

    def __init__(self, wire: Wire) -> None:
        self.got: list[Message] = []
        self.ups = 0
        """How often it was connected."""
        self._transport = wire.client_transport()

    async def __aenter__(self) -> RawClient:
        self._transport.start(self._up, lambda: None, lambda frames: self.got.append(codec.decode(frames)))
        await until(lambda: self.ups)
        return self

    def _up(self) -> None:
        self.ups += 1

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()

    def frames(self, *frames: bytes) -> None:
        assert self._transport.send(frames)

    def say(
        self, rid: bytes, body: Body, *, seq: int = 0, epoch: int = 1, ttl_ms: int = 0, payload: bytes = b""
    ) -> None:
        self.frames(*codec.encode(Message(rid, seq, epoch, ttl_ms, body, payload)))

    async def hello(self) -> None:
        rid = new_rid()
        self.say(rid, hello())
        assert isinstance((await self.answers(rid))[-1].body, Welcome)

    async def answers(self, rid: bytes, count: int = 1) -> list[Message]:
        """The first `count` messages under `rid`."""
        await until(lambda: len([m for m in self.got if m.rid == rid]) >= count)
        return [m for m in self.got if m.rid == rid]


def hello(proto_min: int = 1, proto_max: int = 1) -> Hello:
    return Hello(name="raw", proto_min=proto_min, proto_max=proto_max, features=[], boot_id=bytes(16), pid=1)


class RawServer:
    """A server that answers `hello` and `ping` while `alive`, and keeps what else comes."""

    def __init__(self, wire: Wire, boot_id: bytes = b"b" * 16) -> None:
        self.alive = True
        self.boot_id = boot_id
        self.got: list[Message] = []
        self.peers: list[bytes] = []
        self.sessions: dict[bytes, Session] = {}
        self._transport = wire.server_transport()

    async def __aenter__(self) -> RawServer:
        self._transport.start(self._arrived, lambda peer, quota: None, lambda peer: None)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()

    def _arrived(self, peer: bytes, frames: list[bytes]) -> None:
        message = codec.decode(frames)
        if not self.alive:
            return
        session = self.sessions.setdefault(peer, Session(Side.SERVER))
        if peer not in self.peers:
            self.peers.append(peer)
        exchange, _ = session.receive(message, 0)
        if isinstance(message.body, Hello):
            self._reply(peer, exchange, self.welcome())
        elif isinstance(message.body, Ping):
            self._reply(peer, exchange, Pong(t_ns=0))
        else:
            self.got.append(message)

    def _reply(self, peer: bytes, exchange: Exchange | None, body: Body) -> None:
        assert exchange is not None
        message = self.sessions[peer].stamp(exchange, body)
        self._transport.send(peer, codec.encode(message))
        self.sessions[peer].sent(exchange, message)

    def forget(self) -> None:
        """All that was asked and said: `frames` answers requests that its sessions believe to be open."""
        self.got.clear()
        self.sessions.clear()

    def welcome(self) -> Welcome:
        return Welcome(daemon=DAEMON, proto=1, features=FEATURES, boot_id=self.boot_id, pid=1)

    def frames(self, *frames: bytes) -> None:
        """Any frames to the newest peer."""
        self._transport.send(self.peers[-1], frames)

    def say(self, message: Message, body: Body, *, seq: int = 0) -> None:
        """`body` under the request of `message`."""
        self.frames(*codec.encode(Message(message.rid, seq, message.epoch, 0, body)))

    async def heard(self, kind: Kind) -> Message:
        await until(lambda: any(message.body.KIND is kind for message in self.got))
        return next(message for message in self.got if message.body.KIND is kind)


def refusals(messages: list[Message]) -> list[Code]:
    """The codes of the errors among `messages`."""
    return [message.body.code for message in messages if isinstance(message.body, Error)]
