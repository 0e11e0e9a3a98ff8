"""Cutting a ZMTP stream into messages: the same whatever the pieces in which it comes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.zmtp import GREETING_BYTES, multipart
from tools.harness.zmtp import Splitter, Unit

GREETING = bytes(range(GREETING_BYTES))
READY = b"\x04\x05ready"
LONG = b"x" * 300
MESSAGES = [(b"header",), (b"header", LONG), (b"",), (b"a", b"b")]
STREAM = GREETING + READY + b"".join(map(multipart, MESSAGES))


def test_the_wire_format() -> None:
    assert multipart((b"ab",)) == b"\x00\x02ab"
    assert multipart((b"a", LONG)) == b"\x01\x01a" + b"\x02\x00\x00\x00\x00\x00\x00\x01\x2c" + LONG


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=20))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    splitter, units = Splitter(), list[Unit]()
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(places):
        units += splitter.feed(STREAM[start:end])
    assert b"".join(unit.raw for unit in units) == STREAM
    assert [unit.frames for unit in units if unit.frames] == MESSAGES
    assert [unit.raw for unit in units if not unit.frames][-1] == READY


@pytest.mark.parametrize("message", MESSAGES)
def test_an_unfinished_message_waits(message: tuple[bytes, ...]) -> None:
    splitter, raw = Splitter(), multipart(message)
    splitter.feed(GREETING)
    assert splitter.feed(raw[:-1]) == []
    assert splitter.feed(raw[-1:]) == [Unit(raw, message)]
