"""The door to a network: who gets in, and what else knocks there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from ipc import codec, limits
from ipc.access import Guest, Role
from ipc.call import Call
from ipc.client import Client
from ipc.codec import Message
from ipc.errors import EndpointError, PeerGone
from ipc.ids import new_rid
from ipc.keys import allow
from ipc.messages import Audio, Done, Fed, Feed, Forget, Ping, Pong, Result
from ipc.network import House
from ipc.security import new_secret, public_of
from ipc.server import Server
from ipc.sockets import Context, Door, router
from ipc.transport import ZmqServerTransport
from tests.socket.far_rig import DAEMON, far_client, serving, transport
from tests.socket.rig import HANG_S, count_audio, hello, report, run, until
from tests.support.far import HOST, FarHouse


@pytest.fixture
def house(tmp_path: Path) -> FarHouse:
    return FarHouse(tmp_path / "keys")


# --- who gets in -------------------------------------------------------------------------------------------


def test_an_allowed_key_is_let_in_and_named_to_the_handler(house: FarHouse, tmp_path: Path) -> None:
    kitchen = house.admit("kitchen")
    asked: list[Guest | None] = []

    async def feed(call: Call) -> Result:
        asked.append(call.guest)
        return await count_audio(call)

    async def test() -> None:
        async with serving(house, tmp_path, {Feed: feed}), far_client(kitchen) as client:
            await client.wait_connected(HANG_S)
            stream = client.open(Feed(conversation="kitchen"))
            await stream.send(Audio(t_ns=0), b"\0" * 640)
            stream.end()
            assert await stream.result() == Fed(frames=1, dropped_ms=640)
        assert asked == [Guest(public_of(kitchen.secret), Role.SATELLITE, "kitchen")]

    run(test())


def test_this_machine_needs_no_key_and_may_do_everything(house: FarHouse, tmp_path: Path) -> None:
    house.admit("kitchen")
    asked: list[Guest | None] = []

    def forget(call: Call) -> Result:
        asked.append(call.guest)
        return Done()

    async def test() -> None:
        async with (
            serving(house, tmp_path, {Forget: forget}),
            Client(DAEMON, "here", folder=tmp_path / "run") as client,
        ):
            await client.request(Forget(ids=[1]))
        assert asked == [None]

    run(test())


def _plain(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt_string(zmq.PLAIN_USERNAME, "root")
    socket.setsockopt_string(zmq.PLAIN_PASSWORD, "root")


@pytest.mark.parametrize("mechanism", ["NULL", "PLAIN"])
@pytest.mark.parametrize(("kind", "observer"), [(zmq.DEALER, False), (zmq.SUB, True)], ids=["requests", "observation"])
def test_without_curve_nobody_gets_past_the_handshake(
    house: FarHouse, tmp_path: Path, mechanism: str, kind: int, observer: bool
) -> None:
    house.admit("kitchen")
    house.admit("desk", Role.VIEWER)

    def attempt() -> int:
        """What became of a connection."""
        with zmq.Context() as context, context.socket(kind) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            if mechanism == "PLAIN":
                _plain(socket)
            if kind == zmq.DEALER:
                socket.setsockopt(zmq.IMMEDIATE, 0)
            failures = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            monitor = socket.get_monitor_socket(failures | zmq.EVENT_HANDSHAKE_SUCCEEDED)
            socket.connect(house.stranger().endpoint(DAEMON, observer=observer))
            if kind == zmq.DEALER:
                socket.send(codec.encode(Message(new_rid(), 0, 1, 0, hello()))[0])
            event = int(recv_monitor_message(monitor)["event"])
            socket.disable_monitor()
            monitor.close()
            return event

    async def test() -> None:
        async with serving(house, tmp_path) as server:
            assert await asyncio.to_thread(attempt) != zmq.EVENT_HANDSHAKE_SUCCEEDED
            assert server._peers == {}
            assert server._transport.observers == 0

    run(test())


def test_garbage_at_the_port_reaches_nobody(house: FarHouse, tmp_path: Path) -> None:
    """A greeting cut short, one of the old protocol, HTTP, noise."""
    beginnings = [b"\xff" + bytes(8) + b"\x7f", b"\x01\x00", b"GET / HTTP/1.0\r\n\r\n", bytes(range(256)) * 40]

    async def test() -> None:
        async with serving(house, tmp_path) as server, far_client(house.admit("kitchen")) as client:
            for beginning in beginnings:
                _, writer = await asyncio.open_connection(HOST, house.base)
                writer.write(beginning)
                await writer.drain()
                writer.close()
            await client.wait_connected(HANG_S)
            assert isinstance(await client.request(Ping()), Pong)
            assert [peer.name for peer in server._peers.values()] == ["kitchen"]

    run(test())


def test_a_key_that_is_not_allowed_is_told_so_and_gets_in_once_it_is(house: FarHouse, tmp_path: Path) -> None:
    stranger = house.stranger()

    async def test() -> None:
        async with serving(house, tmp_path) as server, far_client(stranger) as client:
            await until(lambda: client._transport.trouble)
            with pytest.raises(PeerGone, match="does not allow this machine's key: timmy keys allow"):
                await client.wait_connected(0.0)
            assert server._peers == {}
            allow(house.folder, Guest(public_of(stranger.secret), Role.SATELLITE, "kitchen"))
            await client.wait_connected(HANG_S)

    run(test())


def test_a_house_with_another_key_is_not_spoken_to(house: FarHouse, tmp_path: Path) -> None:
    kitchen = house.admit("kitchen")
    mistaken = House(kitchen.address, kitchen.base, public_of(new_secret()), kitchen.secret)

    async def test() -> None:
        async with serving(house, tmp_path) as server, far_client(mistaken) as client:
            await until(lambda: client._transport.trouble)
            with pytest.raises(PeerGone, match=r"another key than house\.key says"):
                await client.wait_connected(0.0)
            assert server._peers == {}

    run(test())


def test_a_role_without_rights_at_a_daemon_is_not_let_in_there(house: FarHouse, tmp_path: Path) -> None:
    kitchen = house.admit("kitchen")

    async def test() -> None:
        server = Server("memory", ZmqServerTransport("memory", tmp_path / "run", network=house.network()), {}, report)
        server.start()
        async with Client("memory", "kitchen", house=kitchen) as client:
            await until(lambda: client._transport.trouble)
            assert server._peers == {}
        await server.close()

    run(test())


# --- what was recorded on the way --------------------------------------------------------------------------------


class _Tape:
    """A relay that keeps what each side said, and can say it again."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.said: list[bytes] = []

    async def __aenter__(self) -> _Tape:
        self._server = await asyncio.start_server(self._pass_on, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self._to)
        for source, target, kept in ((reader, far_writer, self.said), (far_reader, writer, None)):
            task = asyncio.create_task(self._copy(source, target, kept))
            self._tasks.add(task)

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, kept: list[bytes] | None) -> None:
        try:
            while data := await source.read(65536):
                if kept is not None:
                    kept.append(data)
                target.write(data)
        finally:
            target.close()


