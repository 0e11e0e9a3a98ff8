"""How frames travel: over ZeroMQ sockets on this machine or a network, or inside one process (inproc.py) for tests.

A server transport speaks to many peers, named by bytes; a client transport to one. Sends never block and
never raise: False means that the peer is not there or does not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from ipc import limits
from ipc.access import Guest, may_connect
from ipc.activation import Passed
from ipc.doorkeeper import Doorkeeper, admits
from ipc.endpoints import Lock, claim_folder, members, nobody_listens, observer_path, socket_path
from ipc.errors import EndpointError
from ipc.intake import Intake, OnFlood, OnGone, OnPeerFrames
from ipc.network import House, Network
from ipc.observation import Observation
from ipc.observation_far import FarObservation
from ipc.security import Gatekeeper
from ipc.sockets import Context, Door, Keys, Reader, dealer, router, send_now, subscriber

Frames = Sequence[bytes]
OnFrames = Callable[[list[bytes]], None]


class ServerTransport(Protocol):
    @property
    def observers(self) -> int:
        """How many subscriptions there are to what is published."""

    guest: Guest | None
    """Who sent what is being handed over, if it came from a network; None: somebody on this machine."""

    def still_allowed(self, guest: Guest) -> bool:
        """Whether the key of a peer from a network is allowed now as it was when it sent something."""

    def start(self, on_frames: OnPeerFrames, on_flood: OnFlood, on_gone: OnGone) -> None:
        """`on_flood` gets a peer that has more waiting than it may, and which quota that is; `on_gone` one of this
        machine whose process has ended."""

    def send(self, peer: bytes, frames: Frames) -> bool: ...
    def publish(self, topic: bytes, frames: Frames) -> None: ...
    def who(self, peer: bytes) -> str:
        """Whose connection it is, by the kernel's word: the same for all those of a process."""

    def cut(self, peer: bytes, alone: bool) -> list[bytes]:
        """Ends a peer's connection, and unless `alone` the others of its process: nothing of what they have sent comes
        any more. Those that had not ended already."""

    def forget(self, peer: bytes) -> None:
        """A peer is not kept account of any more. If something comes from it all the same, it is a new one."""

    def close(self) -> None: ...


class ClientTransport(Protocol):
    where: str
    """For messages to people: the socket's path, or its address."""
    trouble: str
    """Why it cannot connect, as far as that is known; else empty."""

    @property
    def silence_s(self) -> float:
        """No message for this long although a ping is out: the peer hangs."""

    def start(self, on_up: Callable[[], None], on_down: Callable[[], None], on_frames: OnFrames) -> None: ...
    def send(self, frames: Frames) -> bool: ...
    def close(self) -> None: ...


