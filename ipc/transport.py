"""How frames travel: over ZeroMQ ipc sockets, or inside one process (inproc.py) for tests.

A server transport speaks to many peers, named by bytes; a client transport to one. Sends never block and
never raise: False means that the peer is not there or does not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from ipc import limits
from ipc.endpoints import Lock, claim_folder, observer_path, socket_path
from ipc.errors import EndpointError
from ipc.security import Gatekeeper
from ipc.sockets import Context, Reader, dealer, publisher, router, send_now

Frames = Sequence[bytes]
OnPeerFrames = Callable[[bytes, list[bytes]], None]
OnFrames = Callable[[list[bytes]], None]


class ServerTransport(Protocol):
    observers: int
    """How many subscriptions there are to what is published."""

    def start(self, on_frames: OnPeerFrames) -> None: ...
    def send(self, peer: bytes, frames: Frames) -> bool: ...
    def publish(self, topic: bytes, frames: Frames) -> None: ...
    def close(self) -> None: ...


class ClientTransport(Protocol):
    where: str
    """For messages to people: the socket's path."""

    def start(self, on_up: Callable[[], None], on_down: Callable[[], None], on_frames: OnFrames) -> None: ...
    def send(self, frames: Frames) -> bool: ...
    def close(self) -> None: ...


class ZmqServerTransport:
    """ROUTER and XPUB of one daemon, in a folder that is checked and under a lock."""

    def __init__(self, daemon: str, folder: Path) -> None:
        """Raises EndpointError: path too long, folder not ours, daemon running already."""
        self.observers = 0
        self._paths = (socket_path(daemon, folder), observer_path(daemon, folder))
        claim_folder(folder)
        self._lock = Lock(folder / f"{daemon}.lock")
        self._context: Context = zmq.Context()
        self._gate = Gatekeeper(self._context)
        try:
            self._router = router(self._context, self._paths[0])
            self._publisher = publisher(self._context, self._paths[1])
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            self._lock.release()
            raise EndpointError(f"sockets of {daemon} in {folder}: {error.strerror}; set TIMMY_RUNTIME") from None

    def start(self, on_frames: OnPeerFrames) -> None:
        def arrived(frames: list[bytes]) -> None:
            on_frames(frames[0], frames[1:])

        self._gate_reader = Reader(self._gate.socket, self._judge, frames_max=16)
        self._reader = Reader(self._router, arrived, limits.FRAMES_MAX + 1)
        self._subscriptions = Reader(self._publisher, self._subscribed, frames_max=1)

    def _judge(self, frames: list[bytes]) -> None:
        if reply := self._gate.answer(frames):
            self._gate.socket.send_multipart(reply)
            self._gate_reader.sent()

    def _subscribed(self, frames: list[bytes]) -> None:
        if frames[0][:1] == b"\x01":
            self.observers += 1
        elif frames[0][:1] == b"\x00":
            self.observers = max(0, self.observers - 1)

    def send(self, peer: bytes, frames: Frames) -> bool:
        left = send_now(self._router, [peer, *frames])
        if left:
            self._reader.sent()
        return left

    def publish(self, topic: bytes, frames: Frames) -> None:
        send_now(self._publisher, [topic, *frames])
        self._subscriptions.sent()

    def close(self) -> None:
        for reader in (self._gate_reader, self._reader, self._subscriptions):
            reader.close()
        for socket in (self._router, self._publisher, self._gate.socket):
            socket.close()
        self._context.term()
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._lock.release()


class ZmqClientTransport:
    """A DEALER and its monitor, which tells at once when the peer comes or goes."""

    def __init__(self, daemon: str, folder: Path, context: Context | None = None) -> None:
        """Raises EndpointError: path too long, folder not ours."""
        self.where = str(socket_path(daemon, folder))
        claim_folder(folder)
        self._context = context or zmq.Context.instance()

    def start(self, on_up: Callable[[], None], on_down: Callable[[], None], on_frames: OnFrames) -> None:
        self._on_up, self._on_down = on_up, on_down
        self._socket = dealer(self._context)
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        self._monitor = self._socket.get_monitor_socket(events)
        self._socket.connect(f"ipc://{self.where}")
        self._events = Reader(self._monitor, self._happened, frames_max=2)
        self._reader = Reader(self._socket, on_frames, limits.FRAMES_MAX)

    def _happened(self, frames: list[bytes]) -> None:
        event = parse_monitor_message(frames)["event"]
        if event == zmq.EVENT_DISCONNECTED:
            self._on_down()
        else:
            self._on_up()

    def send(self, frames: Frames) -> bool:
        left = send_now(self._socket, frames)
        if left:
            self._reader.sent()
        return left

    def close(self) -> None:
        self._events.close()
        self._reader.close()
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()
