"""Raw connections and monstrous messages: none reaches the application, none keeps honest peers from it."""

from __future__ import annotations

import asyncio
import ctypes
import random
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import zmq

from ipc import limits
from ipc.client import Client
from ipc.endpoints import socket_path
from ipc.errors import CallError
from ipc.ids import new_rid
from ipc.messages import Ping, Pong
from ipc.zmtp import GREETING, command, frame, ready
from tests.campaigns.handmade import Gone, Peer
from tests.socket.process import peak_bytes, resident_bytes, serving
from tests.socket.rig import DAEMON, HANG_S, RawClient, Wire, run, until

_ZMTP_3 = b"\xff" + bytes(8) + b"\x7f\x03\x00"
_NULL, _PLAIN, _CURVE = (name.ljust(20, b"\0") for name in (b"NULL", b"PLAIN", b"CURVE"))
_READY = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"

GREETINGS = {
    "silence": b"",
    "one byte": b"\xff",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "random": random.Random(1).randbytes(4096),
    "zeros": bytes(4096),
    "zmtp 1": b"\x01\x00" + b"\x06\x00hello" * 50,
    "zmtp 1, long identity": b"\xff" + b"\x00" * 7 + b"\x05\x00" + b"idid" + b"\x06\x00hello" * 50,
    "zmtp 2": b"\xff" + bytes(8) + b"\x7f" + b"\x01\x05\x00\x00" + b"\x00\x05hello" * 50,
    "zmtp 3, half a greeting": _ZMTP_3[:-1],
    "zmtp 3, no mechanism": _ZMTP_3,
    "zmtp 3, never ready": _ZMTP_3 + _NULL + bytes(32),
    "zmtp 3, messages before ready": _ZMTP_3 + _NULL + bytes(32) + b"\x00\x05hello" * 50,
    "zmtp 3, ready of an unknown kind": _ZMTP_3 + _NULL + bytes(32) + _READY.replace(b"DEALER", b"TROJAN"),
    "zmtp 3, plain": _ZMTP_3 + _PLAIN + bytes(32) + b"\x04\x0c\x05HELLO\x01a\x01b",
    "zmtp 3, curve": _ZMTP_3 + _CURVE + bytes(32) + bytes(200),
    "zmtp 3, a huge command": _ZMTP_3 + _NULL + bytes(32) + b"\x06" + b"\xff" * 8 + bytes(4096),
}


def _path(wire: Wire) -> Path:
    assert wire.folder is not None
    return socket_path(DAEMON, wire.folder)


def _connect(path: Path, greeting: bytes) -> socket.socket:
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(str(path))
    raw.settimeout(HANG_S)
    with suppress(OSError):  # thrown out before it had finished: all the better
        raw.sendall(greeting)
    return raw


