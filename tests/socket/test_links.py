"""The end of a connection by its descriptor: that one, and nothing that has its descriptor by now."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.links import Link

Pair = tuple[socket.socket, socket.socket]

ME = f"localhost:{os.getuid()}:{os.getgid()}:{os.getpid()}"


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.fixture
def tcp() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = socket.create_connection(listening.getsockname())
        here, _ = listening.accept()
    with here, there:
        yield here, there


def _ended(there: socket.socket) -> bool:
    there.setblocking(False)
    try:
        return there.recv(1) == b""
    except BlockingIOError:
        return False


def _take(fd: int, other: int) -> None:
    """What is `other` has that descriptor from now on, as after a close and an open."""
    os.dup2(other, fd)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_connection_is_ended_once_and_its_descriptor_stays_ours(pair: Pair) -> None:
    link = Link.at(pair[0].fileno(), ME)
    assert link.cut()
    assert _ended(pair[1])
    assert os.fstat(pair[0].fileno())
    pair[0].close()
    assert not link.cut()


def test_no_descriptor_is_left_behind(pair: Pair) -> None:
    before = _descriptors()
    Link.at(pair[0].fileno(), ME).cut()
    with Path(os.devnull).open() as file:
        Link.at(file.fileno(), ME).cut()
    assert _descriptors() == before


def test_a_connection_of_another_process_is_not_touched(pair: Pair) -> None:
    """The first one ended before its message was read, and libzmq named a peer that this is not."""
    link = Link.at(pair[0].fileno(), f"localhost:{os.getuid()}:{os.getgid()}:1")
    assert not link.cut()
    assert not _ended(pair[1])


def test_who_got_the_descriptor_later_is_not_touched(pair: Pair) -> None:
    link = Link.at(pair[0].fileno(), ME)
    other, its_peer = socket.socketpair()
    with other, its_peer:
        _take(pair[0].fileno(), other.fileno())
        assert not link.cut()
        assert not _ended(its_peer)


def test_a_file_that_got_the_descriptor_is_not_touched(pair: Pair, tmp_path: Path) -> None:
    link = Link.at(pair[0].fileno(), ME)
    with (tmp_path / "file").open("w") as file:
        _take(pair[0].fileno(), file.fileno())
    assert not link.cut()
    assert not Link.at(pair[0].fileno(), ME).cut()


def test_a_peer_on_the_network_is_known_by_where_it_is(tcp: Pair) -> None:
    assert not Link.at(tcp[0].fileno(), "10.0.0.1").cut()
    link = Link.at(tcp[0].fileno(), "127.0.0.1")
    assert link.who == "127.0.0.1"
    assert link.cut()
    assert tcp[1].recv(1) == b""


@pytest.mark.parametrize(
    ("address", "who"),
    [("localhost:1000:100:4711", "uid 1000, pid 4711"), ("192.168.1.7", "192.168.1.7"), ("localhost", "localhost")],
)
def test_the_kernels_word_in_a_sentence(address: str, who: str) -> None:
    assert Link(address, 0, (0, 0)).who == who
