"""The messages in the bytes of a ZMTP 3 connection (rfc.zeromq.org/spec/23): as much as a proxy must know."""

from __future__ import annotations

import struct
from typing import NamedTuple

GREETING_BYTES = 64
_MORE, _LONG, _COMMAND = 1, 2, 4
_LENGTH = struct.Struct("!Q")


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
        while (cut := self._cut()) is not None:
            flags, start, end = cut
            self._raw += self._buffer[:end]
            if flags & _COMMAND:
                raw = bytes(self._raw)
                del self._buffer[:end]
                self._raw.clear()
                return Unit(raw)
            self._frames.append(bytes(self._buffer[start:end]))
            del self._buffer[:end]
            if not flags & _MORE:
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

    def _cut(self) -> tuple[int, int, int] | None:
        """Flags, and where the body of the next frame begins and ends; None: it is not all there."""
        if len(self._buffer) < 2:
            return None
        flags = self._buffer[0]
        if flags & _LONG:
            if len(self._buffer) < 1 + _LENGTH.size:
                return None
            start = 1 + _LENGTH.size
            end = start + _LENGTH.unpack_from(self._buffer, 1)[0]
        else:
            start, end = 2, 2 + self._buffer[1]
        return (flags, start, end) if len(self._buffer) >= end else None


def joined(frames: tuple[bytes, ...]) -> bytes:
    """The frames of one message as they go over the wire."""
    raw = bytearray()
    for index, frame in enumerate(frames):
        flags = _MORE if index < len(frames) - 1 else 0
        if len(frame) > 255:
            raw += bytes([flags | _LONG]) + _LENGTH.pack(len(frame))
        else:
            raw += bytes([flags, len(frame)])
        raw += frame
    return bytes(raw)