@pytest.mark.parametrize("greeting", GREETINGS.values(), ids=GREETINGS)
def test_a_raw_connection_never_reaches_the_application(
    sockets: Wire, greeting: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with sockets.server() as server:
            raw = [_connect(_path(sockets), greeting) for _ in range(20)]
            async with sockets.client() as client:
                await client.wait_connected(HANG_S)
                for _ in range(10):
                    assert isinstance(await client.request(Ping()), Pong)
                assert len(server._peers) == 1
            for connection in raw:
                connection.close()

    run(test())
    assert "broke the protocol" not in caplog.text


def test_who_connects_and_says_nothing_is_thrown_out(sockets: Wire) -> None:
    """ZMQ_HANDSHAKE_IVL: a connection that is never finished does not hold its descriptor for ever."""

    async def test() -> None:
        async with sockets.server():
            with _connect(_path(sockets), b"") as raw:
                greeting = await asyncio.to_thread(raw.recv, 64)
                assert greeting.startswith(b"\xff")
                while await asyncio.to_thread(raw.recv, 4096):
                    pass

    run(test())


def test_three_hundred_hostile_connections_at_once(sockets: Wire) -> None:
    async def test() -> None:
        async with sockets.server() as server, sockets.client() as client:
            await client.wait_connected(HANG_S)
            greetings = list(GREETINGS.values())
            raw = [_connect(_path(sockets), greetings[number % len(greetings)]) for number in range(300)]
            for _ in range(50):
                assert isinstance(await client.request(Ping()), Pong)
            assert len(server._peers) == 1
            for connection in raw:
                connection.close()
            assert isinstance(await client.request(Ping()), Pong)

    run(test())


# --- messages without measure ------------------------------------------------------------------------------


def _came_back(raw: RawClient, times: int) -> bool:
    return raw.ups > times


async def _pour_parts(raw: RawClient, count: int, part: bytes) -> None:
    """One multipart message."""
    sender = raw._transport._socket  # type: ignore[attr-defined]

    def send() -> None:
        for _ in range(count - 1):
            sender.send(part, zmq.SNDMORE)
        sender.send(part)

    await asyncio.to_thread(send)


async def _send_parts(raw: RawClient, count: int, part: bytes) -> None:
    """The same, and the answer to a ping after it."""
    await _pour_parts(raw, count, part)
    rid = new_rid()
    raw.say(rid, Ping())
    (answer,) = await raw.answers(rid)
    assert isinstance(answer.body, Pong)


def test_a_message_of_ten_thousand_parts_is_one_bad_message(sockets: Wire, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with sockets.server() as server, RawClient(sockets) as raw:
            await raw.hello()
            await _send_parts(raw, 10_000, b"x")
            assert len(server._peers) == 1

    run(test())
    assert caplog.text.count("a message has 1 to 2 frames") == 1


def test_messages_of_a_hundred_megabytes_leave_nothing_behind(sockets: Wire) -> None:
    """libzmq collects a whole message before it hands it on, so one is in memory for a moment; never two. Each costs
    its sender the connection."""

    async def test() -> None:
        assert sockets.folder is not None
        with serving(sockets.folder) as process:
            async with RawClient(sockets) as raw:
                await raw.hello()
                before = resident_bytes(process.pid)
                for times in range(4):
                    await _pour_parts(raw, 2000, bytes(50_000))
                    await until(partial(_came_back, raw, times + 1))
                assert peak_bytes(process.pid) - before < 200e6

    run(test())


def test_a_frame_over_the_limit_costs_its_sender_the_connection(sockets: Wire) -> None:
    async def test() -> None:
        async with sockets.pair({}) as (server, client), RawClient(sockets) as raw:
            await raw.hello()
            raw.frames(bytes(limits.PAYLOAD_MAX_BYTES + 1))
            await until(lambda: raw.ups > 1)
            assert isinstance(await client.request(Ping()), Pong)
            assert client.connected
            assert server.requests_open == 0

    run(test())


# --- what libzmq does not bear -----------------------------------------------------------------------------


def test_heartbeats_by_hand_behind_a_full_queue_end_nobody_but_their_sender(sockets: Wire) -> None:
    """libzmq 4.3.5 aborts its process when it finds one behind a queue that was full, of a peer that has left."""
    heap = (frame(b"x") * 2 + command(b"PING", b"\0\0x")) * 3000

    async def test() -> None:
        assert sockets.folder is not None
        with serving(sockets.folder) as process:
            async with sockets.client() as client:
                for _ in range(5):
                    await asyncio.to_thread(_pour_and_leave, _path(sockets), heap)
                    await _is_served(client)
            assert process.poll() is None

    run(test())


async def _is_served(client: Client) -> None:
    """In the end: it belongs to the process that is cut off."""
    while True:
        with suppress(CallError):
            assert isinstance(await client.request(Ping()), Pong)
            return


def _pour_and_leave(path: Path, heap: bytes) -> None:
    with Peer(path) as peer, suppress(Gone):
        peer.pour(heap)


_LEAVES = """
import asyncio, sys, time
from pathlib import Path
from ipc.transport import ZmqClientTransport

async def leave():
    up = asyncio.Event()
    transport = ZmqClientTransport(sys.argv[1], Path(sys.argv[2]))
    transport.start(up.set, print, print)
    await up.wait()
    for _ in range(40):
        assert transport.send([b"header", bytes(64_000)])
    await asyncio.sleep(0.85)
    transport.close()
    print("left", flush=True)
    time.sleep(0.5)

asyncio.run(leave())
"""


def test_who_leaves_with_something_to_send_is_not_aborted_when_the_daemon_ends(tmp_path: Path) -> None:
    """libzmq 4.3.5 aborts its process when a heartbeat is due then, of those that begin a second after the
    handshake."""
    path = socket_path(DAEMON, tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(HANG_S)
        program = [sys.executable, "-c", _LEAVES, DAEMON, str(tmp_path)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as caller:
            assert caller.stdout is not None
            assert caller.stderr is not None
            held, _ = listening.accept()
            with held:
                held.sendall(GREETING + ready(b"ROUTER"))
                assert caller.stdout.readline() == "left\n"
                held.sendall(frame(b"something that comes too late"))
                time.sleep(0.05)  # or both would be found at once, and the end first
            assert (caller.wait(HANG_S), caller.stderr.read()) == (0, "")


def test_nobody_can_know_the_name_of_the_next_connection(sockets: Wire) -> None:
    """libzmq 4.3.5 aborts its process when a peer has given itself the name of a connection to come."""

    async def test() -> None:
        ctypes.CDLL(None).srand(1)  # as libzmq leaves it
        routes = []
        for _ in range(2):
            async with sockets.pair({}) as (server, _):
                routes += [int.from_bytes(route[1:], "big") for route in server._peers]
        assert len(routes) == 2
        assert abs(routes[0] - 1_804_289_383) > 1000 < abs(routes[0] - routes[1])

    run(test())
