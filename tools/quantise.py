"""Rewrites the Q4_1 weights of a GGUF file as Q8_0, which llama.cpp reads faster (docs/adr/008-model-form.md).

The same file gives the same bytes on every machine, so that the result can be checked by its SHA-256: only single
IEEE operations on float32, in an order that is fixed here, and no sum that a library may reorder.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Numbers of ggml's types, each with the weights and the bytes of one of its blocks.
F32, Q4_1, Q8_0 = 0, 3, 8
_BLOCKS = {F32: (1, 4), Q4_1: (32, 20), Q8_0: (32, 34)}

_MOSTLY_Q8_0 = 7  # of llama.cpp's file types
_FILE_TYPE = "general.file_type"
_ALIGNMENT = 32
_AT_ONCE = 4096
"""Blocks in the processor's cache at the same time."""

# GGUF's types of metadata: bytes of those of a fixed size.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Tensor:
    """`entry`: where the header holds its type and its offset. `start`: of its data, from the file's beginning."""

    weights: int
    entry: int
    kind: int
    start: int

    @property
    def size(self) -> int:
        weights, size = _BLOCKS[self.kind]
        return self.weights // weights * size

    @property
    def target(self) -> int:
        """The type that it is rewritten in."""
        return Q8_0 if self.kind == Q4_1 else self.kind


def quantise(source: Path, target: Path) -> None:
    """Writes `target`. `source` is a whole GGUF file of types F32, Q4_1 and Q8_0, which the caller has checked."""
    content = source.read_bytes()
    header, tensors = _Header(content).read()
    with target.open("wb") as out:
        out.write(header)
        for tensor in tensors:
            offset = out.tell() - len(header)
            struct.pack_into("<IQ", header, tensor.entry, tensor.target, offset)
            for blocks in _rewritten(tensor, content):
                out.write(blocks)
            out.write(bytes(-out.tell() % _ALIGNMENT))
        out.seek(0)
        out.write(header)


def _rewritten(tensor: Tensor, content: bytes) -> Iterator[bytes]:
    raw = np.frombuffer(content, np.uint8, tensor.size, tensor.start)
    if tensor.target == tensor.kind:
        yield raw.tobytes()
        return
    blocks = raw.reshape(-1, _BLOCKS[Q4_1][1])
    for start in range(0, len(blocks), _AT_ONCE):
        yield _q8_0(_weights(blocks[start : start + _AT_ONCE])).tobytes()


def _weights(blocks: Bytes) -> Floats:
    """What blocks of Q4_1 stand for: scale x code + minimum, 32 to a row."""
    ends: Floats = np.ascontiguousarray(blocks[:, :4]).view("<f2").astype(np.float32)
    codes = np.concatenate((blocks[:, 4:] & 15, blocks[:, 4:] >> 4), axis=1)
    weights: Floats = ends[:, :1] * codes.astype(np.float32) + ends[:, 1:]
    return weights


def _q8_0(weights: Floats) -> Bytes:
    scale: Floats = np.abs(weights).max(axis=1) / np.float32(127)
    codes = np.rint(weights * _inverse(scale)[:, None]).astype(np.int8)
    return np.concatenate((_half(scale), codes.view(np.uint8)), axis=1)


def _inverse(scale: Floats) -> Floats:
    """1 / scale, 0 for a block of zeros."""
    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)


def _half(scale: Floats) -> Bytes:
    """As float16, two bytes to a row."""
    return np.ascontiguousarray(scale.astype("<f2")[:, None]).view(np.uint8)


class _Header:
    """What stands before the data. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def read(self) -> tuple[bytearray, list[Tensor]]:
        """The header, its file type changed to what it will be, and the tensors in the order of their data."""
        _magic, _version, tensors, pairs = self._take("<4sIQQ")
        file_type = 0
        for _ in range(pairs):
            key = self._string()
            (kind,) = self._take("<I")
            if key == _FILE_TYPE:
                file_type = self._at
            self._skip(kind)
        described = [self._tensor() for _ in range(tensors)]
        end = self._at + -self._at % _ALIGNMENT
        header = bytearray(self._content[:end])
        struct.pack_into("<I", header, file_type, _MOSTLY_Q8_0)
        found = [Tensor(weights, entry, kind, end + offset) for weights, entry, kind, offset in described]
        return header, sorted(found, key=lambda tensor: tensor.start)

    def _tensor(self) -> tuple[int, int, int, int]:
        self._string()
        (dimensions,) = self._take("<I")
        weights = math.prod(self._take(f"<{dimensions}Q"))
        entry = self._at
        kind, offset = self._take("<IQ")
        return weights, entry, kind, offset

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self._content, self._at)
        self._at += struct.calcsize(form)
        return values

    def _string(self) -> str:
        (length,) = self._take("<Q")
        self._at += length
        return self._content[self._at - length : self._at].decode()

    def _skip(self, kind: int) -> None:
        if kind == _STRING:
            self._string()
        elif kind == _ARRAY:
            inner, count = self._take("<IQ")
            for _ in range(count):
                self._skip(inner)
        else:
            self._at += _SIZES[kind]
