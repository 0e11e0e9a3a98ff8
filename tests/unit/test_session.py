"""The rules of a request, one by one. test_session_oracle.py plays them at random."""

from __future__ import annotations

import pytest

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


def test_the_newest_request_of_a_rid_is_remembered_when_older_ones_are_forgotten() -> None:
    server = Session(Side.SERVER)

    def one(rid: bytes, epoch: int) -> Exchange | None:
        exchange, _ = server.receive(Message(rid, 0, epoch, 0, Ping()), 0)
        if exchange is not None:
            server.end(exchange)
        return exchange

    assert one(RID, 1)
    for number in range(1, limits.REMEMBERED_RIDS):
        assert one(number.to_bytes(16, "big"), 1)
    assert one(RID, 2), "the first one is forgotten now"
    assert one(RID, 2) is None, "the second is not"


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


@pytest.mark.parametrize(
    ("deadline_ns", "left_ms"), [(0, 0), (5_000_000_000, 4000), (1_000_000_001, 1), (999_999_999, 1)]
)
def test_what_is_left_of_a_request_s_time(deadline_ns: int, left_ms: int) -> None:
    """0 means no deadline on the wire, so one that has passed is not told as that."""
    assert Exchange(bytes(16), 1, deadline_ns, 0, 0).left_ms(now_ns=1_000_000_000) == left_ms
