"""The rules of a request, as a table that does no I/O and does not know which side it is on.

A Session keeps the requests between two peers; client and server each have one. `stamp` makes what goes
out and `sent` is told that it went; `receive` judges what came in. Both directions move the request through
the same TABLE, so that neither side can do what the other would refuse. A request is `rid` and `epoch`; a
higher epoch supersedes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum, auto

from ipc import limits
from ipc.codec import Message
from ipc.errors import Code, LocalProtocolError, RemoteProtocolError
from ipc.messages import Body, CreditGrant, Kind


class State(IntEnum):
    """Where a request stands."""

    IDLE = auto()
    OPEN = auto()
    ENDED = auto()  # the upward stream is complete
    CANCELLING = auto()  # the client gave up; the terminal is on its way
    CLOSED = auto()  # the terminal was sent: nothing follows it


class Side(IntEnum):
    CLIENT = auto()
    SERVER = auto()


TABLE: dict[tuple[State, Side, Kind], State] = {
    (State.IDLE, Side.CLIENT, Kind.REQUEST): State.OPEN,
    (State.OPEN, Side.CLIENT, Kind.UP): State.OPEN,
    (State.OPEN, Side.CLIENT, Kind.END): State.ENDED,
    (State.OPEN, Side.CLIENT, Kind.CREDIT): State.OPEN,
    (State.OPEN, Side.CLIENT, Kind.CANCEL): State.CANCELLING,
    (State.OPEN, Side.SERVER, Kind.DOWN): State.OPEN,
    (State.OPEN, Side.SERVER, Kind.CREDIT): State.OPEN,
    (State.OPEN, Side.SERVER, Kind.DONE): State.CLOSED,
    (State.OPEN, Side.SERVER, Kind.ERROR): State.CLOSED,
    (State.OPEN, Side.SERVER, Kind.CANCELLED): State.CLOSED,
    (State.ENDED, Side.CLIENT, Kind.CREDIT): State.ENDED,
    (State.ENDED, Side.CLIENT, Kind.CANCEL): State.CANCELLING,
    (State.ENDED, Side.SERVER, Kind.DOWN): State.ENDED,
    (State.ENDED, Side.SERVER, Kind.CREDIT): State.ENDED,
    (State.ENDED, Side.SERVER, Kind.DONE): State.CLOSED,
    (State.ENDED, Side.SERVER, Kind.ERROR): State.CLOSED,
    (State.ENDED, Side.SERVER, Kind.CANCELLED): State.CLOSED,
    # What the server sent before it saw the cancel still arrives; the client drops it.
    (State.CANCELLING, Side.SERVER, Kind.DOWN): State.CANCELLING,
    (State.CANCELLING, Side.SERVER, Kind.CREDIT): State.CANCELLING,
    (State.CANCELLING, Side.SERVER, Kind.DONE): State.CLOSED,
    (State.CANCELLING, Side.SERVER, Kind.ERROR): State.CLOSED,
    (State.CANCELLING, Side.SERVER, Kind.CANCELLED): State.CLOSED,
}
"""(state, who sends, what) to the next state; what is not listed is not allowed."""

_ITEMS = {Side.CLIENT: Kind.UP, Side.SERVER: Kind.DOWN}
TERMINALS = frozenset({Kind.DONE, Kind.ERROR, Kind.CANCELLED})


@dataclass(slots=True, eq=False)
class Exchange:
    """One request as one side sees it. `deadline_ns` 0: none."""

    rid: bytes
    epoch: int
    deadline_ns: int
    send_credit: int
    receive_credit: int
    state: State = State.IDLE
    send_seq: int = 0
    receive_seq: int = 0

    @property
    def closed(self) -> bool:
        return self.state is State.CLOSED

    def left_ms(self, now_ns: int) -> int:
        """What `ttl_ms` would be now."""
        return self.deadline_ns and max(1, (self.deadline_ns - now_ns) // 1_000_000)


@dataclass(slots=True)
class Session:
    """The requests between this side and one peer.

    `late` counts messages that came for a request already ended or superseded: they are dropped, as they
    crossed its end on the wire. Clock readings are nanoseconds, monotonic.
    """

    side: Side
    late: int = 0
    _epoch: int = 0
    _exchanges: dict[bytes, Exchange] = field(default_factory=dict)
    _ended: deque[Exchange] = field(default_factory=deque)
    _open: set[Exchange] = field(default_factory=set)

    @property
    def open(self) -> frozenset[Exchange]:
        return frozenset(self._open)

    @property
    def credit(self) -> int:
        """What the peer has granted and was not used yet, in all open requests."""
        return sum(exchange.send_credit for exchange in self._open)

    def new_request(self, body: Body, rid: bytes, ttl_ms: int) -> Message:
        """Client: what opens a request. Nothing has happened until `opened` is told that it went out."""
        if self.side is not Side.CLIENT or body.KIND is not Kind.REQUEST:
            raise LocalProtocolError(f"{body.type_name()} cannot open a request here")
        # One count for all rids: a rid that was forgotten still gets an epoch that its server has not seen.
        return Message(rid, 0, self._epoch + 1, ttl_ms, body)

    def opened(self, message: Message, now_ns: int) -> Exchange:
        """Client: a request went out. An open one under the same rid is superseded: it ends here and now."""
        self._epoch = message.epoch
        if older := self._exchanges.get(message.rid):
            self.end(older)
        exchange = self._admit(message, now_ns)
        exchange.state, exchange.send_seq = State.OPEN, 1
        return exchange

    def stamp(self, exchange: Exchange, body: Body, payload: bytes = b"") -> Message:
        """What would go out next under `exchange`. Raises LocalProtocolError when it is not allowed now.
        Nothing has happened until `sent` is told that it went out."""
        if (exchange.state, self.side, body.KIND) not in TABLE or body.KIND is Kind.REQUEST:
            raise LocalProtocolError(f"{body.type_name()} cannot be sent: the request is {exchange.state.name}")
        if body.KIND is _ITEMS[self.side] and exchange.send_credit < 1:
            raise LocalProtocolError(f"{body.type_name()} cannot be sent: no credit")
        if isinstance(body, CreditGrant) and exchange.receive_credit + body.n > limits.CREDIT_MAX:
            raise LocalProtocolError(f"a grant of {body.n} is over the limit")
        return Message(exchange.rid, exchange.send_seq, exchange.epoch, 0, body, payload)

    def sent(self, exchange: Exchange, message: Message) -> None:
        """What `stamp` made went out."""
        body = message.body
        if body.KIND is _ITEMS[self.side]:
            exchange.send_credit -= 1
        elif isinstance(body, CreditGrant):
            exchange.receive_credit += body.n
        exchange.send_seq += 1
        self._move(exchange, TABLE[exchange.state, self.side, body.KIND])

    def receive(self, message: Message, now_ns: int) -> tuple[Exchange | None, Exchange | None]:
        """Judges what came in: (the request it belongs to, an open request that it supersedes).

        (None, None): late, to be dropped. Raises RemoteProtocolError; the request it names, if open, has
        to be ended by the caller.
        """
        exchange = self._exchanges.get(message.rid)
        kind = message.body.KIND
        if kind is Kind.REQUEST and self.side is Side.SERVER:
            return self._receive_request(message, exchange, now_ns)
        if exchange is None or message.epoch < exchange.epoch or exchange.closed:
            self.late += 1
            return None, None
        self._check(exchange, message)
        peer = Side.SERVER if self.side is Side.CLIENT else Side.CLIENT
        following = TABLE.get((exchange.state, peer, kind))
        if following is None:
            raise self._wrong(message, f"{message.body.type_name()} is not allowed: {exchange.state.name}")
        cancelling = exchange.state is State.CANCELLING
        self._account(exchange, message, peer)
        self._move(exchange, following)
        if cancelling and kind not in TERMINALS:
            self.late += 1
            return None, None
        return exchange, None

    def end(self, exchange: Exchange) -> None:
        """Ends a request without a word to the peer: it is gone, or the time is up."""
        self._move(exchange, State.CLOSED)

    def _receive_request(
        self, message: Message, older: Exchange | None, now_ns: int
    ) -> tuple[Exchange | None, Exchange | None]:
        if older is not None and message.epoch <= older.epoch:
            self.late += 1
            return None, None
        if message.seq != 0:
            raise self._wrong(message, f"a request starts at seq 0, not {message.seq}")
        superseded = older if older is not None and not older.closed else None
        if len(self._open) - bool(superseded) >= limits.OPEN_REQUESTS_PER_PEER:
            raise self._wrong(message, f"over {limits.OPEN_REQUESTS_PER_PEER} requests open", Code.OVER_QUOTA)
        exchange = self._admit(message, now_ns)
        exchange.state, exchange.receive_seq = State.OPEN, 1
        return exchange, superseded

    def _check(self, exchange: Exchange, message: Message) -> None:
        if message.epoch > exchange.epoch:
            raise self._wrong(message, f"epoch {message.epoch} was never opened")
        if message.seq != exchange.receive_seq:
            raise self._wrong(message, f"seq {message.seq} came, {exchange.receive_seq} was due")
        exchange.receive_seq += 1

    def _account(self, exchange: Exchange, message: Message, peer: Side) -> None:
        if message.body.KIND is _ITEMS[peer]:
            if exchange.receive_credit < 1:
                raise self._wrong(message, "an item came without credit", Code.OVER_QUOTA)
            exchange.receive_credit -= 1
        elif isinstance(message.body, CreditGrant):
            if exchange.send_credit + message.body.n > limits.CREDIT_MAX:
                raise self._wrong(message, f"granted over {limits.CREDIT_MAX} in all", Code.OVER_QUOTA)
            exchange.send_credit += message.body.n

    def _admit(self, message: Message, now_ns: int) -> Exchange:
        deadline = now_ns + message.ttl_ms * 1_000_000 if message.ttl_ms else 0
        credit = message.body.CREDIT
        exchange = Exchange(message.rid, message.epoch, deadline, send_credit=credit, receive_credit=credit)
        self._exchanges[message.rid] = exchange
        self._open.add(exchange)
        return exchange

    def _move(self, exchange: Exchange, state: State) -> None:
        exchange.state = state
        if state is State.CLOSED and exchange in self._open:
            self._open.remove(exchange)
            self._ended.append(exchange)
            if len(self._ended) > limits.REMEMBERED_RIDS:
                oldest = self._ended.popleft()
                if self._exchanges.get(oldest.rid) is oldest:
                    del self._exchanges[oldest.rid]

    @staticmethod
    def _wrong(message: Message, detail: str, code: Code = Code.BAD_MESSAGE) -> RemoteProtocolError:
        return RemoteProtocolError(detail, code, message.rid, message.epoch)
