"""What stood in the place of ipc/observation.py before it: an XPUB of libzmq, to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import zmq

from ipc.doorkeeper import Doorkeeper
from ipc.security import Gatekeeper
from ipc.sockets import Context, Reader, publisher, send_now


class ObservedByLibzmq:
    def __init__(self, daemon: str, path: Path, fd: int | None, member: Callable[[int], bool]) -> None:
        self.subscriptions = 0
        self._context: Context = zmq.Context()
        self._gate = Gatekeeper(self._context, member)
        self._socket = publisher(self._context)
        self._socket.bind(f"ipc://{path}")

    def start(self) -> None:
        self._readers = [Doorkeeper(self._gate), Reader(self._socket, self._heard, frames_max=1)]

    def _heard(self, frames: list[bytes]) -> None:
        self.subscriptions += {b"\x01": 1, b"\x00": -1}.get(frames[0][:1], 0)

    def publish(self, topic: bytes, frames: Sequence[bytes]) -> None:
        send_now(self._socket, [topic, *frames])
        self._readers[-1].sent()

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self.abandon()

    def abandon(self) -> None:
        self._context.destroy(linger=0)