class ZmqServerTransport:
    """ROUTER and publisher of one daemon, in a folder that is checked. Sockets that were `passed` belong to who passed
    them: they stay when this closes. Otherwise it binds its own, under a lock. With a `network` there is a ROUTER and a
    publisher, too, for those whose keys are allowed."""

    def __init__(self, daemon: str, folder: Path, passed: Passed | None = None, network: Network | None = None) -> None:
        """Raises EndpointError: path too long, folder not ours, daemon running already, address in use."""
        self.guest: Guest | None = None
        self._network = network
        self._paths = (socket_path(daemon, folder), observer_path(daemon, folder))
        claim_folder(folder)
        self._lock = None if passed else Lock(folder / f"{daemon}.lock")
        with ExitStack() as undo:
            undo.callback(self._release)
            if self._lock is not None:
                nobody_listens(self._paths)
            self._context: Context = zmq.Context()
            undo.callback(self._context.destroy, linger=0)
            try:
                self._bind(daemon, folder, passed, undo)
            except (zmq.ZMQError, OSError) as error:
                raise EndpointError(f"sockets of {daemon} in {folder}: {error.strerror}; set TIMMY_RUNTIME") from None
            undo.pop_all()

    def _bind(self, daemon: str, folder: Path, passed: Passed | None, undo: ExitStack) -> None:
        network, member = self._network, members(folder)
        self._gate = Gatekeeper(self._context, member, admits(network, lambda role: may_connect(role, daemon)))
        self._router = router(self._context, self._paths[0], passed and passed.requests)
        self._observation = Observation(daemon, self._paths[1], passed and passed.observers, member)
        undo.callback(self._observation.abandon)
        self._far_door = Door(self._router, network.endpoint(daemon), network.secret) if network else None
        self._far_observation = FarObservation(daemon, network) if network else None

    def start(self, on_frames: OnPeerFrames, on_flood: OnFlood, on_gone: OnGone) -> None:
        self._door = Doorkeeper(self._gate)
        named = self._named if self._network else None
        self._reader = Intake(self._router, on_frames, on_flood, on_gone, self._door.admit, named)
        self._observation.start()
        if self._far_observation is not None:
            self._far_observation.start()
        if self._far_door is not None:
            self._far_door.start()

    def _named(self, user: str) -> None:
        """By the key that came with the message itself: a peer chooses its routing id, and may choose another's."""
        assert self._network is not None
        self.guest = None if user.isdigit() else self._network.keyring.guest(user)

    @property
    def observers(self) -> int:
        far = self._far_observation
        return self._observation.subscriptions + (far.subscriptions if far is not None else 0)

    @property
    def trouble(self) -> str:
        """Why nobody on the network can reach it, as far as that is known; else empty."""
        return self._far_door.trouble if self._far_door is not None else ""

    def still_allowed(self, guest: Guest) -> bool:
        return self._network is not None and self._network.keyring.guest(guest.key) == guest

    def send(self, peer: bytes, frames: Frames) -> bool:
        left = send_now(self._router, [peer, *frames])
        if left:
            self._reader.sent()
        return left

    def publish(self, topic: bytes, frames: Frames) -> None:
        self._observation.publish(topic, frames)
        if self._far_observation is not None:
            self._far_observation.publish([topic, *frames])

    def who(self, peer: bytes) -> str:
        return self._reader.who(peer)

    def cut(self, peer: bytes, alone: bool) -> list[bytes]:
        return self._reader.cut(peer, alone)

    def forget(self, peer: bytes) -> None:
        self._reader.forget(peer)

    def close(self) -> None:
        self._observation.close()
        if self._far_observation is not None:
            self._far_observation.close()
        if self._far_door is not None:
            self._far_door.close()
        for reader in (self._door, self._reader):
            reader.close()
        for socket in (self._router, self._gate.socket):
            socket.close()
        self._context.term()
        if self._lock is not None:
            for path in self._paths:
                path.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()


class ZmqObserverTransport:
    """A SUB for each of some daemons, which may come and go."""

    def __init__(self, daemons: Sequence[str], folder: Path, house: House | None = None) -> None:
        """With a `house` those of another machine. Raises EndpointError: path too long, folder not ours."""
        self._keys = Keys(house.key, house.secret) if house else None
        if house is not None:
            self._endpoints = {daemon: house.endpoint(daemon, observer=True) for daemon in daemons}
        else:
            self._endpoints = {daemon: f"ipc://{observer_path(daemon, folder)}" for daemon in daemons}
            claim_folder(folder)

    def start(self, on_frames: Callable[[str, list[bytes]], None]) -> None:
        """`on_frames` gets a daemon's name and what it published."""
        self._context: Context = zmq.Context()
        self._sockets = [subscriber(self._context, endpoint, self._keys) for endpoint in self._endpoints.values()]
        self._readers = [
            Reader(socket, partial(on_frames, daemon), frames_max=3)
            for daemon, socket in zip(self._endpoints, self._sockets, strict=True)
        ]

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        for socket in self._sockets:
            socket.close()
        self._context.term()


class ZmqClientTransport:
    """A DEALER and its monitor, which tells at once when the peer comes or goes."""

    trouble = ""

    def __init__(self, daemon: str, folder: Path, context: Context | None = None) -> None:
        """Raises EndpointError: path too long, folder not ours."""
        self.where = str(socket_path(daemon, folder))
        claim_folder(folder)
        self._endpoint = f"ipc://{self.where}"
        self._keys: Keys | None = None
        self._context = context or zmq.Context.instance()

    def start(self, on_up: Callable[[], None], on_down: Callable[[], None], on_frames: OnFrames) -> None:
        self._on_up, self._on_down = on_up, on_down
        self._socket = dealer(self._context, self._keys)
        self._monitor = self._socket.get_monitor_socket(_OUTCOMES)
        self._socket.connect(self._endpoint)
        self._events = Reader(self._monitor, self._happened, frames_max=2)
        self._reader = Reader(self._socket, on_frames, limits.FRAMES_MAX)

    @property
    def silence_s(self) -> float:
        return limits.PEER_SILENCE_S

    def _happened(self, frames: list[bytes]) -> None:
        event = parse_monitor_message(frames)["event"]
        if event == zmq.EVENT_DISCONNECTED:
            self._on_down()
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.trouble = ""
            self._on_up()
        else:
            self._failed(event)

    def _failed(self, event: int) -> None:
        """A connection did not come about. On this machine the next one follows by itself, and the reason is in the
        daemon's log."""

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


_OUTCOMES = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)
