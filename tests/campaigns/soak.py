"""Campaign 17: a conversation over and over, three times as fast as it was. Nothing grows, nothing is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from ipc.audio import FRAME_BYTES, FRAME_NS
from ipc.client import Client, Stream
from ipc.endpoints import DAEMONS
from ipc.errors import PeerGone
from ipc.marks import trace_files
from ipc.messages import Ask, Attach, Audio, Feed, Follow, ListMemories, Recall, Remember
from ipc.traces import read
from tests.campaigns.lanes import housed
from tools.harness import House
from tools.harness.processes import descriptors, resident_bytes
from tools.recording.asked import Asked, Assembler
from tools.recording.compare import differences
from tools.recording.file import Entry, Gap
from tools.recording.play import Player
from tools.recording.take import Take

SPEED = 3.0
AT_ONCE = 4
"""Conversations: as many as can be recorded at a time. At that speed a replay waits a while for what its listener
heard then."""

SLOPE_MAX_BYTES = 1_000_000
"""In an hour, of the resident set."""

STEP_BYTES = 1_000_000
"""An allocator takes memory in steps, at some time: one of them is no slope, however short the run."""

SLACK_DESCRIPTORS = 3
"""Callers come and go while they are counted."""

WARM = 0.25
"""The share of the run in which what is kept on purpose (histories, caches) fills up."""

SAMPLE_S = 0.5
HUNG_S = 60.0
WRITTEN_S = 1.5
"""A daemon writes its marks out twice a second."""

_NAME = "soak"


@dataclass(slots=True)
class Weights:
    """What one daemon weighed, in the course of time."""

    times_s: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def weigh(self, pid: int, now_s: float) -> None:
        self.times_s.append(now_s)
        self.resident.append(resident_bytes(pid))
        self.descriptors.append(descriptors(pid))

    def warm(self) -> int:
        """The number of the first sample that counts."""
        return int(len(self.times_s) * WARM)


def run(count: int, seed: int, make: Callable[[], House] = House) -> dict[str, int]:
    """`count`: seconds. Nothing in it is drawn by lot. Raises AssertionError when a daemon grows, keeps descriptors,
    loses a mark, dies, or answers otherwise than at first."""
    return asyncio.run(_soak(count, make))


async def _soak(seconds: int, make: Callable[[], House]) -> dict[str, int]:
    weights = {daemon: Weights() for daemon in DAEMONS}
    async with housed(make) as house:
        pids = {daemon: house.pid(daemon) for daemon in DAEMONS}
        recorded = await _recorded(house.place.run)
        weighing = asyncio.create_task(_weigh(weights, pids))
        try:
            async with asyncio.TaskGroup() as rooms:
                until_s = time.monotonic() + seconds
                played = [rooms.create_task(_again(recorded, house.place.run, until_s)) for _ in range(AT_ONCE)]
        except* AssertionError as errors:
            raise errors.exceptions[0] from None
        finally:
            weighing.cancel()
            await asyncio.gather(weighing, return_exceptions=True)
        assert {daemon: house.pid(daemon) for daemon in DAEMONS} == pids, "a daemon was started again"
        await asyncio.sleep(WRITTEN_S)
        lost = sum(read(path).lost for path in trace_files(house.place.state / "trace"))
    assert not lost, f"{lost} marks were lost"
    slopes = [_check_flat(daemon, each) for daemon, each in weights.items()]
    times = sum(each.result() for each in played)
    return {
        "s": seconds,
        "conversations": times,
        "requests": times * len(recorded),
        "kB an hour at most": round(max(slopes) / 1000),
    }


async def _again(recorded: Sequence[Asked], folder: Path, until_s: float) -> int:
    """How often it was played, one time after the other. Raises AssertionError."""
    times, heard_s = 0, time.monotonic()
    while time.monotonic() < until_s:
        try:
            played = await Player(recorded, SPEED, folder).play()
        except PeerGone as error:  # within 2 s, which a machine that is busy with other things may not give it
            if time.monotonic() > heard_s + HUNG_S:
                raise AssertionError(str(error)) from None
            continue
        heard_s = time.monotonic()
        assert not played.gaps, f"{played.gaps[0].daemon}: {played.gaps[0].detail}"
        _check_same(recorded, played.again)
        times += 1
    return times


async def _weigh(weights: dict[str, Weights], pids: dict[str, int]) -> None:
    while True:
        for daemon, pid in pids.items():
            weights[daemon].weigh(pid, time.monotonic())
        await asyncio.sleep(SAMPLE_S)


def _check_same(then: Sequence[Asked], now: Sequence[Asked]) -> None:
    """What is typed comes to the same; what is spoken at three times the speed overlaps itself, and only ends."""
    for before, after in zip(then, now, strict=True):
        assert after.end is not None, f"{before.daemon} did not end {before.name}"
        if isinstance(before.body, Ask):
            found = differences(before, after)
            assert not found, f"{before.daemon} {before.name}: {found[0]}"


def _check_flat(daemon: str, seen: Weights) -> float:
    """Bytes that the resident set grows by in an hour: between the medians of the first and the last quarter of what
    counts."""
    times_s, resident, open_now = (each[seen.warm() :] for each in (seen.times_s, seen.resident, seen.descriptors))
    quarter = max(1, len(times_s) // 4)
    hours = (median(times_s[-quarter:]) - median(times_s[:quarter])) / 3600
    grown = median(resident[-quarter:]) - median(resident[:quarter])
    assert grown <= SLOPE_MAX_BYTES * hours + STEP_BYTES, (
        f"{daemon} grew by {grown / 1e6:.1f} MB in {hours * 60:.0f} minutes"
    )
    more = median(open_now[-quarter:]) - median(open_now[:quarter])
    assert more <= SLACK_DESCRIPTORS, f"{daemon} has {more:.0f} more descriptors open"
    return grown / hours if hours else 0.0


# --- what is said ---


async def _recorded(folder: Path) -> list[Asked]:
    """A typed question, a spoken one in a room, and what a memory is asked, as `timmy record` has it."""
    whole = Assembler()

    def add(entry: Entry | Gap) -> None:
        whole.add(entry)

    async with Take(("stt", "dialog", "memory", "tts"), add, folder) as take:
        await take.until(asyncio.ensure_future(_talk(folder)))
    return [each for each in whole.asked.values() if each.caller == _NAME]


async def _talk(folder: Path) -> None:
    async with (
        Client("stt", _NAME, folder=folder) as stt,
        Client("dialog", _NAME, folder=folder) as dialog,
        Client("memory", _NAME, folder=folder) as memory,
        Client("tts", _NAME, folder=folder) as tts,
    ):
        for client in (stt, dialog, memory, tts):
            await client.wait_connected(30)
        listening = tts.open(Attach(conversation="room"))
        following = dialog.open(Follow(conversation="room"))
        reading = [asyncio.create_task(_read(stream)) for stream in (listening, following)]
        await dialog.request(Ask(conversation="desk", text="Which city?"), ttl_ms=15_000)
        await memory.request(Remember(heard="The key is under the mat.", always=True))
        await memory.request(Recall(text="Where is the key?", limit=3))
        await memory.request(ListMemories())
        feed = stt.open(Feed(conversation="room"))
        start_ns = time.monotonic_ns()
        for number in range(150):
            await asyncio.sleep((start_ns + (number + 1) * FRAME_NS - time.monotonic_ns()) / 1e9)
            frame = (b"\x00\x20" if number % 100 < 15 else b"\0\0") * (FRAME_BYTES // 2)
            await feed.send(Audio(t_ns=start_ns + number * FRAME_NS), frame)
        feed.end()
        await feed.result()
        await asyncio.sleep(1.0)
        for stream in (listening, following):
            stream.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _read(stream: Stream) -> None:
    async for _ in stream:
        pass
