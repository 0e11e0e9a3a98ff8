"""The satellite: the microphone and the speaker of another room, at the house's own ear and voice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from daemons.config import Satellite
from daemons.engines.base import AudioIn, AudioOut, EngineError, Frame
from daemons.microphones import InputKeeper, input_of
from daemons.notify import WATCHDOG, notify, watchdog_period_s
from daemons.satellite.core import Answers, Deafness, End, HouseClock, Order, Play
from daemons.speakers import HomeSpeaker, open_output
from ipc.audio import FRAME_NS
from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError, Code, LocalProtocolError
from ipc.limits import CREDIT_FAR
from ipc.messages import Attach, Audio, Feed, Ping, Pong, Sound
from ipc.network import House

log = logging.getLogger(__name__)

USUAL_RATE = 22_050
"""Samples a second of most voices. The speaker is opened with it, and again when the house's voice has another one."""

FIRST_EXCHANGES = 3
"""Before anything is heard the clock of the house is asked so often."""

EXCHANGE_EVERY_S = 5.0
EXCHANGE_TTL_MS = 2000

AGAIN_S = 0.1
AGAIN_REFUSED_S = 1.0
"""After a refusal: somebody in the house has to do something first."""

FLUSH_NS = 100_000_000
"""A speaker is silent this long after it was told to be, at the latest (AudioOut.flush)."""


