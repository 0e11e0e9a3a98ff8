"""Who speaks and types in one conversation of the house, and hears its answers: a microphone, a device, a keyboard."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from daemons.dialog.turn import Phase
from ipc.audio import FRAME_NS
from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError
from ipc.ids import new_rid
from ipc.messages import Ask, Attach, Audio, Feed, Sound
from tests.support.schedules.book import number_in
from tests.support.schedules.ear import ECHO, script
from tests.support.schedules.engines import frame
from tests.support.schedules.house import House
from tests.support.schedules.monitor import faults
from tests.support.schedules.record import MS, Record
from tests.support.schedules.record import Sound as Played

AGAIN_S = 0.05
QUIET_S = 1.5
"""Nothing has happened for so long: longer than any silence that ends a turn, and any lease that is renewed."""

LATE_S = 20.0
"""So much later what is due may still come, on a machine that has much to do."""

UTTERANCES_MAX = 3
HOP_NS = 500 * MS


class Device:
    """What a client plays: each sample when it is due, and nothing after the end that tts tells."""

    def __init__(self, record: Record, house: House) -> None:
        self._record = record
        self._house = house

    def take(self, item: Sound, pcm: bytes) -> None:
        if not pcm and item.last:
            self.cut(item.t_ns)
        elif number := number_in(pcm):
            _, work = self._house.book.works[number]
            end_ns = item.t_ns + len(pcm) // 2 * 1_000_000_000 // item.sample_rate
            newest = self._record.sounds[-1] if self._record.sounds else None
            if newest is not None and newest.work == work and newest.to_ns >= item.t_ns - MS:
                newest.to_ns = end_ns
            else:
                self._record.sounds.append(Played(work, item.t_ns, end_ns))

    def cut(self, t_ns: int) -> None:
        """Nothing sounds from then on."""
        self._record.sounds[:] = [sound for sound in self._record.sounds if sound.from_ns < t_ns]
        for sound in self._record.sounds:
            sound.to_ns = min(sound.to_ns, t_ns)

    def sounds_at(self, t_ns: int) -> bool:
        return any(s.from_ns <= t_ns and t_ns + FRAME_NS <= s.to_ns for s in self._record.sounds[-3:])


class Guest:
    """One schedule. `chance` decides what is said and typed, and when."""

    def __init__(self, house: House, clients: dict[str, Client], place: int, seed: int) -> None:
        self._house = house
        self._clients = clients
        self._name = f"{place:03d}"
        self._chance = random.Random(seed)
        start_ns = time.monotonic_ns()
        self.record = house.book.records[self._name] = Record(seed, hop_ns=HOP_NS, start_ns=start_ns)
        said = [*script(self._chance, self.record, UTTERANCES_MAX, self._name)]
        self._last_ns = said[-1].to_ns
        self._spoken = {t: w.text for w in said for t in range(w.from_ns, w.to_ns, FRAME_NS)}
        self._device = Device(self.record, house)

    async def run(self) -> Record:
        """Returns when all has come of it that will."""
        tasks = [asyncio.create_task(self._keep(job)) for job in (self._listen, self._speak)]
        tasks += [asyncio.create_task(self._type()) for _ in range(self._chance.randrange(4))]
        try:
            due_ns = self._last_ns + int((QUIET_S + LATE_S) * 1e9)
            while not self._over() and time.monotonic_ns() < due_ns:  # noqa: ASYNC110 - quiet is no event
                await asyncio.sleep(0.2)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self.record.events.sort(key=lambda event: event.t_ns)
        return self.record

    def _over(self) -> bool:
        record = self.record
        latest_ns = max([self._last_ns, *(e.t_ns for e in record.events), *(s.to_ns for s in record.sounds)])
        record.phase = self._phase()
        return latest_ns + int(QUIET_S * 1e9) < time.monotonic_ns() and faults(record) == []

    def _phase(self) -> Phase:
        return self._house.dialog.conversation(self._name).phase

    async def _keep(self, job: Callable[[], Awaitable[None]]) -> None:
        """Runs it again whenever its daemon has come back."""
        while True:
            try:
                await job()
            except (CallError, CallCancelled):
                await asyncio.sleep(AGAIN_S)

    async def _listen(self) -> None:
        await self._clients["tts"].wait_connected()
        try:
            async for item, pcm in self._clients["tts"].open(Attach(conversation=self._name)):
                assert isinstance(item, Sound)
                self._device.take(item, pcm)
        finally:
            self._device.cut(time.monotonic_ns())

    async def _speak(self) -> None:
        """Feeds what is said, and what the device plays."""
        await self._clients["stt"].wait_connected()
        stream: Stream = self._clients["stt"].open(Feed(conversation=self._name))
        start_ns = self.record.start_ns
        t_ns = start_ns + (time.monotonic_ns() - start_ns) // FRAME_NS * FRAME_NS
        self._house.book.note(self._name, "back", "stt")
        while True:
            await asyncio.sleep((t_ns + FRAME_NS - time.monotonic_ns()) / 1e9)
            word = self._spoken.get(t_ns) or (ECHO if self._device.sounds_at(t_ns) else "")
            await stream.send(Audio(t_ns=t_ns), frame(self._name, word))
            t_ns += FRAME_NS

    async def _type(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, (self._last_ns - self.record.start_ns) / 1e9))
        takes_back, patience_s = self._chance.random() < 0.5, self._chance.uniform(0.001, 1.5)
        try:
            ask = Ask(conversation=self._name, text=f"typed {self._name}0000", speak=True)
            stream = self._clients["dialog"].open(ask, rid=new_rid())
            if takes_back:
                await asyncio.sleep(patience_s)
                stream.cancel()
            await stream.result()
        except (CallError, CallCancelled):
            return  # busy, gone, or taken back
