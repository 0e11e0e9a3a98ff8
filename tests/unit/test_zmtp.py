"""ZMTP as bytes: what is made of it, and what is made of garbage."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.zmtp import (
    COMMAND,
    GREETING,
    GREETING_BYTES,
    LONG,
    MORE,
    Violation,
    command,
    cut,
    frame,
    greeted,
    multipart,
    parted,
    properties,
    ready,
)


def test_the_wire_format() -> None:
    assert frame(b"ab") == b"\x00\x02ab"
    assert frame(b"x" * 256, MORE) == b"\x03" + (256).to_bytes(8, "big") + b"x" * 256
    assert multipart([b"a", b"", b"b"]) == b"\x01\x01a\x01\x00\x00\x01b"
    assert command(b"PONG", b"x") == b"\x04\x06\x04PONGx"
    assert ready(b"SUB") == b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
    assert len(GREETING) == GREETING_BYTES


@given(st.integers(0, 600), st.sampled_from((0, MORE, COMMAND)), st.binary(max_size=5))
def test_a_frame_is_cut_out_when_it_is_all_there(size: int, flags: int, before: bytes) -> None:
    body = bytes(size)
    stream = before + frame(body, flags) + b"more"
    end = len(stream) - 4
    assert cut(stream, len(before)) == (flags | (LONG if size > 255 else 0), end - size, end)
    assert all(cut(stream[:part], len(before)) is None for part in range(len(before), end))


@pytest.mark.parametrize("size", [257, 2**63, 2**64 - 1])
def test_a_frame_that_is_too_large_is_known_by_its_first_bytes(size: int) -> None:
    begun = b"\x02" + size.to_bytes(8, "big")
    assert cut(begun[:-1], size_max=256) is None
    with pytest.raises(Violation, match=f"a frame of {size:,} bytes, at most 256 are allowed"):
        cut(begun, size_max=256)
    assert cut(frame(bytes(256)), size_max=256)


def test_a_long_frame_may_be_short() -> None:
    assert cut(b"\x02" + bytes(7) + b"\x01x") == (LONG, 9, 10)


@pytest.mark.parametrize("version", [b"\x03\x00", b"\x03\x01", b"\x03\x02", b"\x04\x00"])
def test_a_greeting_is_known_when_it_is_all_there(version: bytes) -> None:
    greeting = GREETING[:10] + version + GREETING[12:]
    assert not any(greeted(greeting[:part]) for part in range(GREETING_BYTES))
    assert greeted(greeting)
    assert greeted(greeting + b"more")


@pytest.mark.parametrize(
    ("begun", "what"),
    [
        (b"GET / HTTP/1.1", "does not speak ZeroMQ's protocol"),
        (b"\x01\x00", "does not speak ZeroMQ's protocol"),
        (b"\xff" + bytes(9), "does not speak ZeroMQ's protocol"),
        (GREETING[:10] + b"\x01", "a version of ZeroMQ's protocol before 3"),
        (GREETING[:12] + b"CURVE" + bytes(47), "its mechanism is b'CURVE', not NULL"),
    ],
)
def test_another_greeting_is_known_as_soon_as_it_differs(begun: bytes, what: str) -> None:
    with pytest.raises(Violation, match=what):
        greeted(begun)


def test_commands_have_a_name_and_properties_have_values() -> None:
    assert parted(b"\x04PING\x00\x00x") == (b"PING", b"\x00\x00x")
    assert properties(b"\x01A\x00\x00\x00\x02bc\x01d\x00\x00\x00\x00") == {b"a": b"bc", b"d": b""}
    for nameless in (b"", b"\x00abc", b"\x05PING"):
        with pytest.raises(Violation, match="without a name"):
            parted(nameless)
    for short in (b"\x01", b"\x01A\x00\x00\x00", b"\x01A\x00\x00\x00\x02b", b"\x01A\xff\xff\xff\xffb"):
        with pytest.raises(Violation, match="cut short"):
            properties(short)


@given(st.binary(max_size=300))
def test_garbage_is_a_violation_or_something(data: bytes) -> None:
    for read in (greeted, parted, properties, lambda data: cut(data, 0, 256)):
        with suppress(Violation):
            read(data)
