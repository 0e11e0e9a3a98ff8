"""The server side: requests in, one task each, exactly one terminal out."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ipc import codec, limits
from ipc.access import Guest
from ipc.accounts import Account
from ipc.call import Call, Caller, Handler, checked, failure
from ipc.codec import Message
from ipc.complaints import Complaints
from ipc.deadlines import Deadlines
from ipc.errors import CallError, Code, RemoteProtocolError
from ipc.ids import BOOT_ID
from ipc.marks import NO_MARKS, Marker
from ipc.messages import (
    FEATURES,
    Body,
    Cancelled,
    CreditGrant,
    Error,
    Hello,
    Kind,
    Ping,
    Pong,
    Record,
    Result,
    Status,
    StatusReport,
    Welcome,
)
from ipc.recorders import Passing, Recorders
from ipc.session import Exchange, Session, Side
from ipc.transport import ServerTransport

log = logging.getLogger(__name__)

_UNREAD = f"over {limits.UNREAD_MAX_MESSAGES:,} messages that it does not read"


@dataclass(eq=False)
class _Peer:
    number: int
    """Of the connection, in the life of the daemon."""
    guest: Guest | None = None
    name: str = ""
    session: Session = field(default_factory=lambda: Session(Side.SERVER))
    account: Account = field(default_factory=Account)
    caller: Caller = field(default_factory=Caller)
    calls: dict[Exchange, Call] = field(default_factory=dict)
    tasks: dict[Exchange, asyncio.Task[None]] = field(default_factory=dict)
    greeted: bool = False
    last_seen_ns: int = 0


class Server:
    """Serves `handlers` on a transport. One per daemon; lives on one event loop. `marks`: of what comes and goes."""

    def __init__(
        self,
        daemon: str,
        transport: ServerTransport,
        handlers: Mapping[type[Body], Handler],
        status: Callable[[], StatusReport],
        marks: Marker = NO_MARKS,
    ) -> None:
        self.daemon = daemon
        self._marks = marks
        self._transport = transport
        self._status = status
        self._handlers: dict[type[Body], Handler] = {
            Hello: self._hello,
            Ping: lambda _: Pong(t_ns=time.monotonic_ns()),
            Status: lambda _: self._status(),
            Record: lambda call: self._recorders.record(call, self._under_way()),
            **handlers,
        }
        self._peers: dict[bytes, _Peer] = {}
        self._connections = itertools.count(1)
        self._recorders = Recorders(daemon)
        self._refusals, self._cuts = Complaints(daemon), Complaints(daemon)
        self._running: set[asyncio.Task[None]] = set()
        self._published = 0
        self._stopping = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines()
        self._transport.start(self._arrived, self._cut, self._drop)
        self._sweeper = self._loop.call_later(limits.CLIENT_SILENCE_S / 2, self._sweep)

    async def close(self) -> None:
        """Ends every request with `error: peer_gone` and frees the sockets. Once is enough, twice does no harm."""
        if self._stopping:
            return
        self._stopping = True
        self._sweeper.cancel()
        self._deadlines.close()
        for peer in self._peers.values():
            for exchange in list(peer.calls):
                self._end(peer, exchange, self._going())
        # Those that ended earlier and still clean up are among them.
        await asyncio.gather(*self._running, return_exceptions=True)
        self._transport.close()
        for complaints in (self._refusals, self._cuts):
            complaints.close()

    def _going(self) -> Error:
        return Error(code=Code.PEER_GONE, detail=f"{self.daemon} is stopping")

    @property
    def requests_open(self) -> int:
        return sum(len(peer.calls) for peer in self._peers.values())

    # --- in ---

    def _arrived(self, route: bytes, frames: list[bytes]) -> None:
        now_ns = time.monotonic_ns()
        guest = self._transport.guest
        peer = self._peers.get(route)
        if peer is not None and peer.guest != guest:
            self._expel(route)
            peer = None
        if peer is None:
            peer = self._peers[route] = _Peer(next(self._connections), guest)
            self._limit_peers(route)
        peer.last_seen_ns = now_ns
        if over := peer.account.came(sum(map(len, frames)), now_ns):
            self._cut(route, over)
            return
        try:
            message = codec.decode(frames)
            self._check_right(guest, message)
            self._observe(peer, message, frames, incoming=True)
            if not peer.greeted and not isinstance(message.body, Hello):
                self._not_greeted(message)
                return
            exchange, superseded = peer.session.receive(message, now_ns)
        except RemoteProtocolError as error:
            self._refuse(route, peer, error)
            if over := peer.account.broke(now_ns):
                self._cut(route, over)
            return
        if superseded is not None:
            self._end(peer, superseded, Cancelled(reason="superseded"))
        if exchange is not None:
            self._dispatch(route, peer, exchange, message)

    def _check_right(self, guest: Guest | None, message: Message) -> None:
        if guest is not None and (reason := guest.refusal(self.daemon, message.body)):
            raise RemoteProtocolError(reason, Code.NOT_ALLOWED, message.rid, message.epoch)

    @staticmethod
    def _not_greeted(message: Message) -> None:
        """A caller that was given up learns it from its next request; what else it sends is late."""
        if message.body.KIND is Kind.REQUEST:
            raise RemoteProtocolError("say hello first", Code.PEER_GONE, message.rid, message.epoch)

    def _dispatch(self, route: bytes, peer: _Peer, exchange: Exchange, message: Message) -> None:
        kind = message.body.KIND
        if kind is Kind.REQUEST:
            self._begin(route, peer, exchange, message)
            return
        call = peer.calls[exchange]
        if kind is Kind.UP:
            call.deliver(message.body, message.payload)
        elif kind is Kind.END:
            call.complete()
        elif isinstance(message.body, CreditGrant):
            call.credited()
            if over := peer.account.granted(peer.session.credit):
                self._cut(route, over)
        else:
            self._end(peer, exchange, Cancelled(reason="cancelled by the caller"))

    def _begin(self, route: bytes, peer: _Peer, exchange: Exchange, message: Message) -> None:
        def transmit(out: Message) -> bool:
            return self._send(route, peer, out)

        marks = NO_MARKS if message.body.UPKEEP else self._marks
        call = Call(peer.session, exchange, transmit, message.body, marks, peer.guest, peer.caller)
        peer.calls[exchange] = call
        handler = self._handlers.get(type(message.body))
        if self._stopping:
            self._finish(peer, exchange, self._going())
            return
        if handler is None:
            detail = f"{self.daemon} does not serve {message.body.type_name()}"
            self._finish(peer, exchange, Error(code=Code.BAD_REQUEST, detail=detail))
            return
        if isinstance(message.body, Hello):
            peer.name = message.body.name
            peer.greeted = message.body.proto_min <= limits.PROTOCOL_VERSION <= message.body.proto_max
        try:
            outcome = handler(call)
        except Exception as error:
            self._finish(peer, exchange, failure(self.daemon, error))
            return
        if not isinstance(outcome, Awaitable):
            self._finish(peer, exchange, checked(self.daemon, outcome))
            return
        task = self._loop.create_task(self._run(peer, exchange, outcome))
        peer.tasks[exchange] = task
        self._running.add(task)
        task.add_done_callback(partial(self._ended, outcome))
        if exchange.deadline_ns:
            self._deadlines.add(exchange, exchange.deadline_ns, partial(self._late, peer, exchange, message))

    def _late(self, peer: _Peer, exchange: Exchange, request: Message) -> None:
        detail = f"{request.body.type_name()} took longer than {request.ttl_ms} ms"
        self._end(peer, exchange, Error(code=Code.DEADLINE, detail=detail))

    async def _run(self, peer: _Peer, exchange: Exchange, outcome: Awaitable[Result]) -> None:
        try:
            terminal = checked(self.daemon, await outcome)
        except asyncio.CancelledError:
            terminal = Cancelled(reason="cancelled")
        except Exception as error:
            terminal = failure(self.daemon, error)
        self._finish(peer, exchange, terminal)

    def _ended(self, outcome: Awaitable[Result], task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if inspect.iscoroutine(outcome):
            outcome.close()  # a task that is cancelled before it began has never awaited it

    def _hello(self, call: Call) -> Result:
        body: Hello = call.body
        if not body.proto_min <= limits.PROTOCOL_VERSION <= body.proto_max:
            raise CallError(
                Code.UNSUPPORTED_VERSION,
                f"{self.daemon} speaks version {limits.PROTOCOL_VERSION}, "
                f"{body.name} speaks {body.proto_min} to {body.proto_max}",
            )
        return Welcome(
            daemon=self.daemon,
            proto=limits.PROTOCOL_VERSION,
            features=FEATURES,
            boot_id=BOOT_ID,
            pid=os.getpid(),
            guest=call.guest.name if call.guest else "",
        )

    # --- ends ---

    def _finish(self, peer: _Peer, exchange: Exchange, terminal: Body) -> None:
        """Sends the terminal, if none was sent yet, and forgets the request."""
        call = peer.calls.pop(exchange, None)
        peer.tasks.pop(exchange, None)
        if call is not None and not exchange.closed:
            call.finish(terminal)

    def _end(self, peer: _Peer, exchange: Exchange, terminal: Body) -> None:
        """Ends a request that its handler has not ended: what must be over first, the terminal, then the task."""
        task = peer.tasks.get(exchange)
        if (call := peer.calls.get(exchange)) is not None and call.before_cut is not None:
            call.before_cut()
        self._finish(peer, exchange, terminal)
        if task is not None:
            task.cancel()

    def _refuse(self, route: bytes, peer: _Peer, error: RemoteProtocolError) -> None:
        self._complain(self._refusals, route, f"broke the protocol: {error}")
        broken = [e for e in peer.calls if e.rid == error.rid and e.epoch == error.epoch]
        terminal = Error(code=error.code, detail=str(error)[: limits.TEXT_MAX_CHARS])
        if broken:
            self._end(peer, broken[0], terminal)
        elif len(error.rid) == limits.RID_BYTES:
            self._send(route, peer, Message(error.rid, 0, error.epoch, 0, terminal))

    def _sweep(self) -> None:
        """Drops peers that fell silent: they are gone, their requests with them. Time that this loop
        itself lost is not their silence."""
        late_s = self._loop.time() - self._sweeper.when()
        horizon = time.monotonic_ns() - int((limits.CLIENT_SILENCE_S + late_s) * 1e9)
        for route, peer in list(self._peers.items()):
            if peer.last_seen_ns < horizon:
                self._drop(route)
            elif peer.guest is not None and not self._transport.still_allowed(peer.guest):
                self._expel(route)
        for complaints in (self._refusals, self._cuts):
            complaints.look(self._loop.time())
        self._sweeper = self._loop.call_later(limits.CLIENT_SILENCE_S / 2, self._sweep)

    def _limit_peers(self, newest: bytes) -> None:
        if len(self._peers) > limits.PEERS_MAX:
            others = {route: peer for route, peer in self._peers.items() if route != newest}
            idle = min(others, key=lambda route: (bool(others[route].calls), others[route].last_seen_ns))
            self._complain(
                self._refusals, idle, f"was the most idle of over {limits.PEERS_MAX} peers, and is forgotten"
            )
            self._drop(idle)

    def _cut(self, route: bytes, quota: str, *, alone: bool = False) -> None:
        """Disconnects a peer that is over a quota, if it has not left; with its whole process unless `alone`."""
        if self._stopping:
            return  # all connections end
        peer, cut = self._peers.get(route), self._transport.cut(route, alone)
        if cut:
            others = f", with {len(cut) - 1} more connections of the same process" if len(cut) > 1 else ""
            account = f" ({peer.account.summary}, {len(peer.calls)} requests open)" if peer is not None else ""
            self._complain(self._cuts, route, f"is disconnected{others}: {quota}{account}")
        for each in {route, *cut}:
            self._drop(each)

    def _complain(self, complaints: Complaints, route: bytes, what: str) -> None:
        peer, who = self._peers.get(route), self._transport.who(route)
        named = f"{peer.name!r} ({who})" if peer is not None and peer.name else who
        complaints.add(who, f"{named} {what}", self._loop.time())

    def _drop(self, route: bytes) -> None:
        self._transport.forget(route)
        if peer := self._peers.pop(route, None):
            self._part(peer, Cancelled(reason="the caller is gone"))

    def _expel(self, route: bytes) -> None:
        """Ends what a peer has open whose key is not allowed any more, or is another one now."""
        if peer := self._peers.pop(route, None):
            log.warning("%s: the key of %r is not allowed any more", self.daemon, peer.guest and peer.guest.name)
            self._part(peer, Error(code=Code.NOT_ALLOWED, detail="the key is not allowed any more"))

    def _part(self, peer: _Peer, terminal: Body) -> None:
        for exchange in list(peer.calls):
            self._end(peer, exchange, terminal)
        if not self._stopping:
            for farewell in peer.caller.farewells.values():
                farewell()

    # --- out ---

    def _send(self, route: bytes, peer: _Peer, message: Message) -> bool:
        """False: the peer left, does not read, or wants too much. It is dropped, never waited for."""
        frames = codec.encode(message)
        self._observe(peer, message, frames, incoming=False)
        over = peer.account.left(sum(map(len, frames)), time.monotonic_ns())
        if not over and self._transport.send(route, frames):
            return True
        self._loop.call_soon(partial(self._cut, route, over or _UNREAD, alone=not over))
        return False

    def _observe(self, peer: _Peer, message: Message, frames: Sequence[bytes], *, incoming: bool) -> None:
        if self._transport.observers:
            self._published += 1
            topic, number = f"{self.daemon}.{message.body.type_name()}", self._published
            self._transport.publish(topic.encode(), [frames[0], number.to_bytes(8, "big")])
        if self._recorders.active:
            self._recorders.see(message.rid, Passing(peer.number, peer.name, incoming), frames)

    def _under_way(self) -> Iterator[tuple[Passing, int, Message]]:
        """The requests that are open, and when they came."""
        for peer in self._peers.values():
            for exchange, call in peer.calls.items():
                if not call.body.UPKEEP:
                    request = Message(exchange.rid, 0, exchange.epoch, exchange.left_ms(time.monotonic_ns()), call.body)
                    yield Passing(peer.number, peer.name, incoming=True), call.received_ns, request
