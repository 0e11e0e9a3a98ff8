"""python -m tests.rooms.measure: eight rooms that speak at once, and how soon a room is heard again after a cut.

Between network namespaces of this machine, so that both ends have one clock. Needs root and a quiet machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from daemons import config
from ipc.audio import FRAME_NS
from ipc.call import Call, Handler
from ipc.endpoints import runtime_dir
from ipc.limits import CREDIT_FAR
from ipc.messages import Attach, Audio, Body, Fed, Feed, Result, StatusReport
from ipc.network import listening
from ipc.server import Server
from ipc.transport import ZmqServerTransport
from tests.rooms.engines import SOUND_S
from tests.rooms.hosts import HOUSE, Process, Street, street

ROOMS = 8
SPEAK_S = 20
CUTS_S = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 3.5, 5.0, 2.5, 7.0)


class Recorder:
    """stt's and tts's door: when each frame of each room came, from when it is, and whether anything sounds in it.
    Told a line, it tells that, and begins anew."""

    def __init__(self) -> None:
        self._frames: dict[str, list[tuple[int, int, bool]]] = {}

    async def feed(self, call: Call) -> Result:
        call.widen(CREDIT_FAR)
        async for item, pcm in call:
            assert isinstance(item, Audio)
            self._frames.setdefault(call.body.conversation, []).append((time.monotonic_ns(), item.t_ns, any(pcm)))
        return Fed(frames=0, dropped_ms=0)

    async def attach(self, call: Call) -> Result:
        await asyncio.Event().wait()
        raise AssertionError

    def told(self) -> None:
        sys.stdin.readline()
        print(json.dumps(self._frames), flush=True)
        self._frames.clear()

    async def run(self) -> None:
        network = listening(HOUSE, config.load().network.port, config.keys_dir())
        each: dict[str, dict[type[Body], Handler]] = {"stt": {Feed: self.feed}, "tts": {Attach: self.attach}}
        for daemon, handlers in each.items():
            Server(daemon, ZmqServerTransport(daemon, runtime_dir(), None, network), handlers, _report).start()
        asyncio.get_running_loop().add_reader(sys.stdin, self.told)
        print("{}", flush=True)
        await asyncio.Event().wait()


def _report() -> StatusReport:
    raise NotImplementedError


def _frames(recorder: Process) -> dict[str, list[tuple[int, int, bool]]]:
    recorder.tell("")
    return recorder.hears()


def _opened(here: Street, rooms: Sequence[str]) -> tuple[Process, dict[str, Process]]:
    environ = {**os.environ, "XDG_CONFIG_HOME": str(here.folder / "house"), "TIMMY_RUNTIME": str(here.runtime)}
    recorder = here.house.run("-m", "tests.rooms.measure", "recorder", environ=environ, log=here.folder / "house.log")
    recorder.hears()
    opened = {name: here.room(name) for name in rooms}
    for room in opened.values():
        room.hears(trouble="")
    return recorder, opened


def at_once() -> None:
    names = [f"room{number}" for number in range(ROOMS)]
    with tempfile.TemporaryDirectory() as folder, street(Path(folder), *names) as here:
        recorder, rooms = _opened(here, names)
        time.sleep(2)
        _frames(recorder)
        for _ in range(round(SPEAK_S / SOUND_S)):
            for room in rooms.values():
                room.tell("say 7")
            time.sleep(SOUND_S)
        heard = _frames(recorder)
        hops, lost = [], 0
        for frames in heard.values():
            # What is quiet is held for up to 500 ms, on purpose.
            hops += [(came - captured - FRAME_NS) / 1e6 for came, captured, sounds in frames if sounds]
            lost += round((frames[-1][1] - frames[0][1]) / FRAME_NS) + 1 - len(frames)
        hops.sort()
        p50, p95 = hops[len(hops) // 2], hops[int(len(hops) * 0.95)]
        print(f"{len(heard)} rooms, {len(hops)} frames of speech, {lost} frames lost")
        print(f"from the end of one to the house: median {p50:.2f} ms, p95 {p95:.2f} ms")


def after_cuts() -> None:
    with tempfile.TemporaryDirectory() as folder, street(Path(folder), "kitchen") as here:
        recorder, _ = _opened(here, ["kitchen"])
        times = []
        for cut_s in CUTS_S:
            time.sleep(3)
            here.cable("kitchen", loss=1)
            time.sleep(cut_s)
            _frames(recorder)
            here.cable("kitchen")
            back_ns = time.monotonic_ns()
            fresh: list[float] = []
            while not fresh:  # a frame that was captured after the cut
                time.sleep(0.02)
                frames = _frames(recorder).get("kitchen", [])
                fresh = [(came - back_ns) / 1e9 for came, captured, _ in frames if captured > back_ns]
            times.append(fresh[0])
            print(f"cut for {cut_s:g} s: heard again after {fresh[0]:.2f} s", flush=True)
        print(f"n {len(times)}, median {sorted(times)[len(times) // 2]:.2f} s, longest {max(times):.2f} s")


if __name__ == "__main__":
    if sys.argv[1:] == ["recorder"]:
        asyncio.run(Recorder().run())
    else:
        at_once()
        after_cuts()
