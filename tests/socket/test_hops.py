"""What a connection marks: requests and terminals, where they leave and where they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from ipc.call import Call, Handler
from ipc.client import Client
from ipc.errors import CallCancelled, CallError
from ipc.ids import new_rid
from ipc.marks import Stage
from ipc.messages import Body, Feed, Generate, Ping, Recall, Result, Status
from ipc.server import Server
from tests.socket.rig import DAEMON, Blocked, RawClient, Wire, prompt, report, run, tokens, until
from tests.support.recorder import Recorder

RECALL = Recall(text="", limit=1)


@asynccontextmanager
async def serving(wire: Wire, handlers: Mapping[type[Body], Handler]) -> AsyncIterator[tuple[Server, Recorder]]:
    """A server and what it has marked."""
    marks = Recorder()
    server = Server(DAEMON, wire.server_transport(), handlers, report, marks)
    server.start()
    try:
        yield server, marks
    finally:
        await server.close()


@asynccontextmanager
async def pair(wire: Wire, handlers: Mapping[type[Body], Handler]) -> AsyncIterator[tuple[Client, Recorder, Recorder]]:
    """A client of a server, what the server has marked, and what the client has."""
    here = Recorder()
    async with (
        serving(wire, handlers) as (_, there),
        Client(DAEMON, "test", transport=wire.client_transport(), marks=here) as client,
    ):
        await client.wait_connected()
        yield client, there, here


def test_a_request_and_its_terminal_are_marked_at_both_ends(wire: Wire) -> None:
    async def test() -> None:
        async with pair(wire, {Generate: tokens}) as (client, there, here):
            rid = new_rid()
            stream = client.open(prompt(500), rid=rid)
            assert len([item async for item, _ in stream]) == 500
            await stream.result()
            sent, received = here.of(rid)
            taken, answered = there.of(rid)
            assert [mark.stage for mark in here.of(rid)] == [Stage.SENT, Stage.RECEIVED]
            assert [mark.stage for mark in there.of(rid)] == [Stage.RECEIVED, Stage.SENT]
            assert sent.t_ns <= taken.t_ns <= answered.t_ns <= received.t_ns
            assert {mark.arg for mark in (sent, taken, answered, received)} == {stream.epoch}

    run(test())


def test_what_keeps_the_connection_is_not_marked(wire: Wire) -> None:
    async def test() -> None:
        async with pair(wire, {}) as (client, there, here):
            await client.request(Ping())
            await client.request(Status())
            assert there.marks == here.marks == []

    run(test())


def test_two_requests_under_one_rid_differ_by_their_epoch(wire: Wire) -> None:
    async def test() -> None:
        async with pair(wire, {Generate: tokens}) as (client, there, _):
            rid = new_rid()
            await client.request(prompt(0), rid=rid)
            await client.request(prompt(0), rid=rid)
            first, _, second, _ = there.of(rid)
            assert first.arg < second.arg

    run(test())


def test_an_error_and_a_cancel_are_terminals_too(wire: Wire) -> None:
    def fail(call: Call) -> Result:
        raise ValueError("a bug")

    async def test() -> None:
        blocked = Blocked()
        async with pair(wire, {Generate: fail, Recall: blocked}) as (client, there, here):
            failed, cancelled, unknown = new_rid(), new_rid(), new_rid()
            with pytest.raises(CallError):
                await client.request(prompt(1), rid=failed)
            with pytest.raises(CallError):
                await client.request(Feed(conversation="a"), rid=unknown)
            stream = client.open(RECALL, rid=cancelled)
            await blocked.started.wait()
            stream.cancel()
            with pytest.raises(CallCancelled):
                await stream.result()
            await until(lambda: len(here.of(cancelled)) == 2)
            for rid in (failed, cancelled, unknown):
                assert [mark.stage for mark in there.of(rid)] == [Stage.RECEIVED, Stage.SENT]
                assert [mark.stage for mark in here.of(rid)] == [Stage.SENT, Stage.RECEIVED]

    run(test())


def test_a_terminal_that_nobody_can_receive_did_not_leave() -> None:
    """In process, where the server sees at once that its peer has left."""

    async def test() -> None:
        wire, blocked, rid = Wire(None), Blocked(), new_rid()
        async with serving(wire, {Recall: blocked}) as (server, there):
            async with RawClient(wire) as client:
                await client.hello()
                client.say(rid, RECALL, epoch=2)
                await blocked.started.wait()
            blocked.let_go.set()
            await until(lambda: not server.requests_open)
            assert there.told(rid) == [(Stage.RECEIVED, 2)]

    run(test())
