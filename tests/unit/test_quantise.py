"""The form of the embedded model: what the rewritten weights stand for, counted apart from what writes them."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from tools.quantise import quantise

F32, Q4_1, Q8_0 = 0, 3, 8
ALIGNMENT = 32


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(tensors: dict[str, tuple[int, int, bytes]]) -> bytes:
    """A file of such tensors (type, number of weights, data), with metadata of every kind before them."""
    pairs = [
        text("general.name") + struct.pack("<I", 8) + text("small"),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("long one"),
        text("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ3f", 6, 3, 1, 2, 3),
        text("general.file_type") + struct.pack("<II", 4, 3),
        text("flag") + struct.pack("<I?", 7, True),
    ]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs)) + b"".join(pairs)
    data = b""
    for name, (kind, weights, raw) in tensors.items():
        head += text(name) + struct.pack("<IQQIQ", 2, 32, weights // 32, kind, len(data))
        data += raw + bytes(-len(raw) % ALIGNMENT)
    return head + bytes(-len(head) % ALIGNMENT) + data


def read(content: bytes, names: list[str]) -> tuple[int, dict[str, tuple[int, bytes]]]:
    """The file type, and type and data of each tensor, as far as the next one or the end."""
    places = []
    for name in names:
        at = content.index(text(name)) + len(text(name))
        _, _, _, kind, offset = struct.unpack_from("<IQQIQ", content, at)
        places.append((offset, kind))
        end = at + struct.calcsize("<IQQIQ")
    start = end + -end % ALIGNMENT
    offsets = [offset for offset, _ in places] + [len(content) - start]
    (file_type,) = struct.unpack_from("<I", content, content.index(b"general.file_type") + 17 + 4)
    found = {
        name: (kind, content[start + offset : start + following])
        for name, (offset, kind), following in zip(names, places, offsets[1:], strict=True)
    }
    return file_type, found


def q4_1(scale: float, minimum: float, codes: list[int]) -> bytes:
    return struct.pack("<ee", scale, minimum) + bytes(codes[n] | codes[n + 16] << 4 for n in range(16))


def q8_0(block: bytes) -> list[float]:
    scale, *codes = struct.unpack("<e32b", block)
    return [scale * code for code in codes]


@pytest.fixture
def blocks() -> list[tuple[float, float, list[int]]]:
    chance = random.Random(5)
    found = [(0.0625, -0.5, [n % 16 for n in range(32)]), (0.0, 0.0, [0] * 32), (0.0, 0.25, [3] * 32)]
    for _ in range(5000):
        scale = struct.unpack("<e", struct.pack("<e", chance.uniform(0.001, 0.1)))[0]
        found.append((scale, -8 * scale, [chance.randrange(16) for _ in range(32)]))
    return found


def test_each_weight_is_what_it_was_to_half_a_step(
    tmp_path: Path, blocks: list[tuple[float, float, list[int]]]
) -> None:
    norm = struct.pack("<32f", *range(32))
    already = struct.pack("<e32b", 0.5, *range(-16, 16))
    coarse = b"".join(q4_1(*block) for block in blocks)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(gguf({"norm": (F32, 32, norm), "w": (Q4_1, 32 * len(blocks), coarse), "e": (Q8_0, 32, already)}))
    quantise(source, target)

    file_type, found = read(target.read_bytes(), ["norm", "w", "e"])
    assert file_type == 7
    assert found["norm"] == (F32, norm)
    assert found["e"][0] == Q8_0
    assert found["e"][1][:34] == already
    kind, raw = found["w"]
    assert kind == Q8_0
    for number, (scale, minimum, codes) in enumerate(blocks):
        meant = [scale * code + minimum for code in codes]
        step = max(map(abs, meant)) / 127
        # Half a step, and what a scale of 11 bits adds at the largest weight.
        assert q8_0(raw[number * 34 : number * 34 + 34]) == pytest.approx(meant, abs=step * (0.5 + 127 / 2048) + 1e-9)


def test_the_same_source_gives_the_same_file(tmp_path: Path, blocks: list[tuple[float, float, list[int]]]) -> None:
    source = tmp_path / "source"
    source.write_bytes(gguf({"w": (Q4_1, 32 * len(blocks), b"".join(q4_1(*block) for block in blocks))}))
    for name in ("one", "two"):
        quantise(source, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
