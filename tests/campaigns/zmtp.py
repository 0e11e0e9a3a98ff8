"""ZeroMQ's wire protocol (ZMTP 3.0, RFC 23) over a plain Unix socket: a peer that can send whatever bytes it likes."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

HANG_S = 30.0

_MORE, _LONG, _COMMAND = 1, 2, 4
_MECHANISM = b"NULL".ljust(20, b"\0")
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + _MECHANISM + bytes(32)
GREETING_BYTES = 64


class Gone(ConnectionError):
    """The daemon has closed the connection."""


def frame(data: bytes, flags: int = 0) -> bytes:
    if len(data) > 255:
        return bytes([flags | _LONG]) + len(data).to_bytes(8, "big") + data
    return bytes([flags, len(data)]) + data


def multipart(parts: Sequence[bytes]) -> bytes:
    """One message of several frames."""
    return b"".join([*(frame(part, _MORE) for part in parts[:-1]), frame(parts[-1])])


def command(name: bytes, data: bytes) -> bytes:
    return frame(bytes([len(name)]) + name + data, _COMMAND)


def ready(kind: bytes) -> bytes:
    """The end of a handshake: who says it is a socket of this kind."""
    return command(b"READY", b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind)


class Peer:
    """A connection that has shaken hands as a `kind` of socket. Raises Gone when the daemon has closed it."""

    def __init__(self, path: Path, kind: bytes = b"DEALER") -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(HANG_S)
        self._left = b""
        try:
            self._socket.connect(str(path))
            self._shake_hands(kind)
        except BaseException:
            self.close()
            raise

    def _shake_hands(self, kind: bytes) -> None:
        self.pour(GREETING + ready(kind))
        self._take(GREETING_BYTES)
        flags, data = self._frame()
        assert flags & _COMMAND, data
        assert data.startswith(b"\x05READY"), data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def pour(self, data: bytes) -> None:
        """Sends bytes as they are."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Gone from None

    def send(self, *parts: bytes) -> None:
        self.pour(multipart(parts))

    def receive(self) -> list[bytes]:
        """The next message, all its frames. Heartbeats are answered."""
        parts: list[bytes] = []
        while True:
            flags, data = self._frame()
            if flags & _COMMAND:
                if data.startswith(b"\x04PING"):
                    with suppress(Gone):  # what it said before is still to be read
                        self.pour(command(b"PONG", data[7:]))
                continue
            parts.append(data)
            if not flags & _MORE:
                return parts

    def _frame(self) -> tuple[int, bytes]:
        flags = self._take(1)[0]
        size = int.from_bytes(self._take(8 if flags & _LONG else 1), "big")
        return flags, self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._left) < size:
            try:
                more = self._socket.recv(65_536)
            except ConnectionResetError:
                more = b""
            if not more:
                raise Gone
            self._left += more
        taken, self._left = self._left[:size], self._left[size:]
        return taken
