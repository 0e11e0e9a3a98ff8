"""Who is let in: the kernel names the peer before its first message, on both sockets of a daemon."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc import codec, security
from ipc.codec import Message
from ipc.endpoints import observer_path, socket_path
from ipc.ids import new_rid
from ipc.messages import Ping
from ipc.server import Server
from ipc.transport import ZmqServerTransport
from tests.socket.rig import DAEMON, HANG_S, Wire, hello, run, until

NOBODY = 65534

# The imports come first: whom it becomes may not be allowed to read the interpreter's files.
_CHILD = """
import os, sys, zmq
from zmq.utils.monitor import recv_monitor_message
uid, kind, path, frame = int(sys.argv[1]), sys.argv[2], sys.argv[3], bytes.fromhex(sys.argv[4])
context = zmq.Context()
if uid != os.getuid():
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
peer = context.socket(getattr(zmq, kind))
peer.setsockopt(zmq.LINGER, 0)
if kind == "SUB":
    peer.setsockopt(zmq.SUBSCRIBE, b"")
outcomes = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED
monitor = peer.get_monitor_socket(outcomes)
peer.connect("ipc://" + path)
if kind == "DEALER":
    peer.send(frame)
event = recv_monitor_message(monitor)["event"]
if event == zmq.EVENT_HANDSHAKE_SUCCEEDED and kind == "DEALER":
    peer.recv_multipart()
print(event.name)
"""


def _become(uid: int, kind: str, path: Path) -> str:
    """What happens to a peer of that uid when it connects: the name of the event."""
    frame = codec.encode(Message(new_rid(), 0, 1, 0, hello()))[0].hex()
    command = [sys.executable, "-c", _CHILD, str(uid), kind, str(path), frame]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG_S).stdout.strip()


@pytest.fixture
def open_wire() -> Iterator[Wire]:
    """A folder below /tmp, where anybody can be let in once the server is up."""
    with tempfile.TemporaryDirectory(prefix="timmy-") as folder:
        yield Wire(Path(folder))


def _stranger(server: Server) -> int:
    """A uid that the server does not know and that a child of this test can have. Only root can become
    somebody else; anybody else stays, and the server is told to expect root alone."""
    if os.getuid() == 0:
        return NOBODY
    transport = server._transport
    assert isinstance(transport, ZmqServerTransport)
    transport._gate._allowed = transport._observation._allowed = frozenset({0})
    return os.getuid()


@pytest.mark.parametrize(
    ("kind", "path"), [("DEALER", socket_path), ("SUB", observer_path)], ids=["requests", "observation"]
)
def test_a_stranger_is_refused_and_a_friend_is_not(
    open_wire: Wire, kind: str, path: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        folder = open_wire.folder
        assert folder is not None
        assert callable(path)
        async with open_wire.server() as server:
            folder.chmod(0o711)
            for name in folder.iterdir():
                name.chmod(0o666)
            assert await asyncio.to_thread(_become, os.getuid(), kind, path(DAEMON, folder)) == "HANDSHAKE_SUCCEEDED"
            known = len(server._peers)
            stranger = _stranger(server)
            outcome = await asyncio.to_thread(_become, stranger, kind, path(DAEMON, folder))
            assert outcome in ("HANDSHAKE_FAILED_AUTH", "DISCONNECTED")
            assert len(server._peers) == known
            assert server._transport.observers == 0 or kind == "SUB"
            assert f"refused a connection of uid {stranger}" in caplog.text

    run(test())


def test_without_a_handler_nobody_is_let_in(sockets: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the gatekeeper ever fail, the door stays shut."""
    monkeypatch.setattr(security.Gatekeeper, "answer", lambda self, frames: [])

    async def test() -> None:
        async with sockets.server() as server, sockets.client() as client:
            await asyncio.sleep(0.3)
            assert not client.connected
            assert not server._peers

    run(test())


def test_the_folder_alone_keeps_strangers_out(sockets: Wire) -> None:
    async def test() -> None:
        assert sockets.folder is not None
        async with sockets.pair({}) as (_, client):
            assert sockets.folder.stat().st_mode & 0o077 == 0
            await client.request(Ping())
            await until(lambda: client.connected)

    run(test())
