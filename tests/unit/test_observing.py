"""What an observer says, in whatever pieces it comes, and what waits for it."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc import limits
from ipc.observing import Outbox, Subscriber
from ipc.zmtp import GREETING, MORE, Violation, command, cut, frame, multipart, ready

HANDSHAKE = GREETING + ready(b"SUB")
SECOND_NS = 10**9
TOPICS = (b"", b"llm", b"llm.token", b"llm.toke", b"tts")


def shaken() -> Subscriber:
    subscriber = Subscriber()
    assert subscriber.hear(HANDSHAKE, 0) == [ready(b"XPUB")]
    return subscriber


# --- what it says ---


@pytest.mark.parametrize("kind", [b"SUB", b"XSUB"])
@pytest.mark.parametrize("version", [b"\x03\x00", b"\x03\x01"])
def test_a_subscriber_is_let_through(kind: bytes, version: bytes) -> None:
    subscriber = Subscriber()
    for byte in GREETING[:10] + version + GREETING[12:-1]:
        assert subscriber.hear(bytes([byte]), 0) == []
    assert subscriber.hear(GREETING[-1:], 0) == [ready(b"XPUB")]
    assert not subscriber.shaken
    assert subscriber.hear(ready(kind), 0) == []
    assert subscriber.shaken


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (ready(b"DEALER"), "no subscriber: b'READY' b'DEALER'"),
        (ready(b"PUB"), "no subscriber"),
        (command(b"READY"), "no subscriber: b'READY' b''"),
        (command(b"HELLO", bytes(100)), "no subscriber: b'HELLO' b''"),
        (command(b"ERROR", b"\x03400"), "no subscriber"),
        (command(b"READY", b"\xff"), "cut short"),
        (frame(b"\x01llm"), "a message before the end of its handshake"),
        (frame(bytes(257)), "a frame of 257 bytes"),
    ],
)
def test_nobody_else_is(said: bytes, what: str) -> None:
    with pytest.raises(Violation, match=what):
        Subscriber().hear(GREETING + said, 0)


PINGS = {command(b"PING", b"\0\0abc"): command(b"PONG", b"abc"), command(b"PING", b"\0\x0a"): command(b"PONG")}
WORDS = [
    *[(said, "add", topic) for topic in TOPICS for said in (frame(b"\x01" + topic), command(b"SUBSCRIBE", topic))],
    *[(said, "discard", topic) for topic in TOPICS for said in (frame(b"\x00" + topic), command(b"CANCEL", topic))],
    *[(noise, "", b"") for noise in (frame(b""), frame(b"\x02hello"), command(b"UNHEARD", b"of"), *PINGS)],
    (multipart([b"\x00nothing", b"\x01llm"]), "", b""),
    (multipart([b"\x02", b"\x01llm", b"\x01tts"]), "", b""),
]


@given(st.lists(st.sampled_from(WORDS), max_size=30), st.data())
def test_pieces_do_not_matter(words: list[tuple[bytes, str, bytes]], data: st.DataObject) -> None:
    stream = HANDSHAKE + b"".join(said for said, _, _ in words)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    subscriber, topics = Subscriber(), set[bytes]()
    answers = [
        answer
        for start, end in itertools.pairwise([0, *sorted(cuts), len(stream)])
        for answer in subscriber.hear(stream[start:end], 0)
    ]
    for _, act, topic in words:
        if act:
            getattr(topics, act)(topic)
    assert subscriber.topics == topics
    assert answers == [ready(b"XPUB"), *[PINGS[said] for said, _, _ in words if said in PINGS]]
    assert subscriber.wants(b"llm.token") == bool(topics & {b"", b"llm", b"llm.toke", b"llm.token"})
    assert subscriber.wants(b"ll") == (b"" in topics)


@given(st.binary(max_size=2000), st.integers(1, 100))
def test_garbage_is_kept_within_a_frame(data: bytes, step: int) -> None:
    subscriber = shaken()
    with suppress(Violation):
        for at in range(0, len(data), step):
            subscriber.hear(data[at : at + step], 0)
            assert len(subscriber._buffer) < 9 + limits.SUBSCRIPTION_MAX_BYTES


def test_a_topic_that_is_subscribed_to_twice_is_cancelled_once() -> None:
    subscriber = shaken()
    subscriber.hear(frame(b"\x01llm") * 2 + command(b"SUBSCRIBE", b"llm") + frame(b"\x00llm"), 0)
    assert subscriber.topics == set()


@pytest.mark.parametrize("ping", [command(b"PING"), command(b"PING", b"\0"), command(b"PING", bytes(19))])
def test_a_ping_has_a_time_and_a_context(ping: bytes) -> None:
    with pytest.raises(Violation, match="a PING that is none"):
        shaken().hear(ping, 0)


def test_subscriptions_in_force_are_bounded() -> None:
    subscriber = shaken()
    for number in range(limits.SUBSCRIPTIONS_MAX):
        subscriber.hear(frame(b"\x01%d" % number), number * SECOND_NS)
    assert len(subscriber.topics) == limits.SUBSCRIPTIONS_MAX
    with pytest.raises(Violation, match="over 1,024 subscriptions"):
        subscriber.hear(command(b"SUBSCRIBE", b"one more"), 2 * limits.SUBSCRIPTIONS_MAX * SECOND_NS)


@pytest.mark.parametrize("word", [frame(b"\x01"), frame(b"\x00"), frame(b""), command(b"PING", b"\0\0")])
def test_words_in_a_second_are_bounded(word: bytes) -> None:
    subscriber = Subscriber()
    subscriber.hear(HANDSHAKE + word * (limits.SUBSCRIPTIONS_MAX - 1), SECOND_NS)
    subscriber.hear(word * limits.SUBSCRIPTIONS_MAX, 2 * SECOND_NS)
    with pytest.raises(Violation, match="over 1,024 words within a second"):
        subscriber.hear(word, 3 * SECOND_NS - 1)


# --- what waits for it ---


def units(stream: bytes) -> list[list[bytes]]:
    """The messages, and each command alone, in what went out. Raises AssertionError for what is not whole."""
    found: list[list[bytes]] = [[]]
    at = 0
    while at < len(stream):
        cut_out = cut(stream, at)
        assert cut_out, "a frame is not whole"
        flags, start, at = cut_out
        found[-1].append(stream[start:at])
        if not flags & MORE:
            found.append([])
    assert found.pop() == [], "a message is not whole"
    return found


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from((0, 100, 300, 60_000))),
            st.tuples(st.just("answer"), st.just(0)),
            st.tuples(st.just("write"), st.sampled_from((0, 1, 200, 70_000, 10**9))),
        ),
        max_size=100,
    )
)
def test_whole_messages_go_out_in_their_order(acts: list[tuple[str, int]]) -> None:
    outbox, out, due, answers = Outbox(), bytearray(), list[list[bytes]](), 0
    for number, (act, size) in enumerate(acts):
        if act == "add":
            message = [b"topic", bytes(size), b"%d" % number]
            if outbox.add(multipart(message)):
                due.append(message)
        elif act == "answer":
            outbox.answer(command(b"PONG", b"x"))
            answers += 1
        else:
            part = outbox.next()[:size]
            out += part
            outbox.wrote(len(part))
    while part := outbox.next():
        out += part
        outbox.wrote(len(part))
    said = units(bytes(out))
    assert [unit for unit in said if unit[0] == b"topic"] == due
    pongs = len(said) - len(due)
    assert pongs == answers or pongs >= 16
    assert outbox._bytes == 0


def test_what_waits_is_bounded_in_messages() -> None:
    outbox = Outbox()
    assert [outbox.add(b"\x00\x01x") for _ in range(limits.OBSERVATION_BACKLOG_MAX + 2)].count(False) == 2
    outbox.wrote(len(outbox.next()) - 1)
    assert not outbox.add(b"\x00\x01x"), "it is not out yet"
    assert outbox.wrote(1)
    assert outbox.add(b"\x00\x01x")


def test_what_waits_is_bounded_in_bytes() -> None:
    outbox, message = Outbox(), frame(bytes(65_536))
    kept = [outbox.add(message) for _ in range(100)].count(True)
    assert kept == limits.OBSERVATION_BACKLOG_MAX_BYTES // len(message)
    assert len(outbox.next()) <= 2 * len(message)


def test_answers_that_nobody_reads_are_bounded() -> None:
    outbox = Outbox()
    outbox.add(b"\x00\x01m")
    assert bytes(outbox.next()) == b"\x00\x01m"
    outbox.wrote(1)
    for _ in range(1000):
        outbox.answer(b"\x04\x05\x04PONG")
    outbox.add(b"\x00\x01n")
    assert bytes(outbox.next()) == b"\x01m"
    assert not outbox.wrote(2)
    assert bytes(outbox.next()) == b"\x04\x05\x04PONG" * 16 + b"\x00\x01n"
