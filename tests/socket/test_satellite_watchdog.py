"""What feeds the watchdog of a satellite: its microphone, where there is one."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from daemons.config import Satellite
from daemons.engines.base import Frame
from daemons.engines.fakes_stt import FakeMicrophone
from daemons.engines.fakes_tts import FakeOut, tone
from daemons.satellite.service import SatelliteService
from tests.socket.rig import run, until
from tests.support.far import FarHouse

VOICE = tone(20, 16_000)


class Room:
    """A satellite without a house."""

    def __init__(self, folder: Path) -> None:
        self.microphone = FakeMicrophone()
        guest = FarHouse(folder / "keys").admit("kitchen")
        self.service = SatelliteService(Satellite(), guest, lambda: self.microphone, lambda _, rate: FakeOut(rate))

    def say(self) -> None:
        self.microphone.push(Frame(time.monotonic_ns(), VOICE))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        running = asyncio.create_task(self.service.run(stop))
        try:
            await until(lambda: self.microphone.tried.acquire(blocking=False))
            yield
        finally:
            stop.set()
            await running


def test_it_is_fed_by_what_is_heard(tmp_path: Path) -> None:
    async def test() -> None:
        room = Room(tmp_path)
        async with room.open():
            beat = asyncio.create_task(room.service.beat())
            await asyncio.sleep(0.1)
            assert not beat.done()
            room.say()
            await beat

    run(test())


def test_a_lost_microphone_does_not_starve_it(tmp_path: Path) -> None:
    async def test() -> None:
        room = Room(tmp_path)
        async with room.open():
            beat = asyncio.create_task(room.service.beat())
            await asyncio.sleep(0)
            room.microphone.lose()
            await beat
            assert "went away" in room.service.trouble
            await room.service.beat()

    run(test())


def test_who_watches_is_told_of_each_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000")

        def heard(what: str) -> bool:
            with suppress(BlockingIOError):
                told.append(supervisor.recv(4096).decode())
            return what in told

        async def test() -> None:
            room = Room(tmp_path)
            async with room.open():
                await until(lambda: heard("READY=1"))
                await until(lambda: heard(f"STATUS={room.service.trouble}"))
                assert "WATCHDOG=1" not in told, "nothing was heard yet"
                room.say()
                await until(lambda: heard("WATCHDOG=1"))

        run(test())
