"""The transport's in-process twin: same behaviour, no sockets, for tests and simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ipc import limits
from ipc.access import Guest
from ipc.intake import OnFlood, OnGone, OnPeerFrames
from ipc.transport import Frames, OnFrames


class InprocHub:
    """A server transport that clients join by `InprocClient(hub)`. Frames arrive on a later loop turn."""

    def __init__(self) -> None:
        self.observers = 0
        self.guest: Guest | None = None
        self.published: list[tuple[bytes, list[bytes]]] = []
        self._clients: dict[bytes, InprocClient] = {}
        self._joined = 0
        self._on_frames: OnPeerFrames | None = None

    def start(self, on_frames: OnPeerFrames, on_flood: OnFlood, on_gone: OnGone) -> None:
        self._on_frames = on_frames
        for client in self._clients.values():
            client.up()

    def still_allowed(self, guest: Guest) -> bool:
        return True

    def join(self, client: InprocClient) -> bytes:
        self._joined += 1
        peer = self._joined.to_bytes(5, "big")
        self._clients[peer] = client
        if self._on_frames is not None:
            client.up()
        return peer

    def leave(self, peer: bytes) -> None:
        self._clients.pop(peer, None)

    def arrive(self, peer: bytes, frames: list[bytes]) -> bool:
        if self._on_frames is None or peer not in self._clients:
            return False
        asyncio.get_running_loop().call_soon(self._arrived, peer, frames)
        return True

    def _arrived(self, peer: bytes, frames: list[bytes]) -> None:
        if self._on_frames is not None:
            self._on_frames(peer, frames)

    def send(self, peer: bytes, frames: Frames) -> bool:
        client = self._clients.get(peer)
        if client is None:
            return False
        asyncio.get_running_loop().call_soon(client.arrive, list(frames))
        return True

    def publish(self, topic: bytes, frames: Frames) -> None:
        self.published.append((topic, list(frames)))

    def who(self, peer: bytes) -> str:
        return f"connection {int.from_bytes(peer, 'big')}"

    def cut(self, peer: bytes, alone: bool) -> list[bytes]:
        client = self._clients.pop(peer, None)
        if client is None:
            return []
        client.reconnect()
        return [peer]

    def forget(self, peer: bytes) -> None:
        """There is nothing to forget."""

    def close(self) -> None:
        self._on_frames = None
        for client in list(self._clients.values()):
            client.down()


class InprocClient:
    """A client transport to an InprocHub of the same loop."""

    where = "in process"
    trouble = ""

    @property
    def silence_s(self) -> float:
        return limits.PEER_SILENCE_S

    def __init__(self, hub: InprocHub) -> None:
        self._hub = hub
        self._started = False

    def start(self, on_up: Callable[[], None], on_down: Callable[[], None], on_frames: OnFrames) -> None:
        self._on_up, self._on_down, self._on_frames = on_up, on_down, on_frames
        self._started = True
        self._peer = self._hub.join(self)

    def reconnect(self) -> None:
        """As a socket does whose connection was ended."""
        self.down()
        self._peer = self._hub.join(self)

    def up(self) -> None:
        self._soon(self._on_up)

    def down(self) -> None:
        self._soon(self._on_down)

    def _soon(self, happened: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(lambda: happened() if self._started else None)

    def arrive(self, frames: list[bytes]) -> None:
        if self._started:
            self._on_frames(frames)

    def send(self, frames: Frames) -> bool:
        return self._hub.arrive(self._peer, list(frames))

    def close(self) -> None:
        self._started = False
        self._hub.leave(self._peer)
