"""The speaking daemon: clauses in, sound out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Mapping

from daemons.config import Config
from daemons.engines.base import AudioOut, EngineError, EngineInfo, Synthesizer
from daemons.engines.pcm import Trimmer
from daemons.engines.piper import PiperSynthesizer
from daemons.engines.plugged import RETRY_FIRST_S
from daemons.speakers import HomeSpeaker, Port, open_output
from daemons.tts import effects as do
from daemons.tts.core import SpeakingCore
from daemons.tts.wire import WireSpeaker
from ipc.call import Call, Handler
from ipc.errors import CallCancelled, CallError, Code
from ipc.marks import NO_MARKS, Marker, Stage
from ipc.messages import (
    HOME,
    Attach,
    Body,
    Clause,
    ClauseReady,
    Down,
    PlaybackDrained,
    PlaybackStarted,
    Release,
    Result,
    Speak,
)

KNOWN_TEXT = "The voice is ready."
KNOWN_S = (0.5, 3.0)
KNOWN_LOUDNESS = 500
"""A voice that works reads KNOWN_TEXT in a time between these, at a mean amplitude above this (of 32,767)."""

_Outcome = Down | Result | BaseException


class TtsService:
    """Meets daemons.runtime.Service. What is given here replaces what the configuration names."""

    def __init__(
        self,
        config: Config,
        synthesizer: Callable[[], Synthesizer] | None = None,
        output: Callable[[str, int], AudioOut] = open_output,
        retry_first_s: float = RETRY_FIRST_S,
        *,
        marks: Marker = NO_MARKS,
    ) -> None:
        self._config = config.tts
        self._make_synthesizer = synthesizer or self._piper
        self._make_output = output
        self._retry_first_s = retry_first_s
        self._marks = marks
        self.info = EngineInfo("piper", self._config.voice, "")
        self._synthesizer: Synthesizer | None = None
        self._home: HomeSpeaker | None = None
        self._wires: dict[str, WireSpeaker] = {}
        self._outcomes: dict[int, asyncio.Queue[_Outcome]] = {}
        self._rids: dict[int, bytes] = {}
        self._turns: dict[str, bytes] = {}
        self._work: dict[int, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)

    @property
    def trouble(self) -> str:
        return self._home.trouble if self._home else ""

    def handlers(self) -> Mapping[type[Body], Handler]:
        return {Speak: self._speak, Attach: self._attach}

    async def load(self) -> None:
        self._synthesizer = self._make_synthesizer()
        await self._synthesizer.load()
        await check(self._synthesizer)
        self.info = self._synthesizer.info
        self._core = SpeakingCore(self._synthesizer.sample_rate)
        rate = self._synthesizer.sample_rate
        self._home = HomeSpeaker(self._config.output, rate, self, self._make_output, self._retry_first_s)
        await self._home.open()

    live: frozenset[str] = frozenset()

    def adopt(self, config: Config) -> None:
        """Voice and speaker are opened once."""

    async def beat(self) -> None:
        """With the end of a clause that is being made; the engine itself is given up when it gives nothing."""
        if under_way := [task for task in self._work.values() if not task.done()]:
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        tasks = list(self._work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._home is not None:
            await self._home.close()
        if self._synthesizer is not None:
            await self._synthesizer.close()

    def _piper(self) -> Synthesizer:
        settings = self._config
        return PiperSynthesizer(settings.voice, settings.device, settings.threads, settings.pieces)

    # --- requests ---

    async def _speak(self, call: Call) -> Result:
        conversation: str = call.body.conversation
        if self._port(conversation) is None:
            raise self._unheard(conversation)
        number = next(self._numbers)
        self._outcomes[number] = asyncio.Queue()
        self._rids[number] = call.rid
        call.before_cut = lambda: self._do(self._core.cancel(number))  # who hears of the end hears nothing after it
        self._do(self._core.speak(number, conversation, call.body.hold))
        self._turns[conversation] = call.rid
        reader = asyncio.get_running_loop().create_task(self._read(call, number))
        try:
            while True:
                outcome = await self._outcomes[number].get()
                if isinstance(outcome, BaseException):
                    raise outcome
                if isinstance(outcome, Result):
                    return outcome
                await call.send(outcome)
        finally:
            reader.cancel()
            self._do(self._core.cancel(number))
            self._work.pop(number, None)
            del self._outcomes[number], self._rids[number]

    async def _read(self, call: Call, number: int) -> None:
        try:
            async for item, _ in call:
                if isinstance(item, Clause):
                    self._do(self._core.clause(number, item.text, time.monotonic_ns()))
                elif isinstance(item, Release):
                    self._marks.mark(call.rid, Stage.RELEASED)
                    self._do(self._core.release(number, time.monotonic_ns()))
            self._do(self._core.end(number, time.monotonic_ns()))
        except Exception as error:
            self._outcomes[number].put_nowait(error)

    async def _attach(self, call: Call) -> Result:
        conversation: str = call.body.conversation
        if conversation == HOME:
            raise CallError(Code.BAD_REQUEST, f"{HOME!r} speaks through this machine's speaker: attach to another name")
        if older := self._wires.get(conversation):
            older.end(CallError(Code.BUSY, f"another client is the speaker of {conversation!r} now"))
            self._do(self._core.lost(conversation, Code.DEVICE_LOST, "the conversation's speaker was replaced"))
        assert self._synthesizer is not None
        wire = WireSpeaker(call, self._synthesizer.sample_rate, lambda: self._turns[conversation], self)
        self._wires[conversation] = wire
        try:
            await wire.run()
        finally:
            if self._wires.get(conversation) is wire:
                del self._wires[conversation]
                self._do(self._core.lost(conversation, Code.DEVICE_LOST, "the client that was listening left"))

    def _port(self, conversation: str) -> Port | None:
        if conversation == HOME:
            return self._home.port if self._home else None
        wire = self._wires.get(conversation)
        return wire.port if wire else None

    def _unheard(self, conversation: str) -> CallError:
        if conversation == HOME and self._home is not None and self._home.error is not None:
            return self._home.error
        return CallError(Code.DEVICE_MISSING, f"nobody listens in {conversation!r}: attach a speaker to it first")

    # --- what the outputs tell ---

    def started(self, conversation: str, t_ns: int) -> None:
        self._do(self._core.started(conversation, t_ns))

    def drained(self, conversation: str, t_ns: int) -> None:
        self._do(self._core.drained(conversation, t_ns))

    def lost(self, conversation: str, error: EngineError) -> None:
        self._do(self._core.lost(conversation, Code.DEVICE_LOST, str(error)))

    def speaking(self, conversation: str) -> bool:
        return self._core.speaking(conversation)

    # --- effects ---

    def _do(self, effects: list[do.Effect]) -> None:
        for effect in effects:
            self._mark(effect)
            match effect:
                case do.Play() | do.MarkEnd() | do.Flush():
                    self._sound(effect)
                case do.Synthesize(utterance=number):
                    self._work[number] = asyncio.get_running_loop().create_task(self._synthesize(effect))
                case do.StopSynthesis(utterance=number):
                    self._work.pop(number).cancel()
                case do.Wake(utterance=number, at_ns=at_ns):
                    asyncio.get_running_loop().call_at(at_ns / 1e9, self._wake, number)
                case do.Tell(utterance=number, item=item):
                    self._outcomes[number].put_nowait(item)
                case do.Finish(utterance=number, result=result):
                    self._outcomes[number].put_nowait(result)
                case do.Fail(utterance=number, code=code, detail=detail):
                    self._outcomes[number].put_nowait(CallError(code, detail))
                case do.Supersede(utterance=number):
                    self._outcomes[number].put_nowait(CallCancelled("a newer utterance has the conversation"))

    def _mark(self, effect: do.Effect) -> None:
        match effect:
            case do.Synthesize(utterance=number, index=0):
                self._marks.mark(self._rids[number], Stage.SYNTHESIS_START)
            case do.Tell(utterance=number, item=ClauseReady(index=0) as clause):
                self._marks.mark(self._rids[number], Stage.CLAUSE_RECEIVED, clause.received_ns)
                self._marks.mark(self._rids[number], Stage.FIRST_AUDIO, clause.ready_ns)
            case do.Tell(utterance=number, item=PlaybackStarted(t_ns=t_ns)):
                self._marks.mark(self._rids[number], Stage.PLAYBACK_STARTED, t_ns)
            case do.Tell(utterance=number, item=PlaybackDrained(t_ns=t_ns)):
                self._marks.mark(self._rids[number], Stage.PLAYBACK_DRAINED, t_ns)

    def _sound(self, effect: do.Play | do.MarkEnd | do.Flush) -> None:
        port = self._port(effect.conversation)
        if port is None:
            return  # it was lost just now: the utterance fails by that
        match effect:
            case do.Play(pause_ms=pause_ms, pcm=pcm):
                port.play(pause_ms, pcm)
            case do.MarkEnd():
                port.mark_end()
            case do.Flush():
                port.flush()

    def _wake(self, number: int) -> None:
        self._do(self._core.woken(number, time.monotonic_ns()))

    async def _synthesize(self, order: do.Synthesize) -> None:
        assert self._synthesizer is not None
        number, index = order.utterance, order.index
        try:
            async with contextlib.aclosing(trimmed(self._synthesizer, order.text)) as pieces:
                async for pcm in pieces:
                    if pcm:
                        self._do(self._core.audio(number, index, pcm, time.monotonic_ns()))
                    else:
                        self._core.phrase_over(number, index)
            self._do(self._core.synthesized(number, index, time.monotonic_ns()))
        except EngineError as error:
            self._do(self._core.failed(number, index, error.code, str(error)))
        except Exception as error:
            self._outcomes[number].put_nowait(error)


async def trimmed(synthesizer: Synthesizer, text: str) -> AsyncGenerator[bytes, None]:
    """Like `synthesize`, each phrase without the silence around it. Raises EngineError."""
    trimmer = Trimmer(synthesizer.sample_rate)
    async with contextlib.aclosing(synthesizer.synthesize(text)) as pieces:
        async for pcm in pieces:
            if len(pcm) % 2:
                raise EngineError(Code.ENGINE_FAILED, "the voice gave half a sample: restart the tts daemon")
            if pcm:
                if sound := trimmer.feed(pcm):
                    yield sound
                continue
            if sound := trimmer.end():
                yield sound
            yield b""
    if sound := trimmer.end():
        yield sound


async def check(synthesizer: Synthesizer) -> None:
    """Raises EngineError(MODEL_DAMAGED) unless a known text gives speech of plausible length and loudness."""
    async with contextlib.aclosing(trimmed(synthesizer, KNOWN_TEXT)) as pieces:
        pcm = b"".join([piece async for piece in pieces])
    samples = array("h", pcm)
    seconds = len(samples) / synthesizer.sample_rate
    loudness = sum(map(abs, samples)) / len(samples) if samples else 0.0
    if not KNOWN_S[0] <= seconds <= KNOWN_S[1] or loudness < KNOWN_LOUDNESS:
        raise EngineError(
            Code.MODEL_DAMAGED,
            f"voice {synthesizer.info.model!r} gave {seconds:.1f} s of mean amplitude {loudness:.0f} for a known text: "
            "it is no voice for this language, or it is damaged; fetch it again: timmy models pull",
        )
