"""What marks.py wrote, read back: everything up to the first damage, and what is missing."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ipc.errors import TimmyError
from ipc.marks import FORMAT_VERSION, FRAME, LOST, MAGIC, MARK, Header, Mark, Stage


class _Version(msgspec.Struct, frozen=True):
    """What of a header every version has."""

    version: int


class TraceError(TimmyError):
    """A file that holds no marks which could be read."""


@dataclass(frozen=True, slots=True)
class TraceFile:
    """What could be read of a file."""

    path: Path
    header: Header
    marks: list[Mark]
    lost: int
    """Marks that the daemon could not keep."""
    unknown: int
    """Marks of stages that this version does not know."""
    damage: str
    """What ended the reading early, empty where nothing did."""


def read(path: Path) -> TraceFile:
    """Everything up to the end or the first damage. Raises TraceError when there is not even a header."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    if not data.startswith(MAGIC):
        raise TraceError(f"{path}: not a file of trace marks")
    blocks = _Blocks(data)
    header = _header(path, next(iter(blocks), None))
    known = {number: Stage[name.upper()] for number, name in header.stages.items() if name.upper() in Stage.__members__}
    marks: list[Mark] = []
    lost = unknown = 0
    for payload in blocks:
        lost += LOST.unpack_from(payload)[0]
        whole = len(payload) - (len(payload) - LOST.size) % MARK.size
        for rid, number, t_ns, arg in MARK.iter_unpack(payload[LOST.size : whole]):
            if stage := known.get(number):
                marks.append(Mark(rid, stage, t_ns, arg))
            else:
                unknown += 1
    return TraceFile(path, header, marks, lost, unknown, blocks.damage)


class _Blocks:
    """The payloads after MAGIC, up to the end of the file or the first damage. Each is given once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = len(MAGIC)
        self.damage = ""

    def __iter__(self) -> Iterator[bytes]:
        while not self.damage and self._at < len(self._data):
            start = self._at + FRAME.size
            if start > len(self._data):
                self.damage = f"cut off at byte {self._at}"
                return
            length, crc = FRAME.unpack_from(self._data, self._at)
            payload = self._data[start : start + length]
            if len(payload) < length:
                self.damage = f"cut off at byte {self._at}"
            elif zlib.crc32(payload) != crc or length < LOST.size:
                self.damage = f"damaged at byte {self._at}"
            else:
                self._at = start + length
                yield payload


def _header(path: Path, payload: bytes | None) -> Header:
    if payload is None:
        raise TraceError(f"{path}: damaged from its beginning")
    try:
        version = msgspec.msgpack.decode(payload, type=_Version).version
        if version > FORMAT_VERSION:
            raise TraceError(f"{path}: written by a newer version of Timmy (format {version}, not {FORMAT_VERSION})")
        return msgspec.msgpack.decode(payload, type=Header)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise TraceError(f"{path}: its header cannot be read: {error}") from None
