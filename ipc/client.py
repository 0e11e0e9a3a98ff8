"""The client side: one connection to one daemon, any number of requests on it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from ipc import codec, limits
from ipc.channel import Channel, Transmit
from ipc.codec import Message
from ipc.deadlines import Deadlines
from ipc.endpoints import daemons_dir
from ipc.errors import (
    CallCancelled,
    CallError,
    Code,
    DeadlineExceeded,
    PeerGone,
    RemoteProtocolError,
)
from ipc.ids import BOOT_ID, new_rid
from ipc.marks import NO_MARKS, Marker, Stage
from ipc.messages import FEATURES, Body, Cancel, Cancelled, CreditGrant, End, Error, Hello, Kind, Ping, Result, Welcome
from ipc.network import House
from ipc.session import Exchange, Session, Side, State
from ipc.transport import ClientTransport, ZmqClientTransport
from ipc.transport_far import HouseTransport

log = logging.getLogger(__name__)

_LAST_WORD_NS = 250_000_000
"""How much longer than its deadline a request waits: the server's own `error: deadline` tells more."""


class Stream(Channel):
    """One request as its caller sees it: items both ways, then `result()`."""

    def __init__(self, session: Session, exchange: Exchange, transmit: Transmit, marks: Marker = NO_MARKS) -> None:
        super().__init__(session, exchange, transmit, marks)
        self._result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """No more items from this side. After the request's own end it does nothing: `result` tells of that."""
        if self._exchange.state is State.OPEN and self._failure is None:
            self._put_or_fail(End())

    def cancel(self, reason: str = "not wanted") -> None:
        """Gives the request up. Whatever still comes is dropped; waiting for it raises CallCancelled."""
        if self.abandon(reason):
            self._inbox.clear()
            self.fail(CallCancelled(reason))

    def abandon(self, reason: str) -> bool:
        """Tells the peer to give the request up. False: it has ended already, or was given up before."""
        if self._exchange.state not in (State.OPEN, State.ENDED):
            return False
        if not self._put(Cancel(reason=reason[: limits.NAME_MAX_CHARS])):
            self._session.end(self._exchange)
        return True

    async def result(self) -> Result:
        """The result. Raises CallError when the request failed, CallCancelled when it was given up."""
        return await asyncio.shield(self._result)

    def done(self, result: Result) -> None:
        if not self._result.done():
            self._result.set_result(result)
        self.complete()

    def fail(self, reason: BaseException) -> None:
        super().fail(reason)
        if not self._result.done():
            self._result.set_exception(reason)
            self._result.exception()  # seen: whoever drops a stream is not interested in its end


