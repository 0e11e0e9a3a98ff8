"""The server on both wires: requests, streams with credit, its end, and who may watch."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ipc import codec, limits
from ipc.call import Call
from ipc.errors import CallCancelled, Code, PeerGone
from ipc.ids import BOOT_ID, new_rid
from ipc.messages import (
    Audio,
    Clause,
    ClauseReady,
    Done,
    Error,
    Fed,
    Feed,
    Generate,
    Ping,
    Pong,
    Recall,
    Result,
    Say,
    Speak,
    Spoken,
    Status,
    Token,
    Welcome,
)
from tests.socket.rig import (
    GENERATED,
    Blocked,
    RawClient,
    Wire,
    count_audio,
    echo_clauses,
    hello,
    prompt,
    refusals,
    report,
    run,
    tokens,
    until,
)

# --- requests and streams ----------------------------------------------------------------------------------


def test_every_daemon_answers_ping_and_status(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({}) as (_, client):
            assert isinstance(await client.request(Ping()), Pong)
            assert await client.request(Status()) == report()
            assert client.peer is not None
            assert client.peer.boot_id == BOOT_ID

    run(test())


def test_a_plain_function_answers_at_once(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({Say: lambda call: Done()}) as (server, client):
            assert await client.request(Say(conversation="a", text="b")) == Done()
            assert server.requests_open == 0

    run(test())


def test_a_long_stream_comes_whole_and_in_order(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({Generate: tokens}) as (_, client):
            stream = client.open(prompt(4 * limits.CREDIT_EVENTS + 1))
            texts = [item.text async for item, _ in stream if isinstance(item, Token)]
            assert texts == [str(number) for number in range(4 * limits.CREDIT_EVENTS + 1)]
            assert await stream.result() == GENERATED

    run(test())


def test_an_upward_stream_comes_whole_with_its_payloads(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({Feed: count_audio}) as (_, client):
            stream = client.open(Feed(conversation="a"))
            for number in range(5 * limits.CREDIT_AUDIO):
                await stream.send(Audio(t_ns=number), b"\x01" * 640)
            stream.end()
            assert await stream.result() == Fed(
                frames=5 * limits.CREDIT_AUDIO, dropped_ms=640 * 5 * limits.CREDIT_AUDIO
            )

    run(test())


def test_both_streams_at_once(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({Speak: echo_clauses}) as (_, client):
            stream = client.open(Speak(conversation="a"))
            count = 2 * limits.CREDIT_EVENTS

            async def speak() -> None:
                for number in range(count):
                    await stream.send(Clause(text="x" * number))
                stream.end()

            speaking = asyncio.create_task(speak())
            ready = [item.received_ns async for item, _ in stream if isinstance(item, ClauseReady)]
            assert ready == list(range(count))
            await speaking
            assert await stream.result() == Spoken(clauses=count, audio_ms=0)

    run(test())


def test_a_reader_that_does_not_read_stops_the_sender(wire: Wire) -> None:
    async def test() -> None:
        sent = 0

        async def pour(call: Call) -> Result:
            nonlocal sent
            for _ in range(3 * limits.CREDIT_EVENTS):
                await call.send(Token(text="a", t_ns=0))
                sent += 1
            return GENERATED

        async with wire.pair({Generate: pour}) as (_, client):
            stream = client.open(prompt(1))
            await until(lambda: sent == limits.CREDIT_EVENTS)
            for _ in range(20):
                await client.request(Ping())
            assert sent == limits.CREDIT_EVENTS
            assert len([item async for item in stream]) == sent == 3 * limits.CREDIT_EVENTS

    run(test())


def test_a_handler_that_does_not_read_stops_the_caller(wire: Wire) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.pair({Feed: blocked}) as (_, client):
            stream = client.open(Feed(conversation="a"))
            for _ in range(limits.CREDIT_AUDIO):
                assert stream.offer(Audio(t_ns=0), b"pcm")
            waiting = asyncio.create_task(stream.send(Audio(t_ns=0)))
            for _ in range(20):
                await client.request(Ping())
            assert not waiting.done()
            assert not stream.offer(Audio(t_ns=0))
            blocked.let_go.set()
            with pytest.raises(CallCancelled, match="has ended"):
                await waiting
            assert await stream.result() == Done()

    run(test())


def test_offer_does_not_wait(wire: Wire) -> None:
    async def test() -> None:
        async def offer(call: Call) -> Result:
            taken = 0
            while call.offer(Token(text="a", t_ns=0)):
                taken += 1
            return Fed(frames=taken, dropped_ms=0)

        async with wire.pair({Generate: offer}) as (_, client):
            assert await client.request(prompt(1)) == Fed(frames=limits.CREDIT_EVENTS, dropped_ms=0)

    run(test())


# --- the end of a server -----------------------------------------------------------------------------------


def test_a_closing_server_ends_what_is_open_and_waits_for_it(wire: Wire) -> None:
    async def test() -> None:
        cleaned: list[str] = []

        async def careful(call: Call) -> Result:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)
                cleaned.append(call.body.text)
            return Done()

        async with wire.server({Recall: careful}) as server, wire.client() as client:
            await client.wait_connected()
            given_up = client.open(Recall(text="given up", limit=1))
            open_one = client.open(Recall(text="open", limit=1))
            await until(lambda: server.requests_open == 2)
            given_up.cancel()
            await until(lambda: server.requests_open == 1)
            assert not cleaned
            await server.close()
            assert sorted(cleaned) == ["given up", "open"]
            with pytest.raises(PeerGone, match=r"llm is stopping|llm went away"):
                await open_one.result()

    run(test())


def test_a_stopping_server_takes_nothing_new(wire: Wire) -> None:
    async def test() -> None:
        slow = asyncio.Event()

        async def stubborn(call: Call) -> Result:
            try:
                await asyncio.sleep(60)
            finally:
                await slow.wait()
            return Done()

        async with wire.server({Recall: stubborn}) as server, RawClient(wire) as raw:
            await raw.hello()
            rid, after = new_rid(), new_rid()
            raw.say(rid, Recall(text="a", limit=1))
            await until(lambda: server.requests_open == 1)
            closing = asyncio.create_task(server.close())
            assert refusals(await raw.answers(rid)) == [Code.PEER_GONE]
            raw.say(after, Recall(text="b", limit=1))
            (answer,) = await raw.answers(after)
            assert answer.body == Error(code=Code.PEER_GONE, detail="llm is stopping")
            slow.set()
            await closing

    run(test())


# --- observation -------------------------------------------------------------------------------------------


def test_observers_see_the_headers_of_both_directions() -> None:
    async def test() -> None:
        wire = Wire(None)
        hub = wire.server_transport()
        async with wire.pair({Generate: tokens}) as (_, client):
            hub.observers = 1  # type: ignore[misc]
            stream = client.open(prompt(2))
            assert len([item async for item in stream]) == 2
            published = hub.published  # type: ignore[attr-defined]
        topics = [topic for topic, _ in published]
        assert topics[:4] == [b"llm.generate", b"llm.token", b"llm.token", b"llm.generated"]
        for count, (topic, (header, number)) in enumerate(published, 1):
            message = codec.decode([header])
            assert topic == f"llm.{message.body.type_name()}".encode()
            assert int.from_bytes(number, "big") == count

    run(test())


def test_nobody_watching_costs_nothing() -> None:
    async def test() -> None:
        wire = Wire(None)
        async with wire.pair({}) as (_, client):
            await client.request(Ping())
        assert wire.server_transport().published == []  # type: ignore[attr-defined]

    run(test())


def test_welcome_tells_who_answers(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with wire.server() as _, RawClient(wire) as raw:
            rid = new_rid()
            raw.say(rid, hello(1, 255))
            (answer,) = await raw.answers(rid)
            assert isinstance(answer.body, Welcome)
            assert (answer.body.daemon, answer.body.proto) == ("llm", limits.PROTOCOL_VERSION)

    with caplog.at_level(logging.WARNING):
        run(test())
    assert not caplog.records
