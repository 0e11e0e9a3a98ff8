"""`python -m tests.rooms.room`: a satellite as its own process, with a microphone that says what stdin tells it to
(`say 7`) and a speaker that tells on stdout what it played (`{"played": 7}`), and why it does not work
(`{"trouble": "..."}`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import Callable

from daemons import config
from daemons.engines.base import AudioOut, EngineError, Frame
from daemons.engines.paced_out import PacedOut
from daemons.satellite.service import SatelliteService
from ipc.audio import FRAME_BYTES, FRAME_NS, STT_RATE, paced, silence
from ipc.network import house
from tests.rooms.engines import said, sound

LOOK_S = 0.01


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Mouth:
    """An AudioIn that is silent until there is something to say."""

    name = "mouth"

    def __init__(self) -> None:
        self._pending = bytearray()
        self._closing = threading.Event()

    def start(self, on_frame: Callable[[Frame], None], on_lost: Callable[[EngineError], None]) -> None:
        self._thread = threading.Thread(target=self._speak, args=(on_frame,), daemon=True)
        self._thread.start()

    def _speak(self, on_frame: Callable[[Frame], None]) -> None:
        begun = time.monotonic_ns()
        while not self._closing.is_set():
            for frame in paced(silence(FRAME_NS // 1_000_000), begun):
                self._closing.wait(max(0, frame.due_ns - time.monotonic_ns()) / 1e9)
                pcm = bytes(self._pending[:FRAME_BYTES]).ljust(FRAME_BYTES, b"\0")
                del self._pending[:FRAME_BYTES]
                on_frame(Frame(frame.t_ns, pcm))
            begun += FRAME_NS

    def say(self, number: int) -> None:
        self._pending += sound(number, STT_RATE)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()


class Speaker:
    """What it has played, answer by answer."""

    def __init__(self) -> None:
        self._pcm = bytearray()

    def make(self, setting: str, sample_rate: int) -> AudioOut:
        return PacedOut("speaker", sample_rate, self._play)

    def _play(self, t_ns: int, pcm: bytes, last: bool) -> None:
        self._pcm += pcm
        if last:
            tell(played=said(self._pcm))
            self._pcm.clear()


async def main() -> None:
    logging.basicConfig(level=logging.INFO)
    settings = config.load()
    there = house(settings.house.address, settings.house.port, settings.house.key, config.keys_dir())
    mouth, stop = Mouth(), asyncio.Event()
    service = SatelliteService(settings.satellite, there, lambda: mouth, Speaker().make)

    def told() -> None:
        line = sys.stdin.readline()
        if line.startswith("say "):
            mouth.say(int(line.removeprefix("say ")))
        elif not line:
            stop.set()
            asyncio.get_running_loop().remove_reader(sys.stdin)

    asyncio.get_running_loop().add_reader(sys.stdin, told)
    running = asyncio.ensure_future(service.run(stop))
    trouble = "not begun"
    while not running.done():
        if service.trouble != trouble:
            trouble = service.trouble
            tell(trouble=trouble)
        await asyncio.wait({running}, timeout=LOOK_S)
    await running


if __name__ == "__main__":
    asyncio.run(main())
