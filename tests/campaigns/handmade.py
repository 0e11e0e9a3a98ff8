"""A plain Unix socket that speaks ZeroMQ's wire protocol (ipc/zmtp.py), and can send whatever bytes it likes."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ipc.zmtp import COMMAND, GREETING, GREETING_BYTES, MORE, command, cut, multipart, ready

HANG_S = 30.0


class Gone(ConnectionError):
    """The daemon has closed the connection."""


class Peer:
    """A connection that has shaken hands as a `kind` of socket. Raises Gone when the daemon has closed it."""

    def __init__(self, path: Path, kind: bytes = b"DEALER") -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(HANG_S)
        self._left = bytearray()
        try:
            self._socket.connect(str(path))
            self._shake_hands(kind)
        except BaseException:
            self.close()
            raise

    def _shake_hands(self, kind: bytes) -> None:
        self.pour(GREETING + ready(kind))
        while len(self._left) < GREETING_BYTES:
            self._read()
        del self._left[:GREETING_BYTES]
        flags, data = self._frame()
        assert flags & COMMAND, data
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

    def settle(self) -> None:
        """Until all that it has said is read: a heartbeat is answered. What comes meanwhile is dropped."""
        self.pour(command(b"PING", b"\0\0settled"))
        while self._frame() != (COMMAND, b"\x04PONGsettled"):
            pass

    def receive(self) -> list[bytes]:
        """The next message, all its frames. Heartbeats are answered."""
        parts: list[bytes] = []
        while True:
            flags, data = self._frame()
            if flags & COMMAND:
                if data.startswith(b"\x04PING"):
                    with suppress(Gone):  # what it said before is still to be read
                        self.pour(command(b"PONG", data[7:]))
                continue
            parts.append(data)
            if not flags & MORE:
                return parts

    def _frame(self) -> tuple[int, bytes]:
        while (found := cut(self._left)) is None:
            self._read()
        flags, start, end = found
        body = bytes(self._left[start:end])
        del self._left[:end]
        return flags, body

    def _read(self) -> None:
        try:
            more = self._socket.recv(65_536)
        except ConnectionResetError:
            more = b""
        if not more:
            raise Gone
        self._left += more
