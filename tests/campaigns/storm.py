"""Campaign 12: answers that are interrupted, superseded, cancelled and released at random moments.

A speaker over the wire listens. Each utterance's samples have a level of their own, so each sample tells whose it is:
none of an older utterance comes after the first of a newer one, none after the utterance's `cancelled`, and none of
what was held and not released.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from array import array
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from ipc.client import Client, Stream
from ipc.codec import Message, decode
from ipc.errors import CallCancelled, CallError
from ipc.ids import new_rid
from ipc.messages import Attach, Cancelled, Clause, Kind, Ping, Release, Sound, Speak
from ipc.transport import Frames, OnFrames, ZmqClientTransport
from tests.campaigns.altered import LEVEL_FIRST, LEVEL_STEP, SOUND, altered
from tests.campaigns.ledger import Ledger
from tests.campaigns.watch import Watch

CONVERSATION = "kitchen"
WAIT_MAX_S = 0.06
"""The longest between two torments. A synthesized clause sounds for 60 ms a character."""


class Witness(ZmqClientTransport):
    """Sees everything that passes, in the order in which it passes."""

    def __init__(self, daemon: str, folder: Path) -> None:
        super().__init__(daemon, folder)
        self.ledger = Ledger()
        self.over: set[bytes] = set()
        self.held: set[bytes] = set()
        """Utterances whose sound may not be heard yet."""
        self.frames = 0
        self.rids: set[bytes] = set()
        self._rids: dict[int, bytes] = {}
        self._newest = 0
        self.wrong = ""

    def speaks(self, number: int, rid: bytes, hold: bool) -> None:
        """What the samples of `number` belong to from now on."""
        if not number:
            self._newest = 0
        self._rids[number] = rid
        self.rids.add(rid)
        self.held |= {rid} if hold else set()

    def start(self, on_up: Callable[[], None], on_down: Callable[[], None], on_frames: OnFrames) -> None:
        def seen(frames: list[bytes]) -> None:
            self._came(decode(frames))
            on_frames(frames)

        super().start(on_up, on_down, seen)

    def send(self, frames: Frames) -> bool:
        message = decode(list(frames))
        if message.body.KIND is Kind.REQUEST:
            self.ledger.asked(message.rid, message.epoch)
        elif isinstance(message.body, Release):
            self.held.discard(message.rid)
        return super().send(frames)

    def _came(self, message: Message) -> None:
        try:
            self.ledger.came(message)
        except AssertionError as error:
            self.wrong = self.wrong or str(error)
        if isinstance(message.body, Cancelled):
            self.over.add(message.rid)
        elif isinstance(message.body, Sound):
            self._heard(message.payload)

    def _heard(self, pcm: bytes) -> None:
        for number in {_number(sample) for sample in _plateau(pcm)}:
            self.frames += 1
            what = ""
            if number < self._newest:
                what = "after the first sound of a newer one"
            elif self._rids[number] in self.over:
                what = "after its end"
            elif self._rids[number] in self.held:
                what = "although it was held"
            self._newest = max(self._newest, number)
            self.wrong = self.wrong or (what and f"utterance {number} sounded {what}")


def _plateau(pcm: bytes) -> set[int]:
    """Levels that are held: not the few samples of a fade, of which no two that follow each other are the same."""
    return {one for one, other in pairwise(array("h", pcm)) if one == other and one}


def _number(sample: int) -> int:
    return (sample - LEVEL_FIRST) // LEVEL_STEP


def run(count: int, seed: int, bug: str = SOUND) -> dict[str, int]:
    """`count` torments. Raises AssertionError for a sample that must not sound, and for what `Watch` promises."""
    with altered(bug, "tts") as daemon, Watch(daemon.place.run, "tts", calm_s=0.3) as watch:
        frames = asyncio.run(_storm(daemon.place.run, count, random.Random(seed)))
        return {"torments": count, "frames with sound": frames, **watch.verdict()}


async def _storm(folder: Path, count: int, chance: random.Random) -> int:
    witness = Witness("tts", folder)
    async with Client("tts", "storm", transport=witness) as client:
        await client.wait_connected(30)
        listening = asyncio.create_task(_listen(client.open(Attach(conversation=CONVERSATION)), chance))
        await client.request(Ping())
        streams: list[Stream] = []
        for number in range(count):
            if len(streams) > 20:
                await asyncio.gather(*map(_ended, streams[:-5]))
                del streams[:-5]
            await _torment(client, witness, streams, number, chance)
            assert not witness.wrong, witness.wrong
        await asyncio.gather(*map(_ended, streams))
        for _ in range(5):  # an end that a cancelled stream does not wait for; a ping is answered after it
            await client.request(Ping())
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert not witness.wrong, witness.wrong
        left = [rid for rid, _ in witness.ledger.open if rid in witness.rids]
        assert not left, f"{len(left)} utterances without an end"
    assert witness.frames > count // 10, f"only {witness.frames} frames had sound: nothing was tried"
    return witness.frames


async def _torment(client: Client, witness: Witness, streams: list[Stream], number: int, chance: random.Random) -> None:
    """An utterance that takes the place of the one before, and what befalls it."""
    hold, rid = chance.random() < 0.3, new_rid()
    witness.speaks(number % 10_000, rid, hold)
    stream = client.open(Speak(conversation=CONVERSATION, hold=hold), rid=rid, ttl_ms=20_000)
    streams.append(stream)
    with contextlib.suppress(CallError, CallCancelled):
        for _ in range(chance.randrange(1, 4)):
            await stream.send(Clause(text=str(number % 10_000)))
        await asyncio.sleep(chance.uniform(0, WAIT_MAX_S))
        fate = chance.random()
        if hold and fate < 0.4:
            await stream.send(Release())
            await asyncio.sleep(chance.uniform(0, WAIT_MAX_S))
        if fate < 0.3 and (not hold or fate < 0.4):
            stream.end()
        elif fate > 0.6:
            chance.choice(streams).cancel()
        await asyncio.sleep(chance.uniform(0, WAIT_MAX_S))


async def _listen(stream: Stream, chance: random.Random) -> None:
    """As a client that is at times slow."""
    with contextlib.suppress(CallCancelled):  # the storm is over, or has found something
        async for _ in stream:
            if chance.random() < 0.05:
                await asyncio.sleep(chance.uniform(0, 0.3))


async def _ended(stream: Stream) -> None:
    stream.cancel()
    with contextlib.suppress(CallError, CallCancelled):
        await stream.result()
