"""ZeroMQ's wire protocol as bytes: ZMTP 3.0 and 3.1 (rfc.zeromq.org/spec/23 and 37), mechanism NULL. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence

MORE, LONG, COMMAND = 1, 2, 4
"""Flags of a frame; the others are not used."""

GREETING_BYTES = 64
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
"""Of a peer that speaks 3.1."""

_NO_LIMIT = 2**63 - 1
"""No frame may say more."""

_SHORT_MAX = 255
_LENGTH = struct.Struct("!Q")
_PROPERTY = struct.Struct("!I")


class Violation(Exception):
    """What a peer said is not ZMTP, or more than it may say: half a sentence about it."""


# --- out ---


def frame(body: bytes, flags: int = 0) -> bytes:
    if len(body) > _SHORT_MAX:
        return bytes((flags | LONG,)) + _LENGTH.pack(len(body)) + body
    return bytes((flags, len(body))) + body


def multipart(frames: Sequence[bytes]) -> bytes:
    """One message of several frames."""
    *before, last = frames
    return b"".join([*[frame(each, MORE) for each in before], frame(last)])


def command(name: bytes, data: bytes = b"") -> bytes:
    return frame(bytes((len(name),)) + name + data, COMMAND)


def ready(kind: bytes) -> bytes:
    """The end of a handshake: who says it is a socket of this kind."""
    return command(b"READY", b"\x0bSocket-Type" + _PROPERTY.pack(len(kind)) + kind)


# --- in ---


def greeted(begun: bytes | bytearray) -> bool:
    """Whether the greeting that a peer has begun is all there. Raises Violation as soon as it is none of ZMTP 3 with
    mechanism NULL; the versions after it are spoken as it is."""
    if begun[:1] not in (b"", b"\xff") or begun[9:10] not in (b"", b"\x7f"):
        raise Violation("it does not speak ZeroMQ's protocol")
    if begun[10:11] and begun[10] < 3:
        raise Violation("it speaks a version of ZeroMQ's protocol before 3")
    if len(begun) < GREETING_BYTES:
        return False
    if (mechanism := bytes(begun[12:32]).rstrip(b"\0")) != b"NULL":
        raise Violation(f"its mechanism is {mechanism!r}, not NULL")
    return True


def cut(stream: bytes | bytearray, at: int = 0, size_max: int = _NO_LIMIT) -> tuple[int, int, int] | None:
    """The frame that begins at `at`: its flags, and where its body begins and ends; None: it is not all there. Raises
    Violation as soon as its body is known to be over `size_max` bytes."""
    if len(stream) < at + 2:
        return None
    flags = stream[at]
    if flags & LONG:
        start = at + 1 + _LENGTH.size
        if len(stream) < start:
            return None
        (size,) = _LENGTH.unpack_from(stream, at + 1)
    else:
        start, size = at + 2, stream[at + 1]
    if size > size_max:
        raise Violation(f"a frame of {size:,} bytes, at most {size_max:,} are allowed")
    return (flags, start, start + size) if len(stream) >= start + size else None


def parted(body: bytes) -> tuple[bytes, bytes]:
    """Name and data of a command. Raises Violation."""
    end = 1 + body[0] if body else 0
    if not 1 < end <= len(body):
        raise Violation("a command without a name")
    return body[1:end], body[end:]


def properties(data: bytes) -> dict[bytes, bytes]:
    """What a READY tells, by names in small letters. Raises Violation."""
    found = {}
    while data:
        start = 1 + data[0] + _PROPERTY.size
        if len(data) < start:
            raise Violation("a READY that is cut short")
        (size,) = _PROPERTY.unpack_from(data, start - _PROPERTY.size)
        if len(data) < start + size:
            raise Violation("a READY that is cut short")
        found[data[1 : 1 + data[0]].lower()] = data[start : start + size]
        data = data[start + size :]
    return found
