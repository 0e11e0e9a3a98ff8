"""Campaign 14: what can happen to a sound card: it goes and comes back, stands still, is off its rate, is driven too
hard, or gives nothing but silence. Real engines hear a question over it afterwards, and are heard."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
import wave
from array import array
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError
from ipc.messages import HOME, Follow, Say, Status, StatusReport, TurnHeard, TurnReport
from tests.support.speech import share_heard
from tests.support.suite import EXAMPLES, house, running
from tools.bench.soundcard import SoundCard
from tools.harness.processes import starved_ns, stopped

QUESTION = EXAMPLES / "2-capital.wav"
WORDS = "What is the capital of France?"
HEARD_MIN = 0.8
"""The share of its words that must be understood, whatever was done to its sound: the recogniser may miss one."""

AWAY_MAX_S, STALL_MAX_S = 6.0, 2.0
SILENCE_S = 2.0
DRIFT_MAX = 0.02
"""Of the rate. Clocks of real cards are off by a ten thousandth."""

GAIN = 8
BACK_MAX_S = 3.0
"""From the moment the card is there again until both daemons say that all is well, less what the kernel let them wait
for a core."""

HUNG_S = 60.0
LINES = 8
"""Of each daemon's log, with a failure."""
AUDIBLE = 300
"""Of 32,767: the mean amplitude of an answer is above that in some second."""


def run(count: int, seed: int, card: Callable[[], SoundCard] = SoundCard) -> dict[str, int]:
    """Each `count` times. Raises AssertionError when a daemon dies, is not back in time, or does not understand or
    answer the next question."""
    chance = random.Random(seed)
    faults = [fault for fault in FAULTS for _ in range(count)]
    chance.shuffle(faults)
    with (
        tempfile.TemporaryDirectory(prefix="timmy-") as state,
        card() as there,
        house(Path(state), there.env),
        running() as supervisor,
    ):
        pids = {daemon: supervisor.pid(daemon) for daemon in ("stt", "tts")}
        room = _Room(there, Path(state), chance, pids)
        for number, fault in enumerate(faults):
            try:
                asyncio.run(room.suffer(fault))
            except AssertionError as error:
                said = f"{fault}, number {number} of seed {seed}: {error}\n{_last_lines(Path(state) / 'log')}"
                raise AssertionError(said) from error
        now = {daemon: supervisor.pid(daemon) for daemon in pids}
        assert now == pids, f"a daemon died: {pids} became {now}"
    return {"times each": count, "turns": len(faults), "ms to be back at most": round(max(room.backs_s) * 1000)}


