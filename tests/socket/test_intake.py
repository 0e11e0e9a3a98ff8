"""What callers send is taken out first, and dealt with in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from ipc import limits
from ipc.client import Client
from ipc.intake import Intake
from ipc.transport import ZmqServerTransport
from tests.socket.rig import HANG_S, Wire, run, until

Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    with zmq.Context() as context:
        yield context


class Room:
    """An intake in one process, and what it says. Nobody's connection can be ended here, as nobody has one."""

    def __init__(self, context: Context) -> None:
        self.got: list[tuple[bytes, bytes]] = []
        self.floods: list[tuple[bytes, str]] = []
        self.gone: list[bytes] = []
        self.admitted: list[bool] = []
        self._context = context
        self._router = context.socket(zmq.ROUTER)
        self._sockets = [self._router]
        self._router.setsockopt(zmq.RCVHWM, 0)
        self._router.bind("inproc://intake")

    def caller(self, name: bytes) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        self._sockets.append(socket)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.ROUTING_ID, name)
        socket.connect("inproc://intake")
        return socket

    def open(self) -> Intake:
        self.intake = Intake(self._router, self._deliver, self._flooded, self.gone.append, self.admitted.append)
        return self.intake

    def close(self) -> None:
        self.intake.close()
        for socket in self._sockets:
            socket.close(linger=0)

    def _deliver(self, route: bytes, frames: list[bytes]) -> None:
        self.got.append((route, frames[0]))
        if frames[0] == b"bad":
            raise ZeroDivisionError

    def _flooded(self, route: bytes, quota: str) -> None:
        self.floods.append((route, quota))
        self.intake.cut(route, True)


def _test(context: Context, act: Any) -> None:
    async def test() -> None:
        room = Room(context)
        try:
            await act(room)
        finally:
            room.close()

    run(test())


def test_each_peer_has_its_turn(context: Context) -> None:
    async def act(room: Room) -> None:
        many, one = room.caller(b"many"), room.caller(b"one")
        for number in range(100):
            many.send(b"%d" % number)
        one.send(b"hello")
        room.open()
        await until(lambda: len(room.got) == 101)
        assert room.got.index((b"one", b"hello")) < 5
        assert [text for route, text in room.got if route == b"many"] == [b"%d" % number for number in range(100)]

    _test(context, act)


def test_a_message_that_cannot_be_dealt_with_is_not_the_last(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(room: Room) -> None:
        caller = room.caller(b"a")
        for text in (b"bad", b"good"):
            caller.send(text)
        room.open()
        await until(lambda: len(room.got) == 2)

    _test(context, act)
    assert "a message could not be dealt with" in caplog.text


def test_nobody_comes_in_before_what_a_flood_left_is_out_of_the_way(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BACKLOG_MAX_MESSAGES", 50)

    async def act(room: Room) -> None:
        flood, one = room.caller(b"flood"), room.caller(b"one")
        for number in range(5000):
            flood.send(b"%d" % number)
        one.send(b"hello")
        room.open()
        await until(lambda: room.admitted == [False, True])
        assert room.floods == [(b"flood", "51 messages waiting, at most 50 are allowed")]
        await until(lambda: (b"one", b"hello") in room.got)
        flood.send(b"more")
        one.send(b"again")
        await until(lambda: (b"one", b"again") in room.got)
        assert (b"flood", b"more") not in room.got

    _test(context, act)


def test_of_all_together_the_one_with_the_most_goes(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its share of what it may have: the others have larger messages, and fewer of them."""
    monkeypatch.setattr(limits, "BACKLOG_MAX_MESSAGES_OF_ALL", 60)

    async def act(room: Room) -> None:
        callers = [room.caller(name) for name in (b"a", b"b", b"c")]
        for number in range(50):
            callers[0].send(b"%d" % number)
        for _ in range(20):
            for caller in callers[1:]:
                caller.send(bytes(500))
        room.open()
        await until(lambda: all(room.got.count((name, bytes(500))) == 20 for name in (b"b", b"c")))
        assert [route for route, _ in room.floods] == [b"a"]

    _test(context, act)


def test_the_door_opens_again_where_nothing_is_left(context: Context) -> None:
    async def act(room: Room) -> None:
        room.caller(b"a").send(b"first")
        room.open()
        await until(lambda: room.got)
        room.intake.cut(b"a", True)
        assert room.admitted == [False]
        await until(lambda: room.admitted == [False, True])

    _test(context, act)


def test_a_name_is_free_again_after_a_while(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_SILENCE_S", 0.05)

    async def act(room: Room) -> None:
        caller = room.caller(b"a")
        caller.send(b"first")
        room.open()
        await until(lambda: room.got)
        room.intake.cut(b"a", True)
        while room.got[-1][1] != b"later":
            caller.send(b"later")
            await asyncio.sleep(0.01)

    _test(context, act)


def test_who_is_forgotten_is_a_new_one(context: Context) -> None:
    async def act(room: Room) -> None:
        caller = room.caller(b"a")
        caller.send(b"first")
        room.open()
        await until(lambda: room.got)
        room.intake.forget(b"a")
        assert room.intake.who(b"a") == "a peer that is gone"
        assert room.intake.cut(b"a", True) == []
        caller.send(b"second")
        await until(lambda: len(room.got) == 2)

    _test(context, act)


def test_who_comes_while_the_door_is_shut_waits(sockets: Wire) -> None:
    async def test() -> None:
        async with sockets.server() as server:
            transport = server._transport
            assert isinstance(transport, ZmqServerTransport)
            transport._door.admit(False)
            client = Client("llm", "test", transport=sockets.client_transport())
            await client.start()
            await until(lambda: transport._door._held)
            assert not client.connected
            transport._door.admit(True)
            await client.wait_connected(HANG_S)
            await client.close()

    run(test())
