"""A recording on disk: every message that passed, with its time, and what is known to be missing.

A file is MAGIC and blocks, a block its length, the CRC-32 of its payload and the payload (both numbers unsigned, 32
bits, little-endian). The first payload is a Header as msgpack, each other one an Entry or a Gap. Whatever ends the
writing, the file can be read up to the last whole block.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from ipc import codec, limits
from ipc.codec import Message
from ipc.errors import EXIT_CANT_CREATE, EXIT_IO, EXIT_NO_INPUT, RemoteProtocolError, TimmyError

MAGIC = b"TIMMYREC"
FORMAT_VERSION = 1
BLOCK = struct.Struct("<II")
BLOCK_MAX_BYTES = limits.HEADER_MAX_BYTES + limits.PAYLOAD_MAX_BYTES + 1024
"""The largest message and what is written beside it."""


class Unreadable(TimmyError):
    """A file that is no recording, or cannot be opened."""

    exit_status = EXIT_NO_INPUT


class Unwritable(TimmyError):
    """The file cannot be made."""

    exit_status = EXIT_CANT_CREATE


class DiskFailed(TimmyError):
    """The file cannot be written any further. What is in it is whole."""

    exit_status = EXIT_IO


class Header(msgspec.Struct, frozen=True):
    """`monotonic_ns` and `realtime_ns` (Unix) were read at the same moment; `daemons`: those that were recorded."""

    version: int
    monotonic_ns: int
    realtime_ns: int
    daemons: list[str]


class Entry(msgspec.Struct, frozen=True, array_like=True, tag="message"):
    """One message. `peer`: number of the connection in the daemon's life; `caller`: its name; `under_way`: a request
    that had come before the recording began."""

    t_ns: int
    daemon: str
    peer: int
    caller: str
    incoming: bool
    under_way: bool
    frames: list[bytes]

    @property
    def message(self) -> Message:
        """Raises RemoteProtocolError."""
        return codec.decode(self.frames)


class Gap(msgspec.Struct, frozen=True, array_like=True, tag="gap"):
    """From here on until the next Entry of the daemon nothing is known of it."""

    t_ns: int
    daemon: str
    detail: str


class _Version(msgspec.Struct, frozen=True):
    """What of a header every version has."""

    version: int


_block = msgspec.msgpack.Decoder(Entry | Gap)


class Writer:
    """Makes a recording that its owner alone can read. Raises Unwritable when there is such a file already."""

    def __init__(self, path: Path, daemons: Sequence[str]) -> None:
        self.path = path
        self.size = 0
        """Bytes written so far."""
        self._begun = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise Unwritable(f"{path} is there already: remove it, or choose another name") from None
        except OSError as error:
            raise Unwritable(f"{path}: {error.strerror}") from None
        header = Header(FORMAT_VERSION, time.monotonic_ns(), time.time_ns(), list(daemons))
        try:
            self._append(MAGIC + _framed(header))
        except DiskFailed:
            self.close()
            raise
        self._begun = self.size

    def write(self, entry: Entry | Gap) -> None:
        """Raises DiskFailed."""
        self._append(_framed(entry))

    @property
    def empty(self) -> bool:
        """Whether nothing has come to it."""
        return self.size == self._begun

    def close(self) -> None:
        """A file to which nothing came is removed."""
        os.close(self._fd)
        if self.empty:
            self.path.unlink()

    def _append(self, data: bytes) -> None:
        try:
            left = data
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            os.ftruncate(self._fd, self.size)
            rest = "; what it holds until now can be replayed" if not self.empty else ""
            raise DiskFailed(f"{self.path}: {error.strerror}{rest}") from None
        self.size += len(data)


def _framed(value: msgspec.Struct) -> bytes:
    payload = msgspec.msgpack.encode(value)
    return BLOCK.pack(len(payload), zlib.crc32(payload)) + payload


class Recording:
    """A recording, read entry by entry in bounded memory. After the last one `damage` is final.

    Raises Unreadable when there is not even a header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = ""
        """What ended the reading early, empty where nothing did."""
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from None
        try:
            self.header = self._header()
        except OSError as error:
            self._file.close()
            raise Unreadable(f"{path}: {error.strerror}") from None
        except Unreadable:
            self._file.close()
            raise

    def _header(self) -> Header:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise Unreadable(f"{self.path}: not a recording of `timmy record`")
        payload, self.damage = _payload(self._file, len(MAGIC))
        if payload is None:
            raise Unreadable(f"{self.path}: damaged from its beginning")
        try:
            version = msgspec.msgpack.decode(payload, type=_Version).version
            if version > FORMAT_VERSION:
                raise Unreadable(f"{self.path}: written by a newer version of Timmy (format {version})")
            return msgspec.msgpack.decode(payload, type=Header)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Unreadable(f"{self.path}: its header cannot be read: {error}") from None

    def __iter__(self) -> Iterator[Entry | Gap]:
        with self._file:
            while not self.damage:
                at = self._file.tell()
                payload, self.damage = _payload(self._file, at)
                if payload is None:
                    return
                try:
                    entry = _block.decode(payload)
                    if isinstance(entry, Entry):
                        codec.decode(entry.frames)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RemoteProtocolError):
                    self.damage = f"damaged at byte {at}"
                    return
                yield entry


def _payload(file: BinaryIO, at: int) -> tuple[bytes | None, str]:
    """The next payload, or None; and the damage, where that is why there is none."""
    start = file.read(BLOCK.size)
    if not start:
        return None, ""
    if len(start) < BLOCK.size:
        return None, f"cut off at byte {at}"
    length, crc = BLOCK.unpack(start)
    if length > BLOCK_MAX_BYTES:
        return None, f"damaged at byte {at}"
    payload = file.read(length)
    if len(payload) < length:
        return None, f"cut off at byte {at}"
    if zlib.crc32(payload) != crc:
        return None, f"damaged at byte {at}"
    return payload, ""
