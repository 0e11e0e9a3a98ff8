"""Client and server sessions against an oracle: random acts of both, allowed or not, over ordered pipes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ipc import limits
from ipc.codec import Message
from ipc.errors import LocalProtocolError, RemoteProtocolError
from ipc.messages import (
    Feed,
    Kind,
)
from ipc.session import TERMINALS, Exchange, Session, Side, State
from tests.unit.test_session import BODIES, GENERATE


@dataclass
class _Life:
    """What the oracle knows of one request: counters, no states."""

    rid: bytes
    client: Exchange
    server: Exchange | None = None
    ended: bool = False  # the client said end
    given_up: bool = False  # the client cancelled, superseded or expired it
    terminals_sent: int = 0
    terminals_seen: int = 0
    seen_after_terminal: int = 0
    credit: dict[Side, int] = field(default_factory=dict)  # what each side may still send, as it knows


class Conversation(RuleBasedStateMachine):
    """A client and a server, an ordered pipe each way, and random acts of both, allowed or not."""

    def __init__(self) -> None:
        super().__init__()
        self.client, self.server = Session(Side.CLIENT), Session(Side.SERVER)
        self.to_server: list[tuple[_Life, Message]] = []
        self.to_client: list[tuple[_Life, Message]] = []
        self.lives: list[_Life] = []
        self.now_ns = 0

    def _newest(self, rid: bytes) -> _Life | None:
        return next((life for life in reversed(self.lives) if life.rid == rid), None)

    def _draw(self, number: int) -> _Life:
        return self.lives[-1 - number % min(3, len(self.lives))]

    @precondition(lambda self: len(self.client.open) < 3)
    @rule(rid=st.integers(0, 9), ttl_ms=st.sampled_from([0, 1, 5000]), audio=st.booleans())
    def request(self, rid: int, ttl_ms: int, audio: bool) -> None:
        body = Feed(conversation="a") if audio else GENERATE
        key = rid.to_bytes(16, "big")
        if older := self._newest(key):
            older.given_up = True
        message = self.client.new_request(body, key, ttl_ms)
        life = _Life(key, self.client.opened(message, self.now_ns))
        assert life.client.deadline_ns == (self.now_ns + ttl_ms * 1_000_000 if ttl_ms else 0)
        life.credit = {Side.CLIENT: body.CREDIT, Side.SERVER: body.CREDIT}
        self.lives.append(life)
        self.to_server.append((life, message))

    @precondition(lambda self: self.lives)
    @rule(number=st.integers(0, 99), kind=st.sampled_from([k for k in Kind if k is not Kind.REQUEST]))
    def client_acts(self, number: int, kind: Kind) -> None:
        life = self._draw(number)
        allowed = not (life.given_up or life.terminals_seen) and {
            Kind.UP: not life.ended and life.credit[Side.CLIENT] > 0,
            Kind.END: not life.ended,
            Kind.CREDIT: True,
            Kind.CANCEL: True,
        }.get(kind, False)
        self._act(self.client, life.client, life, kind, allowed, self.to_server, Side.CLIENT)

    @precondition(lambda self: any(life.server for life in self.lives))
    @rule(number=st.integers(0, 99), kind=st.sampled_from([k for k in Kind if k is not Kind.REQUEST]))
    def server_acts(self, number: int, kind: Kind) -> None:
        life = self._draw(number)
        if life.server is None:
            return
        cancel_known = life.server.state is State.CANCELLING
        allowed = not life.terminals_sent and {
            Kind.DOWN: life.credit[Side.SERVER] > 0,
            Kind.CREDIT: True,
            **dict.fromkeys(TERMINALS, True),
        }.get(kind, False)
        self._act(self.server, life.server, life, kind, allowed, self.to_client, Side.SERVER)
        assert not cancel_known or life.server.state in (State.CANCELLING, State.CLOSED)

    def _act(
        self,
        session: Session,
        exchange: Exchange,
        life: _Life,
        kind: Kind,
        allowed: bool,
        pipe: list[tuple[_Life, Message]],
        side: Side,
    ) -> None:
        if not allowed:
            with pytest.raises(LocalProtocolError):
                session.stamp(exchange, BODIES[kind])
            return
        message = session.stamp(exchange, BODIES[kind])
        session.sent(exchange, message)
        pipe.append((life, message))
        if kind in (Kind.UP, Kind.DOWN):
            life.credit[side] -= 1
        life.ended |= kind is Kind.END
        life.given_up |= kind is Kind.CANCEL
        life.terminals_sent += kind in TERMINALS

    @precondition(lambda self: len(self.client.open) > 1)
    @rule(number=st.integers(0, 99))
    def client_expires(self, number: int) -> None:
        life = self._draw(number)
        life.given_up = True
        self.client.end(life.client)

    @precondition(lambda self: self.to_server)
    @rule(count=st.integers(1, 9))
    def server_receives(self, count: int) -> None:
        for _ in range(min(count, len(self.to_server))):
            self._one_at_server()

    def _one_at_server(self) -> None:
        life, message = self.to_server.pop(0)
        exchange, superseded = self.server.receive(message, self.now_ns)
        if message.body.KIND is Kind.REQUEST:
            assert exchange is not None, "epochs of a client only rise: no request of it is late"
            assert exchange.deadline_ns - self.now_ns == message.ttl_ms * 1_000_000 or not message.ttl_ms
            life.server = exchange
            self._answer_superseded(superseded)
            return
        over = life.terminals_sent or self._is_superseded_at_server(life)
        assert (exchange is None) == bool(over)
        if exchange is not None:
            assert exchange is life.server
            self._credit_arrives(life, message, Side.CLIENT)

    def _answer_superseded(self, superseded: Exchange | None) -> None:
        open_lives = [one for one in self.lives if one.server is not None and one.server is superseded]
        assert len(open_lives) == bool(superseded)
        for older in open_lives:
            assert not older.terminals_sent
            self._act(self.server, older.server, older, Kind.CANCELLED, True, self.to_client, Side.SERVER)  # type: ignore[arg-type]

    def _is_superseded_at_server(self, life: _Life) -> bool:
        newer = [one for one in self.lives if one.rid == life.rid and one.client.epoch > life.client.epoch]
        return any(one.server is not None for one in newer)

    def _credit_arrives(self, life: _Life, message: Message, sender: Side) -> None:
        if message.body.KIND is Kind.CREDIT:
            life.credit[Side.SERVER if sender is Side.CLIENT else Side.CLIENT] += 1

    @precondition(lambda self: self.to_client)
    @rule(count=st.integers(1, 9))
    def client_receives(self, count: int) -> None:
        for _ in range(min(count, len(self.to_client))):
            self._one_at_client()

    def _one_at_client(self) -> None:
        life, message = self.to_client.pop(0)
        was_closed = life.client.closed
        exchange, _ = self.client.receive(message, self.now_ns)
        if exchange is None:
            assert life.given_up
            life.terminals_seen += message.body.KIND in TERMINALS and not was_closed
            return
        assert exchange is life.client
        assert not life.given_up or message.body.KIND in TERMINALS, "a cancel is final"
        life.seen_after_terminal += bool(life.terminals_seen)
        life.terminals_seen += message.body.KIND in TERMINALS
        self._credit_arrives(life, message, Side.SERVER)

    @precondition(lambda self: self.now_ns < 10**10)
    @rule(step=st.integers(1, 10**10))
    def time_passes(self, step: int) -> None:
        self.now_ns += step

    @precondition(lambda self: self.lives)
    @rule(number=st.integers(0, 99), kind=st.sampled_from(list(Kind)), seq=st.integers(0, 5), epoch=st.integers(0, 9))
    def a_stranger_lies_to_a_copy_of_the_server(self, number: int, kind: Kind, seq: int, epoch: int) -> None:
        """Whatever a peer makes up is taken, late, or a RemoteProtocolError; nothing goes below zero."""
        victim = Session(Side.SERVER)
        for _, message in self.to_server[:5]:
            _receive_or_refuse(victim, message)
        _receive_or_refuse(victim, Message(self._draw(number).rid, seq, epoch, 0, BODIES[kind]))
        assert all(e.receive_credit >= 0 for e in victim.open)

    @invariant()
    def exactly_one_terminal_and_nothing_after_it(self) -> None:
        for life in self.lives:
            assert life.terminals_sent <= 1
            assert life.terminals_seen <= life.terminals_sent
            assert life.seen_after_terminal == 0
            assert life.server is None or life.server.closed == bool(life.terminals_sent)

    @invariant()
    def credit_is_what_was_granted_less_what_was_sent(self) -> None:
        for life in self.lives:
            for side, exchange in ((Side.CLIENT, life.client), (Side.SERVER, life.server)):
                if exchange is not None:
                    assert 0 <= exchange.send_credit <= limits.CREDIT_MAX
                    assert 0 <= exchange.receive_credit <= limits.CREDIT_MAX
                    if not exchange.closed:
                        assert exchange.send_credit == life.credit[side] or life.given_up

    @invariant()
    def only_the_newest_of_a_rid_is_open(self) -> None:
        for session in (self.client, self.server):
            rids = [exchange.rid for exchange in session.open]
            assert len(rids) == len(set(rids))
            assert not any(exchange.closed for exchange in session.open)


def _receive_or_refuse(session: Session, message: Message) -> None:
    try:
        session.receive(message, 0)
    except RemoteProtocolError as error:
        for exchange in session.open:
            if (exchange.rid, exchange.epoch) == (error.rid, error.epoch):
                session.end(exchange)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
