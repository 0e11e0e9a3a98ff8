"""A satellite with a real microphone and a real speaker, which are two streams of one process."""

from __future__ import annotations

import asyncio
import sys
from array import array
from pathlib import Path

import pytest

from daemons.engines.fakes_tts import tone
from daemons.stt.service import KNOWN_CLIP
from ipc.keys import write_secret
from tests.socket.rig import run, until
from tests.socket.test_satellite import Door
from tests.support.far import FarHouse
from tools.bench.soundcard import SoundCard

pytestmark = pytest.mark.sound
RATE = 22_050
AUDIBLE = 500


def _loudest(pcm: bytes) -> int:
    return max(map(abs, array("h", pcm[: len(pcm) // 2 * 2])), default=0)


async def _sounds(card: SoundCard, door: Door) -> None:
    """Until the speaker says what the house does."""
    while True:
        with card.record() as recording:
            await door.say("kitchen", *[tone(200, RATE)] * 3, rate=RATE)
            await asyncio.sleep(1)
        if _loudest(recording.speaker) > AUDIBLE:
            return


async def _hears(card: SoundCard, door: Door) -> None:
    """Until the house hears what the microphone does."""
    while not any(_loudest(pcm) > AUDIBLE for _, pcm in door.heard["kitchen"]):
        await asyncio.to_thread(card.play, KNOWN_CLIP)


def test_it_hears_and_speaks_at_once(tmp_path: Path) -> None:
    house = FarHouse(tmp_path / "keys")
    kitchen = house.admit("kitchen")
    write_secret(tmp_path / "timmy" / "keys", kitchen.secret)
    told = {
        "XDG_CONFIG_HOME": str(tmp_path),
        "TIMMY_HOUSE_ADDRESS": kitchen.address,
        "TIMMY_HOUSE_PORT": str(kitchen.base),
        "TIMMY_HOUSE_KEY": kitchen.key,
    }

    async def test() -> None:
        command = [sys.executable, "-m", "daemons.satellite"]
        async with Door(house, tmp_path / "run").open() as door:
            room = await asyncio.create_subprocess_exec(*command, env=card.env | told, stderr=asyncio.subprocess.PIPE)
            try:
                await until(lambda: "kitchen" in door.rooms and door.heard.get("kitchen"))
                await _sounds(card, door)
                await _hears(card, door)
            finally:
                room.terminate()
                _, said = await room.communicate()
        assert (room.returncode, said.count(b"went away")) == (0, 0), said.decode()

    with SoundCard() as card:
        run(test())
