"""The golden vectors: what is on disk is what the codec does, both ways, and what a stranger's msgpack reads."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack
import pytest

from ipc import limits
from ipc.codec import decode, encode
from ipc.messages import REGISTRY
from tests.protocol.shapes import CASES, fields, from_json, hexed

VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("vectors.json").read_text("utf-8"))
_each = pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['type']}-{v['case']}")


def _frames(vector: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(frame) for frame in vector["frames"]]


def test_every_type_has_its_vectors() -> None:
    counts = Counter(vector["type"] for vector in VECTORS)
    assert set(counts) == set(REGISTRY)
    assert min(counts.values()) >= len(CASES) >= 3
    assert len({json.dumps(vector["message"]) + vector["type"] for vector in VECTORS}) == len(VECTORS)


@_each
def test_the_codec_writes_the_vector(vector: dict[str, Any]) -> None:
    assert encode(from_json(vector["type"], vector["message"])) == _frames(vector)


@_each
def test_the_codec_reads_the_vector(vector: dict[str, Any]) -> None:
    message = decode(_frames(vector))
    assert message == from_json(vector["type"], vector["message"])
    assert type(message.body) is REGISTRY[vector["type"]]


@_each
def test_plain_msgpack_reads_the_vector(vector: dict[str, Any]) -> None:
    header, *payload = _frames(vector)
    plain = msgpack.unpackb(header)
    expected = vector["message"]
    assert plain["v"] == limits.PROTOCOL_VERSION
    assert plain["type"] == vector["type"]
    assert set(plain) == {"v", "type", "rid", "seq", "epoch", "ttl_ms", "body"}
    for field in ("rid", "seq", "epoch", "ttl_ms"):
        assert hexed(plain[field]) == expected[field]
    assert set(plain["body"]) == {f.name for f in fields(REGISTRY[vector["type"]])}
    for field, value in plain["body"].items():
        assert hexed(value) == expected["body"][field]
        assert type(hexed(value)) is type(expected["body"][field])
    assert b"".join(payload).hex() == expected["payload"]
