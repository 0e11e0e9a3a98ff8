"""Who may connect, by the kernel's word, or by a key."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import zmq
from zmq.utils import z85

from ipc.security import DOMAIN, Gatekeeper, allowed_uids, peer_uid


@pytest.mark.parametrize(
    ("address", "uid"),
    [
        (b"localhost:1000:1000:4711", 1000),
        (b"localhost:0:0:1", 0),
        (b"localhost:4294967294:0:1", 4294967294),
        (b"", None),
        (b"localhost", None),
        (b"127.0.0.1", None),
        (b"::1", None),
        (b"fe80:0::1", None),
        (b"localhost:0:0", None),
        (b"localhost:0:0:1:2", None),
        (b"localhost:-1:0:1", None),
        (b"localhost:\xb2:0:1", None),
        (b"localhost::0:1", None),
        (b"elsewhere:0:0:1", None),
    ],
)
def test_the_uid_of_an_address(address: bytes, uid: int | None) -> None:
    assert peer_uid(address) == uid


def test_only_this_user_and_root_are_welcome() -> None:
    assert allowed_uids() == {os.getuid(), 0}


@pytest.fixture
def gate() -> Iterator[Gatekeeper]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keeper = Gatekeeper(context)
    yield keeper
    keeper.socket.close()
    context.term()


def _asked(address: bytes) -> list[bytes]:
    return [b"route", b"", b"1.0", b"42", DOMAIN, address, b"", b"NULL"]


def test_the_answer_repeats_version_and_request(gate: Gatekeeper) -> None:
    reply = gate.answer(_asked(f"localhost:{os.getuid()}:0:1".encode()))
    assert reply == [b"route", b"", b"1.0", b"42", b"200", b"OK", str(os.getuid()).encode(), b""]


@pytest.mark.parametrize("address", [b"localhost:65533:0:1", b"127.0.0.1", b""])
def test_strangers_are_refused_and_logged(gate: Gatekeeper, address: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert gate.answer(_asked(address))[4] == b"400"
    assert "refused a connection" in caplog.text


def test_half_a_question_gets_no_answer(gate: Gatekeeper) -> None:
    assert gate.answer(_asked(b"localhost:0:0:1")[:7]) == []


# --- keys, over a network ---

KEY = bytes(range(32))
NAMED = z85.encode(KEY).decode()


def _with_key(mechanism: bytes, *credentials: bytes, address: bytes = b"192.0.2.7") -> list[bytes]:
    return [b"route", b"", b"1.0", b"42", DOMAIN, address, b"", mechanism, *credentials]


@pytest.fixture
def door() -> Iterator[Gatekeeper]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keeper = Gatekeeper(context, admits=lambda key: key == NAMED)
    yield keeper
    keeper.socket.close()
    context.term()


def test_an_allowed_key_is_welcome_and_named(door: Gatekeeper) -> None:
    assert door.answer(_with_key(b"CURVE", KEY))[4:7] == [b"200", b"OK", NAMED.encode()]


@pytest.mark.parametrize(
    "frames",
    [
        _with_key(b"CURVE", bytes(32)),
        _with_key(b"CURVE", KEY[:31]),
        _with_key(b"CURVE", KEY + b"\0"),
        _with_key(b"CURVE"),
        _with_key(b"CURVE", KEY, KEY),
        _with_key(b"NULL"),
        _with_key(b"NULL", KEY),
        _with_key(b"PLAIN", b"root", b""),
        _with_key(b"GSSAPI", KEY),
        _with_key(b"PLAIN", b"root", b"", address=b"localhost:0:0:1"),
        _with_key(b"", KEY, address=b"localhost:0:0:1"),
    ],
)
def test_anything_else_is_refused(door: Gatekeeper, frames: list[bytes]) -> None:
    assert door.answer(frames)[4:7] == [b"400", b"not allowed", b""]


def test_without_a_network_no_key_is_welcome(gate: Gatekeeper) -> None:
    assert gate.answer(_with_key(b"CURVE", KEY))[4] == b"400"
