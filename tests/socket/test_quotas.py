"""A peer over a quota is disconnected, with a sentence in the log, and nobody else is."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest

from ipc import codec, limits
from ipc.call import Call, Handler
from ipc.client import Client
from ipc.codec import Message
from ipc.endpoints import socket_path
from ipc.ids import new_rid
from ipc.links import Link
from ipc.messages import Audio, Body, CreditGrant, Feed, Generate, Ping, Pong, Recall, Result, Status
from ipc.server import Server
from ipc.zmtp import frame
from tests.campaigns.handmade import Gone, Peer
from tests.socket.rig import DAEMON, Blocked, RawClient, Wire, hello, prompt, report, run, tokens, until

ME = f"uid {os.getuid()}, pid {os.getpid()}"


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection is one of another process, by its descriptor; otherwise all of this test would go together."""
    at = Link.at

    def another(fd: int, address: str) -> Link:
        return replace(at(fd, address), address=f"localhost:{os.getuid()}:0:{fd}")

    monkeypatch.setattr(Link, "at", another)


def _path(wire: Wire) -> Path:
    assert wire.folder is not None
    return socket_path(DAEMON, wire.folder)


def _log(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def _cuts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in _log(caplog) if "is disconnected" in line]


@asynccontextmanager
async def _served(
    wire: Wire, handlers: Mapping[type[Body], Handler]
) -> AsyncIterator[tuple[Server, Client, RawClient]]:
    """A server with an honest client that has a request open, and one without rules, which has said hello."""
    blocked = Blocked()
    async with wire.pair({Recall: blocked, **handlers}) as (server, client), RawClient(wire) as raw:
        asking = asyncio.create_task(client.request(Recall(text="a", limit=1)))
        await blocked.started.wait()
        await raw.hello()
        yield server, client, raw
        assert isinstance(await client.request(Ping()), Pong)
        assert client.connected
        blocked.let_go.set()
        await asking


def _pings(raw: RawClient, count: int, payload: bytes = b"") -> None:
    """As fast as they go: the server has had no turn when this ends."""
    for number in range(count):
        raw.say(new_rid(), Ping(), epoch=number + 2, payload=payload)


# --- each quota, on both wires -----------------------------------------------------------------------------


def _bytes_in(raw: RawClient) -> None:
    _pings(raw, 30, bytes(1000))


def _bytes_out(raw: RawClient) -> None:
    raw.say(new_rid(), prompt(4000))


def _credit(raw: RawClient) -> None:
    for number in range(3):
        rid = new_rid()
        raw.say(rid, Recall(text="a", limit=1), epoch=number + 2)
        raw.say(rid, CreditGrant(n=3000), epoch=number + 2, seq=1)


def _bad_messages(raw: RawClient) -> None:
    for _ in range(30):
        raw.frames(b"garbage")


@pytest.mark.parametrize(
    ("quota", "allowed", "act", "sentence"),
    [
        ("BYTES_IN_MAX_PER_S", 20_000, _bytes_in, "bytes sent within a second, at most 20,000 are allowed"),
        ("BYTES_OUT_MAX_PER_S", 9_000, _bytes_out, "bytes asked for within a second, at most 9,000 are allowed"),
        ("CREDIT_MAX_PER_PEER", 9_000, _credit, "9,768 credit granted at once, at most 9,000 are allowed"),
        ("BAD_MESSAGES_MAX", 20, _bad_messages, "21 bad messages within 10 s, at most 20 are allowed"),
    ],
    ids=["bytes in", "bytes out", "credit", "bad messages"],
)
@pytest.mark.usefixtures("strangers")
def test_over_a_quota_a_peer_is_cut_off_and_another_one_is_served(
    wire: Wire,
    quota: str,
    allowed: int,
    act: Callable[[RawClient], None],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, quota, allowed)

    async def test() -> None:
        async with _served(wire, {Generate: tokens}) as (server, _, raw):
            act(raw)
            await until(lambda: raw.ups > 1)
            assert server.requests_open == 1

    run(test())
    (line,) = _cuts(caplog)
    assert sentence in line
    whose = rf"uid {os.getuid()}, pid \d+" if wire.folder else "connection 2"
    assert re.match(rf"llm: 'raw' \({whose}\) is disconnected: ", line)


# --- what waits, on real sockets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota", "allowed", "sentence"),
    [
        ("BACKLOG_MAX_MESSAGES", 200, "201 messages waiting, at most 200 are allowed"),
        ("BACKLOG_MAX_MESSAGES_OF_ALL", 200, "201 messages of all waiting, most of them of this peer, at most 200 are"),
        ("BACKLOG_MAX_BYTES", 100_000, "bytes waiting, at most 100,000 are allowed"),
        (
            "BACKLOG_MAX_BYTES_OF_ALL",
            100_000,
            "bytes of all waiting, most of them of this peer, at most 100,000 are allowed",
        ),
    ],
)
@pytest.mark.usefixtures("strangers")
def test_who_sends_faster_than_he_is_heard_is_cut_off(
    sockets: Wire,
    quota: str,
    allowed: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, quota, allowed)

    async def test() -> None:
        async with _served(sockets, {}) as (server, client, raw):
            honest = asyncio.create_task(_ask(client, 300))
            _pings(raw, 1000, bytes(1000))
            await until(lambda: raw.ups > 1)
            await honest
            assert server.requests_open == 1
            assert len(server._peers) == 1

    run(test())
    (line,) = _cuts(caplog)
    assert sentence in line


