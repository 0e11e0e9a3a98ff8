"""Turns through the real services of all five daemons, with fake engines of which one can be made 20 ms slower.

    pools = asyncio.run(collect(folder, rounds=60, seed=1))
    pools["recall"]  # the turns with the slower embedder
    named(trial(pools, "recall", generator)) == {"recall"}

`python -m tests.support.planted` is the long form of tests/perf/test_planted.py: it prints how often each is found.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import random
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from unittest import mock

from daemons.config import Config, Stt, Tts
from daemons.dialog.service import DialogService
from daemons.engines.fakes_memory import FakeClassifier
from daemons.engines.fakes_stt import FakeDetector
from daemons.llm.service import LlmService
from daemons.memory.service import MemoryService
from daemons.runtime import Service
from daemons.stt.service import SttService
from daemons.tts.service import TtsService
from ipc.audio import FRAME_BYTES, FRAME_NS
from ipc.client import Client
from ipc.inproc import InprocClient, InprocHub
from ipc.marks import NO_MARKS, Marker, Marks
from ipc.messages import Attach, Audio, Feed, Follow, StatusReport, TurnReport
from ipc.server import Server
from tests.support.slow_engines import (
    NOTHING,
    STAGES,
    Embedder,
    Model,
    Plant,
    Transcriber,
    Voice,
    Wire,
    slow_parts,
)
from tools.latency.comparing import FASTER, SLOWER, Comparison, compare
from tools.latency.reading import Losses, read_turns
from tools.latency.samples import Sampled, sample
from tools.latency.stages import TOTAL

VOICED_FRAMES = 10
SILENCE_NS = 100_000_000
"""How long before the end of the audio the last voiced sample was captured."""


def _report(daemon: str) -> StatusReport:
    return StatusReport(
        daemon=daemon, state="ready", detail="", engine="fake", model="", device="", pid=1, uptime_s=0.0,
        rss_bytes=0, requests_open=0, last_error="",
    )  # fmt: skip


class House:
    """The five services in this process, and their marks in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.plant = Plant()
        self._folder = folder
        self._hubs = {name: InprocHub() for name in ("stt", "dialog", "memory", "tts")} | {"llm": Wire(self.plant)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        plant, config = self.plant, Config(stt=Stt(input="none"), tts=Tts(output="none"))
        marks = {name: Marks(name, self._folder) for name in self._hubs}
        services: Mapping[str, Service] = {
            "stt": SttService(config, lambda: Transcriber(plant), FakeDetector, marks=marks["stt"]),
            "memory": MemoryService(config, lambda: Embedder(plant), lambda _: FakeClassifier(), marks=marks["memory"]),
            "llm": LlmService(config, Model(plant), marks=marks["llm"]),
            "tts": TtsService(config, lambda: Voice(plant), marks=marks["tts"]),
            "dialog": DialogService(config, lambda name: self.client(name, marks["dialog"]), marks=marks["dialog"]),
        }
        state = {"TIMMY_STATE": str(self._folder.parent / "state")}
        with slow_parts(plant), mock.patch.dict("os.environ", state):
            async with AsyncExitStack() as stack:
                for name in marks:
                    stack.callback(marks[name].close)
                for name, service in services.items():
                    status = functools.partial(_report, name)
                    server = Server(name, self._hubs[name], service.handlers(), status, marks[name])
                    server.start()
                    stack.push_async_callback(server.close)
                    await service.load()
                    stack.push_async_callback(service.close)
                yield

    def client(self, name: str, marks: Marker = NO_MARKS) -> Client:
        return Client(name, "test", transport=InprocClient(self._hubs[name]), marks=marks)


class Talker:
    """Speaks in one conversation, again and again: what it says has been said a moment before."""

    def __init__(self, house: House, conversation: str) -> None:
        self._house = house
        self._conversation = conversation
        self._reports: asyncio.Queue[TurnReport] = asyncio.Queue()
        self._over_s = 0.0
        """When its last answer had sounded."""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            self._stt, tts, dialog = [
                await stack.enter_async_context(self._house.client(name)) for name in ("stt", "tts", "dialog")
            ]
            for client in (self._stt, tts, dialog):
                await client.wait_connected()
            loop = asyncio.get_running_loop()
            for job in (self._follow(dialog), self._listen(tts)):
                stack.callback(loop.create_task(job).cancel)
            yield

    async def _follow(self, dialog: Client) -> None:
        async for item, _ in dialog.open(Follow(conversation=self._conversation)):
            if isinstance(item, TurnReport):
                self._reports.put_nowait(item)

    async def _listen(self, tts: Client) -> None:
        async for _ in tts.open(Attach(conversation=self._conversation)):
            pass

    async def turn(self, late_s: float) -> None:
        """One question and its answer. The end of the speech is noticed `late_s` later than it could be."""
        said_ns = VOICED_FRAMES * FRAME_NS + SILENCE_NS + round(late_s * 1e9)
        # What is captured while an answer sounds is not listened to.
        await asyncio.sleep(max(0.0, self._over_s + said_ns / 1e9 - time.monotonic()))
        begun_ns = time.monotonic_ns() - said_ns
        microphone = self._stt.open(Feed(conversation=self._conversation))
        await microphone.send(Audio(t_ns=begun_ns), b"\1" * VOICED_FRAMES * FRAME_BYTES)
        microphone.end()
        report = await self._reports.get()
        assert report.outcome == "answered", report
        self._over_s = time.monotonic()
        await microphone.result()


async def collect(folder: Path, rounds: int, seed: int) -> dict[str, Sampled]:
    """A round is two turns of nothing and one of each stage, in a random order: what else the machine does hits all
    alike."""
    house, shuffle = House(folder), random.Random(seed)
    async with house.running(), AsyncExitStack() as stack:
        talkers = {stage: Talker(house, stage) for stage in (NOTHING, *STAGES)}
        for talker in talkers.values():
            await stack.enter_async_context(talker.connected())
        for _ in range(rounds):
            kinds = [NOTHING, NOTHING, *STAGES]
            shuffle.shuffle(kinds)
            for house.plant.stage in kinds:
                await talkers[house.plant.stage].turn(house.plant.late_s("endpoint"))
                await asyncio.sleep(1.5 * house.plant.late_s("ipc"))  # what is late must not be overtaken
    turns = sorted(read_turns(folder, Losses()), key=lambda turn: turn.origin_ns)
    return {kind: sample((turn for turn in turns if turn.conversation == kind), kind) for kind in talkers}


N = 40
TOLERANCE_MS = 10.0


def trial(pools: Mapping[str, Sampled], stage: str, generator: random.Random) -> Comparison:
    """N turns with `stage` slower against N with nothing planted, drawn from the pools; no turn is in both."""
    if stage == NOTHING:
        rows = generator.sample(range(pools[NOTHING].n), 2 * N)
        a, b = _rows(pools[NOTHING], rows[:N]), _rows(pools[NOTHING], rows[N:])
    else:
        a, b = (_rows(pools[kind], generator.sample(range(pools[kind].n), N)) for kind in (NOTHING, stage))
    return compare(a, b, TOLERANCE_MS, seed=generator.randrange(2**31))


def _rows(pool: Sampled, rows: Sequence[int]) -> dict[str, list[float]]:
    """These turns, in the order of time."""
    return {stage: [values[row] for row in sorted(rows)] for stage, values in pool.times.items()}


def named(comparison: Comparison) -> set[str]:
    """The stages that are said to have changed; the total changes with any of them."""
    return {row.stage for row in comparison.rows if row.verdict in (SLOWER, FASTER)} - {TOTAL}


def wolf(comparison: Comparison) -> bool:
    """Anything is said to have changed."""
    return any(row.verdict in (SLOWER, FASTER) for row in comparison.rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=150, help="turns a stage, and half the turns of nothing")
    parser.add_argument("--trials", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pools = asyncio.run(collect(Path(folder) / "trace", given.rounds, seed=1))
    generator = random.Random(2)
    for stage in STAGES:
        found = sum(named(trial(pools, stage, generator)) == {stage} for _ in range(given.trials))
        print(f"{stage:<20} named alone in {found} of {given.trials}", flush=True)
    cried = sum(wolf(trial(pools, NOTHING, generator)) for _ in range(given.trials))
    print(f"{NOTHING:<20} a change is named in {cried} of {given.trials}")


if __name__ == "__main__":
    main()
