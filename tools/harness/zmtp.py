"""The messages in the bytes of a ZeroMQ connection: as much as a proxy must know."""

from __future__ import annotations

from typing import NamedTuple

from ipc.zmtp import COMMAND, GREETING_BYTES, MORE, cut


class Unit(NamedTuple):
    """What may be dropped, doubled or moved without breaking the connection: a message with all its frames, or
    what is not one (`frames` empty): the greeting, a command. `raw`: its bytes on the wire."""

    raw: bytes
    frames: tuple[bytes, ...] = ()


class Splitter:
    """Cuts one direction of a connection into units. The unfinished end waits for `feed` to be called again."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeted = False
        self._raw = bytearray()
        self._frames: list[bytes] = []

    def feed(self, data: bytes) -> list[Unit]:
        self._buffer += data
        units = []
        while (unit := self._next()) is not None:
            units.append(unit)
        return units

    def _next(self) -> Unit | None:
        if not self._greeted:
            return self._greeting()
        while (found := cut(self._buffer)) is not None:
            flags, start, end = found
            self._raw += self._buffer[:end]
            if not flags & COMMAND:
                self._frames.append(bytes(self._buffer[start:end]))
            del self._buffer[:end]
            if not flags & MORE:
                unit = Unit(bytes(self._raw), tuple(self._frames))
                self._raw.clear()
                self._frames.clear()
                return unit
        return None

    def _greeting(self) -> Unit | None:
        """Passed on as it comes: each side waits for the other's first bytes before it goes on."""
        if not self._buffer:
            return None
        part = bytes(self._buffer[: GREETING_BYTES - len(self._raw)])
        del self._buffer[: len(part)]
        self._raw += part
        if len(self._raw) == GREETING_BYTES:
            self._greeted = True
            self._raw.clear()
        return Unit(part)
