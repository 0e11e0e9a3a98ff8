"""Viewers on a network without measure: they are cut off together, for a moment, and observers in the house are not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import zmq

from ipc import limits
from ipc.access import Role
from ipc.client import Client
from ipc.endpoints import observer_path
from ipc.messages import Ping
from ipc.network import House
from ipc.observer import Observer
from ipc.security import public_of
from tests.campaigns.handmade import Peer
from tests.socket.far_rig import DAEMON, serving
from tests.socket.rig import HANG_S, run, until
from tests.support.far import HOST, FarHouse

NOISE = b"\x02hello"


@pytest.fixture
def house(tmp_path: Path) -> FarHouse:
    return FarHouse(tmp_path / "keys")


@contextmanager
def _without_measure(viewer: House) -> Iterator[zmq.Socket[bytes]]:
    """A viewer that says what it likes."""
    with zmq.Context() as context, context.socket(zmq.XSUB) as watch:
        watch.setsockopt(zmq.LINGER, 0)
        watch.setsockopt(zmq.SNDHWM, 0)
        watch.setsockopt_string(zmq.CURVE_SERVERKEY, viewer.key)
        watch.setsockopt_string(zmq.CURVE_PUBLICKEY, public_of(viewer.secret))
        watch.setsockopt_string(zmq.CURVE_SECRETKEY, viewer.secret)
        watch.connect(viewer.endpoint(DAEMON, observer=True))
        yield watch


async def _flood(viewer: House, caplog: pytest.LogCaptureFixture) -> None:
    with _without_measure(viewer) as watch:
        while "all are cut off" not in caplog.text:
            watch.send(NOISE)
            await asyncio.sleep(0)


def test_a_viewer_without_measure_is_cut_off_and_others_come_back(
    house: FarHouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk, lab = house.admit("desk", Role.VIEWER), house.admit("lab", Role.VIEWER)

    async def test() -> None:
        async with (
            serving(house, tmp_path) as server,
            Client(DAEMON, "here", folder=tmp_path / "run") as client,
            Observer([DAEMON], house=lab) as observer,
        ):
            await client.wait_connected(HANG_S)
            with await asyncio.to_thread(Peer, observer_path(DAEMON, tmp_path / "run"), b"SUB") as here:
                here.pour(b"\x00\x01\x01")
                await until(lambda: server._transport.observers == 2)
                await _flood(desk, caplog)
                assert server._transport.observers == 1, "in the house nobody is cut off"
                await until(lambda: server._transport.observers == 2)
                while observer._queue.empty():
                    await client.request(Ping())
                assert await asyncio.to_thread(here.receive)

    run(test())


def test_a_port_that_is_taken_meanwhile_is_said(
    house: FarHouse, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REOPEN_S", 1.0)
    desk = house.admit("desk", Role.VIEWER)

    async def test() -> None:
        async with serving(house, tmp_path), Client(DAEMON, "here", folder=tmp_path / "run") as client:
            await client.wait_connected(HANG_S)
            await _flood(desk, caplog)
            port = int(desk.endpoint(DAEMON, observer=True).rpartition(":")[2])
            with closing(socket.create_server((HOST, port), reuse_port=False)):
                await until(lambda: "no viewer can observe any more" in caplog.text)
                await client.request(Ping())

    run(test())


def test_a_daemon_ends_while_viewers_are_cut_off(
    house: FarHouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = house.admit("desk", Role.VIEWER)

    async def test() -> None:
        async with serving(house, tmp_path) as server:
            await _flood(desk, caplog)
            assert server._transport.observers == 0

    run(test())
