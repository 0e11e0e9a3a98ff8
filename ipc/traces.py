"""What marks.py wrote, read back: everything up to the first damage, and what is missing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from ipc.errors import TimmyError
from ipc.marks import BLOCK_MAX_BYTES, COUNTS, FORMAT_VERSION, FRAME, MAGIC, MARK, Header, Mark, Note, Stage

_LOST_1 = struct.Struct("<I")
"""What a block of format 1 begins with."""


class _Version(msgspec.Struct, frozen=True):
    """What of a header every version has."""

    version: int


class TraceError(TimmyError):
    """A file that holds no marks which could be read."""


class Block(NamedTuple):
    """What a daemon wrote at one time. A mark is (rid, number of its stage, monotonic ns, arg)."""

    marks: list[tuple[bytes, int, int, int]]
    notes: list[Note]


class Trace:
    """A file of marks, read block by block in bounded memory. After the last block `lost` and `damage` are final.

    Raises TraceError when there is not even a header. `stages` gives the stages that this version knows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = 0
        """Marks and notes that the daemon could not keep."""
        self.damage = ""
        """What ended the reading early, empty where nothing did."""
        try:
            self._file = path.open("rb")
            if self._file.read(len(MAGIC)) != MAGIC:
                raise TraceError(f"{path}: not a file of trace marks")
            self.header = _header(path, _payload(self, self._file, len(MAGIC)))
        except OSError as error:
            raise TraceError(f"{path}: {error.strerror}") from None
        except TraceError:
            self._file.close()
            raise
        self.stages = {
            number: Stage[name.upper()]
            for number, name in self.header.stages.items()
            if name.upper() in Stage.__members__
        }

    def close(self) -> None:
        """Only needed when the blocks are not read to their end."""
        self._file.close()

    def __iter__(self) -> Iterator[Block]:
        with self._file:
            at = self._file.tell()
            while not self.damage:
                payload = _payload(self, self._file, at)
                if payload is None:
                    return
                try:
                    yield self._block(payload)
                except (msgspec.DecodeError, ValueError, RecursionError, struct.error):
                    self.damage = f"damaged at byte {at}"
                at += FRAME.size + len(payload)

    def _block(self, payload: bytes) -> Block:
        notes: list[Note] = []
        if self.header.version == 1:
            (lost,) = _LOST_1.unpack_from(payload)
            start = _LOST_1.size
        else:
            lost, size = COUNTS.unpack_from(payload)
            start = COUNTS.size + size
            if size:
                notes = msgspec.msgpack.decode(payload[COUNTS.size : start], type=list[Note])
        whole = len(payload) - (len(payload) - start) % MARK.size
        block = Block(list(MARK.iter_unpack(payload[start:whole])), notes)
        self.lost += lost
        return block


@dataclass(frozen=True, slots=True)
class TraceFile:
    """What could be read of a file."""

    path: Path
    header: Header
    marks: list[Mark]
    notes: list[Note]
    lost: int
    """Marks and notes that the daemon could not keep."""
    unknown: int
    """Marks of stages that this version does not know."""
    damage: str
    """What ended the reading early, empty where nothing did."""


def read(path: Path) -> TraceFile:
    """Everything up to the end or the first damage. Raises TraceError when there is not even a header."""
    trace = Trace(path)
    marks: list[Mark] = []
    notes: list[Note] = []
    unknown = 0
    for block in trace:
        notes += block.notes
        for rid, number, t_ns, arg in block.marks:
            if stage := trace.stages.get(number):
                marks.append(Mark(rid, stage, t_ns, arg))
            else:
                unknown += 1
    return TraceFile(path, trace.header, marks, notes, trace.lost, unknown, trace.damage)


def _payload(trace: Trace, file: BinaryIO, at: int) -> bytes | None:
    """The next payload. None at the end, and where `trace.damage` says why not."""
    frame = file.read(FRAME.size)
    if not frame:
        return None
    if len(frame) < FRAME.size:
        trace.damage = f"cut off at byte {at}"
        return None
    length, crc = FRAME.unpack(frame)
    payload = file.read(min(length, BLOCK_MAX_BYTES + 1))
    if length > BLOCK_MAX_BYTES:
        trace.damage = f"{'damaged' if len(payload) > BLOCK_MAX_BYTES else 'cut off'} at byte {at}"
    elif len(payload) < length:
        trace.damage = f"cut off at byte {at}"
    elif zlib.crc32(payload) != crc or length < _LOST_1.size:
        trace.damage = f"damaged at byte {at}"
    else:
        return payload
    return None


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
