"""Who may connect, by the kernel's word."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import zmq

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