def test_what_was_recorded_is_worth_nothing_to_who_sends_it_again(house: FarHouse, tmp_path: Path) -> None:
    kitchen = house.admit("kitchen")
    done: list[int] = []

    async def feed(call: Call) -> Result:
        done.append(1)
        return await count_audio(call)

    async def test() -> None:
        async with serving(house, tmp_path, {Feed: feed}) as server, _Tape(house.base) as tape:
            there = House(HOST, tape.port, kitchen.key, kitchen.secret)
            async with far_client(there) as client:
                await client.wait_connected(HANG_S)
                stream = client.open(Feed(conversation="kitchen"))
                stream.end()
                await stream.result()
            assert b"kitchen" not in b"".join(tape.said)
            known = len(server._peers)
            # As fast as it can be said, and in step with the answers, as it was said first.
            for pace_s in (0.0, 0.05):
                reader, writer = await asyncio.open_connection(HOST, house.base)
                for piece in tape.said:
                    writer.write(piece)
                    await asyncio.sleep(pace_s)
                with suppress(ConnectionError):
                    while await reader.read(65536):
                        pass  # until the daemon ends it
                writer.close()
            assert (done, len(server._peers)) == ([1], known)

    run(test())


# --- the endpoint ------------------------------------------------------------------------------------------------


def test_a_port_that_somebody_has_is_told(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(house, tmp_path):
            with pytest.raises(EndpointError, match=r"network\.listen and network\.port"):
                transport(house, tmp_path / "other")

    run(test())


def test_nothing_but_the_one_address_is_bound(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(house, tmp_path):
            for port in (house.base, house.base + 1):
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.2", port)

    run(test())


def test_a_flood_of_connections_shuts_the_door_and_not_the_house(
    house: FarHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "DOOR_RETRY_S", 0.05)

    async def test() -> None:
        async with (
            serving(house, tmp_path),
            Client(DAEMON, "here", folder=tmp_path / "run") as here,
            far_client(house.admit("kitchen")) as kitchen,
        ):
            await here.wait_connected(HANG_S)
            await kitchen.wait_connected(HANG_S)
            for port in (house.base, house.base + 1):
                flood = []
                with suppress(ConnectionError):
                    for _ in range(limits.FAR_CONNECTIONS_MAX + 20):
                        flood.append((await asyncio.open_connection(HOST, port))[1])
                await until(lambda port=port: f":{port}: over 128 connections" in caplog.text)  # type: ignore[misc]
                for writer in flood:
                    writer.close()
            assert isinstance(await here.request(Ping()), Pong)
            await kitchen.wait_connected(HANG_S)
            assert isinstance(await kitchen.request(Ping()), Pong)

    run(test())


def test_an_address_that_comes_later_is_bound_then(
    house: FarHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "DOOR_RETRY_S", 0.01)
    context: Context = zmq.Context()
    socket = router(context, tmp_path / "r.sock")
    endpoint = f"tcp://192.0.2.1:{house.base}"  # of no machine (RFC 5737)

    async def test() -> None:
        door = Door(socket, endpoint, new_secret())
        door.start()
        assert f"{endpoint}: this machine has no such address (yet)" in caplog.text
        door._endpoint = f"tcp://{HOST}:{house.base}"  # the network has come up
        await until(lambda: door._bound)
        _, writer = await asyncio.open_connection(HOST, house.base)
        writer.close()
        door.close()

    run(test())
    socket.close()
    context.term()
