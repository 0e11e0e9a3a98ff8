"""The rules of a request, against an oracle that knows them another way."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ipc import limits
from ipc.codec import Message
from ipc.errors import Code, LocalProtocolError, RemoteProtocolError
from ipc.messages import (
    Audio,
    Body,
    Cancel,
    Cancelled,
    CreditGrant,
    Delta,
    Done,
    End,
    Error,
    Feed,
    Generate,
    Kind,
    Ping,
)
from ipc.session import TABLE, TERMINALS, Exchange, Session, Side, State

RID = bytes(16)
GENERATE = Generate(messages=[], max_tokens=1)
BODIES: dict[Kind, Body] = {
    Kind.REQUEST: GENERATE,
    Kind.UP: Audio(t_ns=0),
    Kind.END: End(),
    Kind.CANCEL: Cancel(reason="enough"),
    Kind.DOWN: Delta(text="a"),
    Kind.CREDIT: CreditGrant(n=1),
    Kind.DONE: Done(),
    Kind.ERROR: Error(code=Code.INTERNAL, detail=""),
    Kind.CANCELLED: Cancelled(reason=""),
}


def _put(session: Session, exchange: Exchange, body: Body) -> Message:
    message = session.stamp(exchange, body)
    session.sent(exchange, message)
    return message


def _pair(body: Body = GENERATE, ttl_ms: int = 0) -> tuple[Session, Exchange, Session, Exchange]:
    client, server = Session(Side.CLIENT), Session(Side.SERVER)
    message = client.new_request(body, RID, ttl_ms)
    at_client = client.opened(message, 1000)
    at_server, superseded = server.receive(message, 2000)
    assert at_server is not None
    assert superseded is None
    return client, at_client, server, at_server


# --- the table -----------------------------------------------------------------------------------------


def _in_state(state: State) -> tuple[dict[Side, Session], dict[Side, Exchange]]:
    """A request whose two sides both stand in `state`."""
    client, at_client, server, at_server = _pair()
    if state is State.ENDED:
        server.receive(_put(client, at_client, End()), 0)
    elif state is State.CANCELLING:
        server.receive(_put(client, at_client, Cancel(reason="")), 0)
    elif state is State.CLOSED:
        client.receive(_put(server, at_server, Done()), 0)
    assert at_client.state is at_server.state is state
    return {Side.CLIENT: client, Side.SERVER: server}, {Side.CLIENT: at_client, Side.SERVER: at_server}


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("state", [s for s in State if s is not State.IDLE])
def test_what_the_table_allows_both_sides_allow_and_nothing_else(state: State, side: Side, kind: Kind) -> None:
    sessions, exchanges = _in_state(state)
    other = Side.SERVER if side is Side.CLIENT else Side.CLIENT
    here, there = exchanges[side], exchanges[other]
    following = TABLE.get((state, side, kind))
    message = Message(RID, here.send_seq, here.epoch, 0, BODIES[kind])
    if following is None:
        with pytest.raises(LocalProtocolError, match="cannot be sent"):
            sessions[side].stamp(here, BODIES[kind])
        if kind is Kind.REQUEST or state is State.CLOSED:
            return  # under its own rules; late
        with pytest.raises(RemoteProtocolError, match="is not allowed"):
            sessions[other].receive(message, 0)
    else:
        assert sessions[side].stamp(here, BODIES[kind]) == message
        assert here.state is state, "stamping moves nothing"
        sessions[side].sent(here, message)
        sessions[other].receive(message, 0)
        assert here.state is there.state is following


def test_every_state_can_be_reached_and_left_but_the_last() -> None:
    assert set(TABLE.values()) == set(State) - {State.IDLE}
    assert {state for state, _, _ in TABLE} == set(State) - {State.CLOSED}
    assert {kind for _, _, kind in TABLE} == set(Kind)
    for (state, side, kind), following in TABLE.items():
        assert (following is State.CLOSED) == (kind in TERMINALS)
        assert side is Side.SERVER or kind not in TERMINALS
        assert state is not State.CANCELLING or side is Side.SERVER, "a client that gave up says nothing more"


# --- opening -------------------------------------------------------------------------------------------


def test_only_a_client_opens_and_only_with_a_request() -> None:
    with pytest.raises(LocalProtocolError, match="cannot open"):
        Session(Side.SERVER).new_request(Ping(), RID, 0)
    with pytest.raises(LocalProtocolError, match="cannot open"):
        Session(Side.CLIENT).new_request(Cancel(reason=""), RID, 0)


def test_a_request_to_a_client_is_refused() -> None:
    client, at_client, _, _ = _pair()
    with pytest.raises(RemoteProtocolError, match="ping is not allowed"):
        client.receive(Message(RID, 0, at_client.epoch, 0, Ping()), 0)


def test_what_crosses_a_cancel_is_dropped_and_its_terminal_is_not() -> None:
    client, at_client, server, at_server = _pair()
    crossing = [_put(server, at_server, body) for body in (Delta(text="a"), CreditGrant(n=1))]
    server.receive(_put(client, at_client, Cancel(reason="")), 0)
    assert [client.receive(message, 0) for message in crossing] == [(None, None)] * 2
    assert client.receive(_put(server, at_server, Cancelled(reason="")), 0) == (at_client, None)
    assert client.late == 2
    assert not client.open


def test_the_deadline_counts_from_the_clock_of_each_side() -> None:
    _, at_client, _, at_server = _pair(ttl_ms=250)
    assert (at_client.deadline_ns, at_server.deadline_ns) == (1000 + 250_000_000, 2000 + 250_000_000)
    _, at_client, _, at_server = _pair(ttl_ms=0)
    assert (at_client.deadline_ns, at_server.deadline_ns) == (0, 0)


def test_credit_is_what_the_request_says() -> None:
    for body in (GENERATE, Feed(conversation="a")):
        _, *both = _pair(body)
        for exchange in (both[0], both[2]):
            assert isinstance(exchange, Exchange)
            assert exchange.send_credit == exchange.receive_credit == body.CREDIT


def test_a_request_starts_at_seq_0() -> None:
    server = Session(Side.SERVER)
    with pytest.raises(RemoteProtocolError, match="starts at seq 0, not 3"):
        server.receive(Message(RID, 3, 1, 0, Ping()), 0)
    assert not server.open


def test_a_higher_epoch_supersedes_and_the_older_one_is_ended_by_its_server() -> None:
    client, old_client, server, old_server = _pair()
    message = client.new_request(Ping(), RID, 0)
    client.opened(message, 0)
    assert old_client.closed
    exchange, superseded = server.receive(message, 0)
    assert superseded is old_server
    assert exchange is not None
    assert exchange.epoch > old_server.epoch
    assert client.receive(_put(server, old_server, Cancelled(reason="")), 0) == (None, None)
    assert server.open == {exchange}
    assert client.late == 1


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_request_of_an_epoch_already_seen_is_late(epoch: int) -> None:
    client, _, server, at_server = _pair()
    assert at_server.epoch == 1
    assert server.receive(Message(RID, 0, epoch, 0, Ping()), 0) == (None, None)
    client.receive(_put(server, at_server, Done()), 0)
    assert server.receive(Message(RID, 0, epoch, 0, Ping()), 0) == (None, None)
    assert server.late == 2


def test_an_epoch_never_opened_is_refused() -> None:
    _, _, server, at_server = _pair()
    with pytest.raises(RemoteProtocolError, match="never opened"):
        server.receive(Message(RID, 1, at_server.epoch + 1, 0, End()), 0)


def test_a_rid_that_both_forgot_can_be_used_again() -> None:
    client, at_client, server, at_server = _pair()
    client.receive(_put(server, at_server, Done()), 0)
    for number in range(1, limits.REMEMBERED_RIDS + 2):
        message = client.new_request(Ping(), number.to_bytes(16, "big"), 0)
        client.opened(message, 0)
        exchange, _ = server.receive(message, 0)
        assert exchange is not None
        client.receive(_put(server, exchange, Done()), 0)
    message = client.new_request(Ping(), RID, 0)
    assert message.epoch > at_client.epoch
    exchange, _ = server.receive(message, 0)
    assert exchange is not None


# --- quotas --------------------------------------------------------------------------------------------


def test_open_requests_have_a_quota_that_superseding_does_not_touch() -> None:
    server = Session(Side.SERVER)
    for number in range(limits.OPEN_REQUESTS_PER_PEER):
        server.receive(Message(number.to_bytes(16, "big"), 0, 1, 0, Ping()), 0)
    with pytest.raises(RemoteProtocolError, match="over 64 requests") as caught:
        server.receive(Message(b"z" * 16, 0, 1, 0, Ping()), 0)
    assert caught.value.code is Code.OVER_QUOTA
    exchange, superseded = server.receive(Message(RID, 0, 2, 0, Ping()), 0)
    assert superseded is not None
    assert exchange in server.open


def test_an_item_without_credit_is_refused_on_both_sides() -> None:
    client, at_client, server, at_server = _pair(Feed(conversation="a"))
    for _ in range(limits.CREDIT_AUDIO):
        server.receive(_put(client, at_client, Audio(t_ns=0)), 0)
    with pytest.raises(LocalProtocolError, match="no credit"):
        client.stamp(at_client, Audio(t_ns=0))
    with pytest.raises(RemoteProtocolError, match="without credit") as caught:
        server.receive(Message(RID, at_client.send_seq, 1, 0, Audio(t_ns=0)), 0)
    assert caught.value.code is Code.OVER_QUOTA
    assert at_server.receive_credit == 0


def test_a_grant_over_the_limit_is_refused_on_both_sides() -> None:
    client, at_client, server, _ = _pair()
    most = CreditGrant(n=limits.CREDIT_MAX - limits.CREDIT_EVENTS)
    server.receive(_put(client, at_client, most), 0)
    with pytest.raises(LocalProtocolError, match="over the limit"):
        client.stamp(at_client, CreditGrant(n=1))
    with pytest.raises(RemoteProtocolError, match="granted over 4096") as caught:
        server.receive(Message(RID, at_client.send_seq, 1, 0, CreditGrant(n=1)), 0)
    assert caught.value.code is Code.OVER_QUOTA


@pytest.mark.parametrize("seq", [0, 2, limits.SEQ_MAX])
def test_a_gap_or_a_repeat_is_refused(seq: int) -> None:
    _, _, server, _ = _pair()
    with pytest.raises(RemoteProtocolError, match=f"seq {seq} came, 1 was due") as caught:
        server.receive(Message(RID, seq, 1, 0, End()), 0)
    assert (caught.value.rid, caught.value.epoch) == (RID, 1)


def test_what_was_stamped_but_not_sent_leaves_no_trace() -> None:
    client, at_client, server, _ = _pair()
    first = client.stamp(at_client, Audio(t_ns=1))
    second = client.stamp(at_client, Audio(t_ns=2))
    assert first.seq == second.seq == 1
    client.sent(at_client, second)
    server.receive(second, 0)
    assert at_client.send_credit == limits.CREDIT_EVENTS - 1


def test_what_nobody_knows_is_late() -> None:
    for side, body in ((Side.CLIENT, Done()), (Side.SERVER, End())):
        session = Session(side)
        assert session.receive(Message(RID, 7, 7, 0, body), 0) == (None, None)
        assert session.late == 1


# --- client and server against an oracle -----------------------------------------------------------------


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


def test_memory_is_bounded_however_many_requests_there_were() -> None:
    client, server = Session(Side.CLIENT), Session(Side.SERVER)
    kept_open = client.opened(client.new_request(Ping(), b"k" * 16, 0), 0)
    for number in range(3 * limits.REMEMBERED_RIDS):
        message = client.new_request(Ping(), number.to_bytes(16, "big"), 0)
        client.opened(message, 0)
        exchange, _ = server.receive(message, 0)
        assert exchange is not None
        client.receive(_put(server, exchange, Done()), 0)
    assert len(server._exchanges) <= limits.REMEMBERED_RIDS + 1
    assert len(client._exchanges) <= limits.REMEMBERED_RIDS + 2
    assert client.open == {kept_open}
    assert not server.open