def _came_back(raw: RawClient, times: int) -> bool:
    return raw.ups > times


async def _ask(client: Client, times: int) -> None:
    for _ in range(times):
        assert isinstance(await client.request(Ping()), Pong)


def test_a_process_goes_with_all_its_connections(sockets: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """A flood through one after the other would come to the same."""

    async def test() -> None:
        async with sockets.server() as server, RawClient(sockets) as one, RawClient(sockets) as other:
            for raw in (one, other):
                await raw.hello()
            for _ in range(limits.BAD_MESSAGES_MAX + 1):
                one.frames(b"garbage")
            await until(lambda: one.ups > 1 < other.ups)
            assert not server._peers

    run(test())
    (line,) = _cuts(caplog)
    assert line.startswith(
        f"llm: 'raw' ({ME}) is disconnected, with 1 more connections of the same process: "
        f"101 bad messages within 10 s, at most 100 are allowed ("
    )
    assert line.endswith(" sent to it, 101 messages refused, 0 requests open)")


def test_who_leaves_takes_nobody_along(sockets: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """He cannot be sent to, like somebody who does not read."""

    async def test() -> None:
        blocked, late = asyncio.Event(), Blocked()

        async def answer(call: Call) -> Result:
            await blocked.wait()
            return await tokens(call)

        async with sockets.pair({Generate: answer, Recall: late}) as (server, client):
            async with RawClient(sockets) as raw:
                await raw.hello()
                raw.say(new_rid(), prompt(10), epoch=2)
                await until(lambda: server.requests_open == 1)
            asking = asyncio.create_task(client.request(Recall(text="a", limit=1)))
            await late.started.wait()
            blocked.set()
            await until(lambda: server.requests_open == 1)
            late.let_go.set()
            await asking
            async with sockets.client() as another:
                await _ask(another, 1)

    run(test())
    assert _cuts(caplog) == []


@pytest.mark.usefixtures("strangers")
def test_a_peer_that_was_cut_off_is_a_new_one_when_it_comes_back(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BAD_MESSAGES_MAX", 20)

    async def test() -> None:
        async with _served(wire, {}) as (_, _, raw):
            for times in range(1, 5):
                assert raw.ups == times
                _bad_messages(raw)
                await until(partial(_came_back, raw, times))
                await raw.hello()

    run(test())


@pytest.mark.usefixtures("strangers")
def test_what_a_peer_had_open_ends_with_it(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BAD_MESSAGES_MAX", 20)

    async def test() -> None:
        answer, microphone = Blocked(), Blocked()
        async with _served(wire, {Generate: answer, Feed: microphone}) as (server, _, raw):
            raw.say(new_rid(), prompt(1), epoch=2)
            rid = new_rid()
            raw.say(rid, Feed(conversation="a"), epoch=3)
            raw.say(rid, Audio(t_ns=0), seq=1, epoch=3, payload=b"\0\0")
            await answer.started.wait()
            await microphone.started.wait()
            assert server.requests_open == 3
            _bad_messages(raw)
            await answer.cancelled.wait()
            await microphone.cancelled.wait()
            assert server.requests_open == 1

    run(test())


@pytest.mark.usefixtures("strangers")
def test_a_peer_that_does_not_read_is_cut_off(sockets: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """What it was sent is freed with the connection, and not when it chooses to go."""

    async def test() -> None:
        async with sockets.pair({}) as (server, client):
            server._status = lambda: msgspec.structs.replace(report(), detail="x" * limits.TEXT_MAX_CHARS)
            await asyncio.to_thread(_ask_without_reading, _path(sockets))
            await until(lambda: len(server._peers) == 1)
            assert isinstance(await client.request(Ping()), Pong)

    run(test())
    (line,) = _cuts(caplog)
    assert " is disconnected: over 2,000 messages that it does not read (" in line


def _ask_without_reading(path: Path) -> None:
    """Until it is cut off, a little at a time: it is not to be known by what waits."""
    with suppress(Gone), Peer(path) as peer:
        peer.send(*codec.encode(Message(new_rid(), 0, 1, 0, hello())))
        for number in itertools.count(2):
            peer.send(*codec.encode(Message(new_rid(), 0, number, 0, Status())))
            if number % 100 == 0:
                time.sleep(0.01)


# --- the log -----------------------------------------------------------------------------------------------


def test_garbage_without_end_is_a_handful_of_lines(sockets: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is cut off may come back at once, and go on."""

    async def test() -> None:
        def pour() -> None:
            for _ in range(50):
                with suppress(Gone), Peer(_path(sockets)) as peer:
                    peer.pour(frame(b"garbage") * 1000)
                    while True:
                        peer.receive()

        async with sockets.pair({}) as (_, client):
            await asyncio.to_thread(pour)
            assert isinstance(await client.request(Ping()), Pong)

    run(test())
    lines = _log(caplog)
    assert lines[0].startswith(f"llm: {ME} broke the protocol: ")
    assert len(lines) < 100
    assert sum(int(line.split(" more)")[0].rsplit(" ", 1)[1]) for line in lines if line.endswith(" more)")) > 4000