class Client:
    """A connection to `daemon` that heals itself: requests wait for it a moment, or fail with PeerGone.
    `house`: the daemon is on another machine. `marks`: of what goes and comes."""

    def __init__(
        self,
        daemon: str,
        name: str,
        *,
        folder: Path | None = None,
        house: House | None = None,
        transport: ClientTransport | None = None,
        marks: Marker = NO_MARKS,
    ) -> None:
        self.daemon = daemon
        self.peer: Welcome | None = None
        self._name = name
        self._transport = transport or _transport(daemon, folder, house)
        self._refusal = ""
        self._marks = marks
        self._session = Session(Side.CLIENT)
        self._streams: dict[Exchange, Stream] = {}
        self._ready = asyncio.Event()
        self._wired = False
        self._last_heard_ns = 0
        self._started = False
        self._hello: Stream | None = None
        self._ping: Stream | None = None
        self.on_lost: Callable[[], None] = lambda: None
        """Called when a peer that was there is gone, after its requests have failed."""

    async def start(self) -> Self:
        """Begins to connect. Returns at once; requests wait for the connection."""
        self._started = True
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines()
        self._transport.start(self._up, self._down, self._arrived)
        self._ticker = self._loop.call_later(limits.PING_INTERVAL_S, self._tick)
        return self

    async def close(self) -> None:
        """Gives up what is open and frees the socket. Without `start`, or again, it does nothing."""
        if not self._started:
            return
        self._started = False
        self._ticker.cancel()
        self._deadlines.close()
        for stream in list(self._streams.values()):
            stream.cancel("the caller is leaving")
        self._ready.clear()
        self._lose("the connection was closed here")
        self._transport.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        return self._ready.is_set()

    async def wait_connected(self, timeout_s: float = limits.CONNECT_TIMEOUT_S) -> None:
        """Raises PeerGone when the daemon does not answer in time."""
        try:
            async with asyncio.timeout(
                timeout_s
            ):  # wait_for of Python 3.11 swallows a cancel in the moment it is ready
                await self._ready.wait()
        except TimeoutError:
            why = self._refusal or self._transport.trouble or "is it running? (timmy up)"
            raise PeerGone(f"{self.daemon} does not answer at {self._transport.where}: {why}") from None

    async def request(self, body: Body, *, rid: bytes | None = None, ttl_ms: int = 5000) -> Result:
        """One question, one answer. `ttl_ms`: time given to all of it, the connection included."""
        if not self._ready.is_set():
            began = self._loop.time()
            await self.wait_connected(min(ttl_ms / 1000 or limits.CONNECT_TIMEOUT_S, limits.CONNECT_TIMEOUT_S))
            waited_ms = int((self._loop.time() - began) * 1000)
            ttl_ms = ttl_ms and max(1, ttl_ms - waited_ms)
        stream = self.open(body, rid=rid, ttl_ms=ttl_ms)
        try:
            return await stream._result
        except asyncio.CancelledError:
            stream.cancel()
            raise

    def open(self, body: Body, *, rid: bytes | None = None, ttl_ms: int = 0) -> Stream:
        """Opens a request with streams. `ttl_ms` 0: it lives until it ends. Raises PeerGone when not connected."""
        if not self._ready.is_set():
            raise PeerGone(f"{self.daemon} is not connected")
        return self._open(body, rid or new_rid(), ttl_ms)

    def _open(self, body: Body, rid: bytes, ttl_ms: int) -> Stream:
        now_ns = time.monotonic_ns()
        message = self._session.new_request(body, rid, ttl_ms)
        if not self._send(message):
            self._lose(f"{self.daemon} went away")
            raise PeerGone(f"{self.daemon} went away")
        exchange = self._session.opened(message, now_ns)
        for older in [e for e in self._streams if e.closed]:
            self._streams[older].fail(CallCancelled("superseded"))
            self._forget(older)
        stream = Stream(self._session, exchange, self._send, NO_MARKS if body.UPKEEP else self._marks)
        stream.mark(Stage.SENT, now_ns)
        self._streams[exchange] = stream
        if ttl_ms:
            self._deadlines.add(exchange, exchange.deadline_ns + _LAST_WORD_NS, partial(self._expire, exchange))
        return stream

    # --- the connection ---

    def _up(self) -> None:
        self._lose(f"{self.daemon} restarted")
        self._wired = True
        self._greet()

    def _down(self) -> None:
        self._wired = False
        self._lose(f"{self.daemon} went away")

    def _greet(self) -> None:
        hello = Hello(
            name=self._name,
            proto_min=limits.PROTOCOL_VERSION,
            proto_max=limits.PROTOCOL_VERSION,
            features=FEATURES,
            boot_id=BOOT_ID,
            pid=os.getpid(),
        )
        with suppress(PeerGone):  # _tick tries again
            self._hello = self._open(hello, new_rid(), int(self._transport.silence_s * 1000))
            self._hello._result.add_done_callback(partial(self._greeted, self._hello))

    def _greeted(self, hello: Stream, result: asyncio.Future[Result]) -> None:
        if hello is not self._hello:
            return  # it belongs to a connection that is gone
        self._hello = None
        if error := result.exception():
            if str(error) != self._refusal:  # it is asked again and again
                log.warning("%s did not welcome us: %s", self.daemon, error)
            self._refusal = str(error)
            return
        self._refusal = ""
        welcome = result.result()
        if isinstance(welcome, Welcome):
            self.peer = welcome
            self._ready.set()

    def _lose(self, reason: str) -> None:
        """Fails everything that is open: nobody will answer it."""
        was_there = self._ready.is_set()
        self._ready.clear()
        self._ping = self._hello = None
        for exchange, stream in list(self._streams.items()):
            self._session.end(exchange)
            stream.fail(PeerGone(reason))
            self._forget(exchange)
        if was_there:
            self.on_lost()

    def _tick(self) -> None:
        """Pings; gives up a peer that did not answer the last one; greets again one that came to."""
        # Time that this loop itself lost is not the peer's silence.
        self._last_heard_ns += int(max(0.0, self._loop.time() - self._ticker.when()) * 1e9)
        # All clients at the same moments: an idle process wakes once for all of them.
        next_s = (self._loop.time() // limits.PING_INTERVAL_S + 1) * limits.PING_INTERVAL_S
        self._ticker = self._loop.call_at(next_s, self._tick)
        silent_s = (time.monotonic_ns() - self._last_heard_ns) / 1e9
        if not self._ready.is_set():
            if self._wired and self._hello is None:
                self._greet()
        elif self._ping is not None and silent_s > self._transport.silence_s:
            for stream in list(self._streams.values()):
                stream.abandon("no sign of life")
            self._lose(f"{self.daemon} does not answer any more")
        elif self._ping is None and (self._streams or silent_s > limits.IDLE_PING_INTERVAL_S):
            with suppress(PeerGone):
                self._ping = self._open(Ping(), new_rid(), 0)

    # --- in and out ---

    def _arrived(self, frames: list[bytes]) -> None:
        try:
            message = codec.decode(frames)
            self._last_heard_ns = time.monotonic_ns()
            exchange, _ = self._session.receive(message, self._last_heard_ns)
        except RemoteProtocolError as error:
            self._broken(error)
            return
        if exchange is not None:
            self._hand_over(exchange, message)

    def _hand_over(self, exchange: Exchange, message: Message) -> None:
        stream, body = self._streams[exchange], message.body
        if body.KIND is Kind.DOWN:
            stream.deliver(body, message.payload)
        elif isinstance(body, CreditGrant):
            stream.credited()
        else:
            self._forget(exchange)
            stream.mark(Stage.RECEIVED, self._last_heard_ns)
            if isinstance(body, Result):
                stream.done(body)
            elif isinstance(body, Error):
                stream.fail(_call_error(body))
                if body.code is Code.PEER_GONE:
                    self._forgotten_by_peer()
            elif isinstance(body, Cancelled):
                stream.fail(CallCancelled(body.reason))

    def _forgotten_by_peer(self) -> None:
        """The daemon does not know us (any more): start over."""
        if self._ready.is_set():
            self._lose(f"{self.daemon} had given us up")

    def _broken(self, error: RemoteProtocolError) -> None:
        log.warning("%s broke the protocol: %s", self.daemon, error)
        for exchange, stream in list(self._streams.items()):
            if exchange.rid == error.rid and exchange.epoch == error.epoch:
                stream.abandon("protocol error")
                self._session.end(exchange)
                self._forget(exchange)
                stream.fail(CallError(Code.BAD_MESSAGE, f"{self.daemon} broke the protocol: {error}"))

    def _expire(self, exchange: Exchange) -> None:
        if stream := self._streams.get(exchange):
            stream.abandon("deadline")
            self._session.end(exchange)
            stream.fail(DeadlineExceeded(f"{self.daemon} did not answer in time"))
            self._forget(exchange)

    def _forget(self, exchange: Exchange) -> None:
        if self._streams.pop(exchange, None) is self._ping:
            self._ping = None

    def _send(self, message: Message) -> bool:
        return self._transport.send(codec.encode(message))


def _transport(daemon: str, folder: Path | None, house: House | None) -> ClientTransport:
    return HouseTransport(daemon, house) if house else ZmqClientTransport(daemon, folder or daemons_dir())


def _call_error(body: Error) -> CallError:
    if body.code is Code.DEADLINE:
        return DeadlineExceeded(body.detail)
    if body.code is Code.PEER_GONE:
        return PeerGone(body.detail)
    return CallError(body.code, body.detail)
