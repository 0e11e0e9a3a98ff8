"""Rewrites the Q4_1 weights of a GGUF file in forms that llama.cpp's kernels read faster (docs/adr/008-model-form.md).

The same file gives the same bytes on every machine, so that the result can be checked by its SHA-256: only single
IEEE operations on float32, in an order that is fixed here, and no sum that a library may reorder.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Numbers of ggml's types, each with the weights and the bytes of one of its blocks.
F32, Q4_1, Q8_0, IQ4_NL = 0, 3, 8, 20
_BLOCKS = {F32: (1, 4), Q4_1: (32, 20), Q8_0: (32, 34), IQ4_NL: (32, 18)}

_MOSTLY_IQ4_NL = 25  # of llama.cpp's file types
_FILE_TYPE = "general.file_type"
_ALIGNMENT = 32
_AT_ONCE = 4096
"""Blocks in the processor's cache at the same time."""

_COARSE = ("ffn_gate", "ffn_up")
"""Parts of the network that answer as well with 4 bits of another kind. The others do not and get 8."""

# GGUF's types of metadata: bytes of those of a fixed size.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9

# What the 16 codes of IQ4_NL stand for, times the scale of their block.
_CODES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_NEAREST = np.array([min(range(16), key=lambda code: abs(_CODES[code] - v)) for v in range(-128, 128)], np.uint8)
_VALUES = np.array(_CODES, np.float32)
_EXTREMES = tuple(np.float32(end * stretch / 16) for end in (-127, 113) for stretch in (14, 15, 16, 17, 18))
"""What the largest weight of a block may become; the one that fits the whole block best is taken."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """`entry`: where the header holds its type and its offset. `start`: of its data, from the file's beginning."""

    name: str
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
        if self.kind != Q4_1:
            return self.kind
        return IQ4_NL if any(part in self.name for part in _COARSE) else Q8_0


def quantise(source: Path, target: Path, progress: Callable[[int], None]) -> None:
    """Writes `target`. `progress` is called with the number of bytes of `source` that are done since the last call.

    `source` is a whole GGUF file of types F32, Q4_1, Q8_0 and IQ4_NL, which the caller has checked.
    """
    content = source.read_bytes()
    header, tensors = _Header(content).read()
    progress(len(header))
    with target.open("wb") as out:
        out.write(header)
        for tensor in tensors:
            offset = out.tell() - len(header)
            struct.pack_into("<IQ", header, tensor.entry, tensor.target, offset)
            for blocks in _rewritten(tensor, content):
                out.write(blocks)
            out.write(bytes(-out.tell() % _ALIGNMENT))
            progress(tensor.size)
        out.seek(0)
        out.write(header)


def _rewritten(tensor: Tensor, content: bytes) -> Iterator[bytes]:
    raw = np.frombuffer(content, np.uint8, tensor.size, tensor.start)
    if tensor.target == tensor.kind:
        yield raw.tobytes()
        return
    form = _iq4_nl if tensor.target == IQ4_NL else _q8_0
    blocks = raw.reshape(-1, _BLOCKS[Q4_1][1])
    for start in range(0, len(blocks), _AT_ONCE):
        yield form(_weights(blocks[start : start + _AT_ONCE])).tobytes()


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


def _iq4_nl(weights: Floats) -> Bytes:
    """The scale and the codes of each block with the smallest sum of squared errors among those tried."""
    largest = np.take_along_axis(weights, np.abs(weights).argmax(axis=1)[:, None], axis=1)[:, 0]
    least = np.full(len(weights), np.inf, np.float32)
    scales = np.zeros_like(largest)
    codes = np.zeros(weights.shape, np.uint8)
    for extreme in _EXTREMES:
        tried = _codes(weights, largest / extreme)
        values = _VALUES[tried]
        # Given the codes, the scale of least squares; as it will be stored.
        scale = _sums(weights * values) / _sums(values * values)
        scale = scale.astype(np.float16).astype(np.float32)
        errors = weights - scale[:, None] * values
        error = _sums(errors * errors)
        better = error < least
        least[better], scales[better], codes[better] = error[better], scale[better], tried[better]
    return np.concatenate((_half(scales), codes[:, :16] | codes[:, 16:] << 4), axis=1)


def _codes(weights: Floats, scale: Floats) -> Bytes:
    steps = np.clip(np.rint(weights * _inverse(scale)[:, None]), -128, 127)
    codes: Bytes = _NEAREST[steps.astype(np.int16) + 128]
    return codes


def _inverse(scale: Floats) -> Floats:
    """1 / scale, 0 for a block of zeros."""
    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)


def _half(scale: Floats) -> Bytes:
    """As float16, two bytes to a row."""
    return np.ascontiguousarray(scale.astype("<f2")[:, None]).view(np.uint8)


def _sums(rows: Floats) -> Floats:
    """Of rows of 32, by halves: `numpy.sum` adds in an order that depends on the processor."""
    while (width := rows.shape[1] // 2) > 0:
        rows = rows[:, :width] + rows[:, width:]
    return rows[:, 0]


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
        struct.pack_into("<I", header, file_type, _MOSTLY_IQ4_NL)
        found = [Tensor(name, weights, entry, kind, end + offset) for name, weights, entry, kind, offset in described]
        return header, sorted(found, key=lambda tensor: tensor.start)

    def _tensor(self) -> tuple[str, int, int, int, int]:
        name = self._string()
        (dimensions,) = self._take("<I")
        weights = math.prod(self._take(f"<{dimensions}Q"))
        entry = self._at
        kind, offset = self._take("<IQ")
        return name, weights, entry, kind, offset

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