class SatelliteService:
    """One room. `microphone` and `output` replace what the settings name, for tests."""

    def __init__(
        self,
        settings: Satellite,
        house: House,
        microphone: Callable[[], AudioIn] | None = None,
        output: Callable[[str, int], AudioOut] = open_output,
    ) -> None:
        self._settings = settings
        self._make_output = output
        self._stt = Client("stt", "satellite", house=house)
        self._tts = Client("tts", "satellite", house=house)
        self._clock = HouseClock()
        self._deafness = Deafness()
        self._answers = Answers()
        self._feed: Stream | None = None
        self._lost_ms = 0
        self._links = {"stt": "connecting to stt", "tts": "connecting to tts"}
        make = microphone or input_of(settings.input)
        self._input = InputKeeper(make, self, self._input_changed) if make else None
        self._heard = asyncio.Event()
        self._speaker: HomeSpeaker | None = None
        self._rate = USUAL_RATE

    @property
    def trouble(self) -> str:
        """Why it is not all it should be, else empty."""
        devices = [self._input.trouble if self._input else "", self._speaker.trouble if self._speaker else ""]
        return "; ".join(dict.fromkeys(reason for reason in [*self._links.values(), *devices] if reason))

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. The house and the devices may come and go meanwhile."""
        await self._open_speaker(self._rate)
        if self._input is not None:
            await self._input.start()
        tasks: list[asyncio.Task[None]] = []
        try:
            async with self._stt, self._tts:
                for client, job in ((self._stt, self._hear_room), (self._tts, self._sound_room)):
                    tasks.append(asyncio.ensure_future(self._keep(client, job)))
                tasks.append(asyncio.ensure_future(self._keep_time()))
                if (period_s := watchdog_period_s()) is not None:
                    tasks.append(asyncio.ensure_future(self._feed_watchdog(period_s)))
                notify("READY=1")
                self._told()
                await stop.wait()
                notify("STOPPING=1\nSTATUS=stopping")
                await _end(tasks)
        finally:
            if self._input is not None:
                await self._input.close()
            if self._speaker is not None:
                await self._speaker.close()

    async def beat(self) -> None:
        """With the next frame of the microphone, where there is one that works; else at once. It feeds the watchdog."""
        if self._input is not None and not self._input.trouble:
            self._heard.clear()
            await self._heard.wait()

    async def _feed_watchdog(self, period_s: float) -> None:
        while True:
            await self.beat()
            notify(WATCHDOG)
            self._told()  # a speaker that is back says nothing itself
            await asyncio.sleep(period_s)

    # --- the links to the house ---

    async def _keep(self, client: Client, job: Callable[[str], Awaitable[None]]) -> None:
        """Does the job whenever the daemon is there; what ends it is told, and it begins again."""
        while True:
            pause_s = AGAIN_S
            try:
                await client.wait_connected()
                assert client.peer is not None
                await job(client.peer.guest)
            except CallError as error:
                self._link(client.daemon, str(error))
                pause_s = AGAIN_REFUSED_S if error.code is Code.NOT_ALLOWED else AGAIN_S
            except CallCancelled as error:
                self._link(client.daemon, f"{client.daemon} gave it up: {error}")
            await asyncio.sleep(pause_s)

    def _link(self, daemon: str, trouble: str) -> None:
        if self._links[daemon] != trouble:
            self._links[daemon] = trouble
            if trouble:
                log.warning("%s", trouble)
            else:
                log.info("connected to %s of the house", daemon)
            self._told()

    def _told(self) -> None:
        notify(f"STATUS={self.trouble or 'ready'}")

    async def _keep_time(self) -> None:
        """Goes on asking the house for its time, for clocks drift apart."""
        while True:
            await asyncio.sleep(EXCHANGE_EVERY_S)
            if self._feed is not None:
                try:
                    await self._exchange()
                except (CallError, CallCancelled) as error:  # whoever feeds hears of it, too
                    log.debug("the house did not tell its time: %s", error)

    async def _exchange(self) -> None:
        asked = time.monotonic_ns()
        answer = await self._stt.request(Ping(), ttl_ms=EXCHANGE_TTL_MS)
        if isinstance(answer, Pong):
            self._clock.exchanged(asked, answer.t_ns, time.monotonic_ns())

    # --- this room's microphone ---

    async def _hear_room(self, conversation: str) -> None:
        """Feeds the house's ear, until that ends: then the reason is raised."""
        self._clock.forget()
        while self._clock.exchanges < FIRST_EXCHANGES:
            await self._exchange()
        self._feed = self._stt.open(Feed(conversation=conversation))
        self._link("stt", "")
        try:
            await self._feed.result()
        finally:
            self._feed.cancel("the satellite begins anew")
            self._feed = None
            if self._lost_ms:
                log.warning("the link was cut or too slow: %d ms of sound were not sent", self._lost_ms)
                self._lost_ms = 0

    def hear(self, frame: Frame) -> None:
        """A frame from the microphone. What the room's own speaker says is silence to the house."""
        self._heard.set()
        if self._feed is None:
            return
        deaf = self._deafness.covers(frame.t_ns, frame.t_ns + FRAME_NS)
        pcm = bytes(len(frame.pcm)) if deaf else frame.pcm
        try:
            if not self._feed.offer(Audio(t_ns=self._clock.there(frame.t_ns)), pcm):
                self._lost_ms += FRAME_NS // 1_000_000
        except (CallError, CallCancelled, LocalProtocolError) as error:  # `_hear_room` gets the same
            log.debug("not heard: %s", error)

    def silence(self) -> None:
        """The microphone went away: the house notices that nothing comes."""
        self._heard.set()

    def _input_changed(self, detail: str) -> None:
        self._told()

    # --- this room's speaker ---

    async def _sound_room(self, conversation: str) -> None:
        """Plays what the house says in this room, until that ends: then the reason is raised."""
        stream = self._tts.open(Attach(conversation=conversation))
        stream.widen(CREDIT_FAR)
        self._link("tts", "")
        try:
            async for item, pcm in stream:
                if isinstance(item, Sound):
                    if item.sample_rate != self._rate:
                        await self._open_speaker(item.sample_rate)
                    self._deafness.renew(time.monotonic_ns())
                    self._carry_out(self._answers.sound(item.t_ns, item.sample_rate, item.last, pcm))
            await stream.result()
        finally:
            stream.cancel("the satellite begins anew")
            self._carry_out(self._answers.broken())

    async def _open_speaker(self, sample_rate: int) -> None:
        if self._speaker is not None:
            await self._speaker.close()
            self._deafness.end(time.monotonic_ns())
        self._rate = sample_rate
        self._speaker = HomeSpeaker(self._settings.output, sample_rate, self, self._make_output)
        await self._speaker.open()

    def _carry_out(self, orders: list[Order]) -> None:
        port = self._speaker.port if self._speaker else None
        if port is None:
            return
        for order in orders:
            if isinstance(order, Play):
                port.play(0, order.pcm)
            elif isinstance(order, End):
                port.mark_end()
            else:
                port.flush()
                self._deafness.end(time.monotonic_ns() + FLUSH_NS)

    # --- what the speaker tells (daemons.speakers.Listener) ---

    def started(self, conversation: str, t_ns: int) -> None:
        self._deafness.begin(t_ns)

    def drained(self, conversation: str, t_ns: int) -> None:
        self._deafness.end(t_ns)

    def lost(self, conversation: str, error: EngineError) -> None:
        self._deafness.end(time.monotonic_ns())
        self._told()

    def speaking(self, conversation: str) -> bool:
        return self._answers.in_hand


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
