"""Sockets that somebody else holds for a daemon, as systemd does: real ones, passed to real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ipc.activation import Passed, passed_sockets
from ipc.endpoints import observer_path, socket_path
from ipc.errors import EndpointError
from ipc.messages import Ping, Pong
from ipc.observer import Observer
from ipc.transport import ZmqServerTransport
from tests.socket.process import serving
from tests.socket.rig import DAEMON, GENERATED, HANG_S, Wire, prompt, run


@contextmanager
def held(folder: Path) -> Iterator[tuple[int, int]]:
    """Both sockets of the daemon, bound and listening, as a .socket unit holds them."""
    with ExitStack() as stack:
        found = []
        for path in (socket_path(DAEMON, folder), observer_path(DAEMON, folder)):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen()
            found.append(listener.fileno())
        yield found[0], found[1]


def _folder(wire: Wire) -> Path:
    assert wire.folder is not None
    return wire.folder


def test_who_calls_first_is_served_when_the_daemon_comes(sockets: Wire) -> None:
    async def test() -> None:
        with held(_folder(sockets)) as passed:
            async with sockets.client() as client:
                answer = asyncio.ensure_future(client.request(Ping(), ttl_ms=20_000))
                await asyncio.sleep(0)
                with serving(_folder(sockets), passed, f"{DAEMON}:{DAEMON}"):
                    assert isinstance(await answer, Pong)

    run(test())


def test_a_killed_daemon_leaves_no_stale_socket_and_one_that_ends_leaves_it_where_it_is(sockets: Wire) -> None:
    async def test() -> None:
        with held(_folder(sockets)) as passed:
            lost = asyncio.Event()
            async with sockets.client() as client:
                client.on_lost = lost.set
                for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                    with serving(_folder(sockets), passed) as process:
                        await client.wait_connected(HANG_S)
                        stream = client.open(prompt(3))
                        assert len([item async for item in stream]) == 3
                        assert await stream.result() == GENERATED
                        process.send_signal(number)
                        assert process.wait(HANG_S) == (0 if number is signal.SIGTERM else -number)
                        await lost.wait()
                        lost.clear()
                    assert socket_path(DAEMON, _folder(sockets)).is_socket()
                    assert observer_path(DAEMON, _folder(sockets)).is_socket()

    run(test())
    assert sorted(path.suffix for path in _folder(sockets).iterdir()) == [".sock", ".sock"], "and no lock"


def test_observers_are_served_on_the_socket_that_was_passed(sockets: Wire) -> None:
    async def test() -> None:
        with held(_folder(sockets)) as passed, serving(_folder(sockets), passed):
            async with Observer([DAEMON], _folder(sockets)) as observer, sockets.client() as client:
                seen = asyncio.ensure_future(anext(observer))
                while not seen.done():  # the subscription arrives some time
                    await client.request(Ping())
                assert (await seen).daemon == DAEMON

    run(test())


def test_nobody_takes_a_socket_that_is_held(sockets: Wire) -> None:
    """Neither while its daemon runs nor while it does not: a second `bind` would steal it."""
    with held(_folder(sockets)) as passed:
        for stack in (ExitStack(), ExitStack()):
            with stack:
                with pytest.raises(EndpointError, match="is held by systemd"):
                    ZmqServerTransport(DAEMON, _folder(sockets))
                stack.enter_context(serving(_folder(sockets), passed))
                with pytest.raises(EndpointError, match="is held by systemd"):
                    ZmqServerTransport(DAEMON, _folder(sockets))


def test_what_was_passed_is_known_by_where_it_listens(tmp_path: Path) -> None:
    folder = Path(tmp_path)
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": ""}
    script = (
        "import os, sys, pathlib; from ipc.activation import passed_sockets\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        f"print(passed_sockets({DAEMON!r}, pathlib.Path(sys.argv[1])), 'LISTEN_FDS' in os.environ)\n"
        "print(*(os.get_inheritable(fd) or os.get_blocking(fd) for fd in (3, 4)))\n"
    )
    with held(folder) as (requests, observers):
        for fds, found in (((requests, observers), (3, 4)), ((observers, requests), (4, 3))):
            done = _run(script, folder, fds, environ)
            assert done.stdout == f"{Passed(*found)} False\nFalse False\n", done.stderr


def _run(script: str, folder: Path, fds: tuple[int, ...], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    def place() -> None:
        kept = [os.dup(fd) for fd in fds]
        for number, fd in enumerate(kept, 3):
            os.dup2(fd, number)

    return subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        env=os.environ | environ,
        preexec_fn=place,
        close_fds=False,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("environ", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "2"}, {"LISTEN_PID": f"{os.getpid()}"}])
def test_what_was_not_passed_to_this_process_is_not_taken(tmp_path: Path, environ: dict[str, str]) -> None:
    assert passed_sockets(DAEMON, tmp_path, environ) is None
    assert environ == {}


def test_a_socket_unit_that_lacks_one_is_told_so(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from ipc.activation import passed_sockets\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        f"passed_sockets({DAEMON!r}, pathlib.Path(sys.argv[1]))\n"
    )
    with held(tmp_path) as (requests, observers):
        for fds, names in (((requests,), DAEMON), ((requests, observers), f"{DAEMON}:other")):
            environ = {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names}
            done = _run(script, tmp_path, fds, environ)
            assert "systemd passed no sockets llm.sock and llm.pub.sock" in done.stderr