class _Room:
    """Somebody before the sound card."""

    def __init__(self, card: SoundCard, folder: Path, chance: random.Random, pids: Mapping[str, int]) -> None:
        self._card, self._folder, self._chance, self._pids = card, folder, chance, pids
        self.backs_s = [0.0]

    async def suffer(self, fault: str) -> None:
        """Half of the time while something is said."""
        async with Client("dialog", "room") as self._dialog:
            await self._dialog.wait_connected(HUNG_S)
            saying = asyncio.create_task(_say(self._dialog)) if self._chance.random() < 0.5 else None
            await asyncio.sleep(self._chance.uniform(0.0, 1.0))
            question = await FAULTS[fault](self)
            if saying is not None:
                await asyncio.wait_for(saying, HUNG_S)
            await self._ask(question)

    async def _ask(self, question: Path) -> None:
        following = self._dialog.open(Follow(conversation=HOME))
        with self._card.record() as recording:
            asking = asyncio.create_task(asyncio.to_thread(self._card.play, question))
            try:
                async with asyncio.timeout(HUNG_S):
                    report = await anext(item async for item, _ in following if isinstance(item, TurnReport))
            except TimeoutError:
                raise AssertionError("a question was not heard, or not answered") from None
            finally:
                following.cancel()
                await asking
        assert report.outcome == "answered", report
        assert share_heard(WORDS, report.heard) >= HEARD_MIN, f"it understood {report.heard!r}"
        assert _loudest(recording.speaker) > AUDIBLE, "the answer did not sound"

    async def _back(self) -> None:
        """Raises AssertionError when they are not, in time."""
        began_s, before = time.monotonic(), self._starved()
        while trouble := await self._trouble():
            assert time.monotonic() < began_s + HUNG_S, f"it is not back after {HUNG_S:g} s: {trouble}"
            await asyncio.sleep(0.02)
        back_s = time.monotonic() - began_s - (self._starved() - before) / 1e9
        assert back_s <= BACK_MAX_S, f"it was back after {back_s:.1f} s, not within {BACK_MAX_S:g} s"
        self.backs_s.append(back_s)

    def _starved(self) -> int:
        return sum(starved_ns(pid) for pid in self._pids.values())

    async def _trouble(self) -> str:
        for daemon in self._pids:
            async with Client(daemon, "room") as client:
                report = await client.request(Status())
            assert isinstance(report, StatusReport)
            if report.state != "ready":
                return f"{daemon}: {report.detail}"
        return ""

    # --- what happens to it ---

    async def unplugged(self) -> Path:
        self._card.unplug()
        await asyncio.sleep(self._chance.uniform(0.2, AWAY_MAX_S))
        await asyncio.to_thread(self._card.plug)
        await self._back()
        return QUESTION

    async def stalled(self) -> Path:
        with stopped(self._card.server.pid):
            await asyncio.sleep(self._chance.uniform(0.05, STALL_MAX_S))
        await self._back()
        return QUESTION

    async def drifting(self) -> Path:
        return self._altered(list, 1 + self._chance.uniform(-DRIFT_MAX, DRIFT_MAX))

    async def clipped(self) -> Path:
        return self._altered(lambda pcm: [max(-32_768, min(32_767, GAIN * sample)) for sample in pcm])

    async def silent(self) -> Path:
        """Zeros, as a microphone that is switched off gives: nobody may be heard in them."""
        path = self._altered(lambda pcm: [0] * int(SILENCE_S * 16_000))
        heard: list[TurnHeard] = []
        following = self._dialog.open(Follow(conversation=HOME))
        listening = asyncio.create_task(_listen(following, heard))
        await asyncio.to_thread(self._card.play, path)
        following.cancel()
        await listening
        assert not heard, f"it heard {heard[0].text!r} in silence"
        return QUESTION

    def _altered(self, change: Callable[[array[int]], list[int]], rate: float = 1.0) -> Path:
        """The question, with other samples, as a card plays it whose clock is so many times too fast."""
        with wave.open(str(QUESTION)) as file:
            pcm, framerate = array("h", file.readframes(file.getnframes())), file.getframerate()
        path = self._folder / "altered.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(round(framerate * rate))
            file.writeframes(array("h", change(pcm)).tobytes())
        return path


FAULTS: Mapping[str, Callable[[_Room], Awaitable[Path]]] = {
    "unplugged": _Room.unplugged,
    "stalled": _Room.stalled,
    "drifting": _Room.drifting,
    "clipped": _Room.clipped,
    "silent": _Room.silent,
}
"""Each returns the question that is asked next."""


def _last_lines(logs: Path) -> str:
    """What the daemons said last: their folder goes with the campaign."""
    return "\n".join("\n".join(log.read_text("utf-8").splitlines()[-LINES:]) for log in sorted(logs.glob("*.log")))


async def _listen(following: Stream, heard: list[TurnHeard]) -> None:
    with suppress(CallCancelled):
        async for item, _ in following:
            if isinstance(item, TurnHeard):
                heard.append(item)


async def _say(dialog: Client) -> None:
    """To its end, whatever becomes of it: its card may go meanwhile."""
    with suppress(CallError, CallCancelled):
        await dialog.request(Say(conversation=HOME, text="The library closes at nine tonight, and opens at ten."))


def _loudest(pcm: bytes) -> float:
    """The mean amplitude of the loudest half second."""
    samples, step = array("h", pcm), 24_000
    parts = [samples[at : at + step] for at in range(0, len(samples), step)]
    return max((sum(map(abs, part)) / len(part) for part in parts), default=0.0)
