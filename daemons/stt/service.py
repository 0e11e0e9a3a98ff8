"""The hearing daemon: microphones in, turns out."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from daemons.config import Config
from daemons.engines.base import AudioIn, EngineError, EngineInfo, Frame, Transcriber, VoiceDetector
from daemons.engines.framing import Framer
from daemons.microphones import InputKeeper, input_of
from daemons.stt.core import Segmenter
from daemons.stt.ear import Ear
from daemons.stt.endpointing import ConfirmAfter, confirm_after
from daemons.stt.mutes import Mutes
from daemons.stt.worker import TranscriptWorker
from ipc.audio import STT_RATE, read_wav, silence
from ipc.call import Call, Caller, Handler
from ipc.errors import CallError, Code
from ipc.ids import new_rid
from ipc.limits import CREDIT_FAR
from ipc.marks import NO_MARKS, Marker, Stage
from ipc.messages import (
    HOME,
    Audio,
    Body,
    Done,
    Down,
    Fed,
    Feed,
    InputLost,
    Listen,
    Mute,
    Result,
    SpeechStarted,
    TurnCandidate,
    TurnFinal,
    TurnResumed,
)

KNOWN_CLIP = Path(__file__).with_name("known.wav")
KNOWN_WORDS = frozenset(["what", "is", "the", "capital", "of", "france"])
KNOWN_ENOUGH = 4
"""So many of them must be understood: a model may mishear a word, wrong arithmetic leaves none."""

STALL_S = 2.0
"""A feed that gives nothing for this long has stopped speaking."""

CLOCK_SLACK_NS = 10_000_000_000
"""Capture times further from now than this are not of this host's clock."""

SOUND_LEFT_NS = 300_000_000
"""What may still sound of an answer whose dialog has died: tts ends it as soon as stt knows, and a sound card holds
100 ms."""

EVENTS_MAX = 1024
"""Events that wait for a listener; they come a few a second, so one that is this far behind does not read."""


class SttService:
    """Meets daemons.runtime.Service. Engines given here replace those of the configuration."""

    def __init__(
        self,
        config: Config,
        transcriber: Callable[[], Transcriber] | None = None,
        detector: Callable[[], VoiceDetector] | None = None,
        microphone: Callable[[], AudioIn] | None = None,
        *,
        marks: Marker = NO_MARKS,
    ) -> None:
        self._config = config.stt
        self._make_transcriber = transcriber or self._whisper
        self._make_detector = detector or self._webrtc
        self._make_input = microphone or input_of(self._config.input)
        self.info = EngineInfo("faster-whisper", self._config.model, "")
        self._marks = marks
        self._worker = TranscriptWorker()
        self._ears: dict[str, Ear] = {}
        self._feeds: dict[str, Call] = {}
        self._mutes = Mutes()
        self._listeners: set[asyncio.Queue[Down]] = set()
        self._input: InputKeeper | None = None

    @property
    def trouble(self) -> str:
        return self._worker.trouble or (self._input.trouble if self._input else "")

    def handlers(self) -> Mapping[type[Body], Handler]:
        return {Listen: self._listen, Feed: self._feed, Mute: self._mute}

    async def load(self) -> None:
        transcriber = await self._worker.use(self._make_transcriber)
        self.info = transcriber.info
        await self._worker.run(lambda: check(transcriber, self._config.language))
        if self._make_input is not None:
            ear = self._ears[HOME] = self._ear(HOME)
            self._input = InputKeeper(self._make_input, ear, self._input_changed)
            await self._input.start()

    live = frozenset({"candidate_silence_ms", "endpointing"})

    def adopt(self, config: Config) -> None:
        self._config = msgspec.structs.replace(
            self._config,
            candidate_silence_ms=config.stt.candidate_silence_ms,
            endpointing=config.stt.endpointing,
        )
        for ear in self._ears.values():
            ear.adopt(self._judge(), self._config.candidate_silence_ms)

    async def beat(self) -> None:
        """Through the thread of the transcriber, behind what it does."""
        await self._worker.run(lambda: None)

    async def close(self) -> None:
        if self._input is not None:
            await self._input.close()
        self._worker.close()

    # --- engines ---

    def _whisper(self) -> Transcriber:
        from daemons.engines.whisper import FULL_CONTEXT_S, SHORT_CONTEXT_S, WhisperTranscriber

        settings = self._config
        context_s = SHORT_CONTEXT_S if settings.short_context else FULL_CONTEXT_S
        return WhisperTranscriber(settings.model, settings.device, settings.threads, settings.language, context_s)

    def _webrtc(self) -> VoiceDetector:
        from daemons.engines.webrtc import WebRtcDetector

        return WebRtcDetector(self._config.vad_aggressiveness)

    def _ear(self, conversation: str) -> Ear:
        settings = self._config
        core = Segmenter(conversation, new_rid, self._judge(), settings.candidate_silence_ms, settings.drafts)
        return Ear(core, self._make_detector(), self._worker, self._emit)

    def _judge(self) -> ConfirmAfter:
        return confirm_after(self._config.endpointing, self._config.language)

    # --- events ---

    def _emit(self, event: Down) -> None:
        self._mark(event)
        for listener in list(self._listeners):
            try:
                listener.put_nowait(event)
            except asyncio.QueueFull:
                self._listeners.discard(listener)  # `_listen` ends its request

    def _mark(self, event: Down) -> None:
        """A final tells nothing new of its candidate's silence and text, only that the silence went on."""
        match event:
            case SpeechStarted():
                self._marks.mark(event.turn, Stage.SPEECH_STARTED, event.t_ns)
            case TurnCandidate():
                self._marks.mark(event.turn, Stage.LAST_VOICED, event.last_voiced_ns, event.revision)
                self._marks.mark(event.turn, Stage.ENDPOINT_CANDIDATE, event.endpoint_ns, event.revision)
                self._marks.mark(event.turn, Stage.TRANSCRIPT, event.transcript_ns, event.revision)
                self._marks.mark(event.turn, Stage.TEXT_SENT, arg=event.revision)
            case TurnFinal():
                self._marks.mark(event.turn, Stage.ENDPOINT_CONFIRMED, event.endpoint_ns, event.revision)
                self._marks.mark(event.turn, Stage.TEXT_SENT, event.sent_ns, event.revision)
            case TurnResumed():
                self._marks.mark(event.turn, Stage.RESUMED, event.t_ns, event.revision)

    def _input_changed(self, detail: str) -> None:
        self._emit(InputLost(conversation=HOME, detail=detail))

    async def _listen(self, call: Call) -> Result:
        events: asyncio.Queue[Down] = asyncio.Queue(EVENTS_MAX)
        self._listeners.add(events)
        try:
            while events in self._listeners:
                await call.send(await events.get())
        finally:
            self._listeners.discard(events)
        raise CallError(Code.OVER_QUOTA, f"{EVENTS_MAX} events behind: listen again, and read")

    # --- microphones over the wire ---

    async def _feed(self, call: Call) -> Result:
        conversation = call.body.conversation
        if conversation in self._ears:
            older = self._feeds.get(conversation)
            if call.guest is None or older is None or older.guest is None:
                raise CallError(Code.BUSY, f"conversation {conversation!r} has a microphone already")
            # The same key: its link was cut, and this side has not noticed yet that the older connection is dead.
            older.fail(CallError(Code.BUSY, "a newer connection is the microphone now"))
        ear = self._ears[conversation] = self._ear(conversation)
        if span := self._mutes.span(conversation):
            ear.muted(*span)
        self._feeds[conversation] = call
        frames = 0

        def hear(frame: Frame) -> None:
            nonlocal frames
            frames += 1
            ear.hear(frame)

        try:
            if call.guest is not None:
                call.widen(CREDIT_FAR)
            await _receive(call, Framer(STT_RATE, hear), ear)
            ear.close()
            await ear.finished()
        finally:
            ear.close()
            if self._ears.get(conversation) is ear:
                del self._ears[conversation], self._feeds[conversation]
        return Fed(frames=frames, dropped_ms=ear.dropped_ms)

    def _mute(self, call: Call) -> Result:
        body: Mute = call.body
        self._mutes.mute(body.conversation, body.from_ns, body.lease_ms, time.monotonic_ns(), call.caller)
        call.caller.farewells["mutes"] = partial(self._unmute_all, call.caller)
        if ear := self._ears.get(body.conversation):
            self._marks.mark(call.rid, Stage.MUTED, body.from_ns, body.lease_ms)
            ear.mute(body.from_ns, body.lease_ms)
        return Done()

    def _unmute_all(self, caller: Caller) -> None:
        """Who is gone lifts no mute, and what it let sound ends with it, too."""
        now_ns = time.monotonic_ns()
        for conversation in self._mutes.told_by(caller, now_ns):
            until_ns = now_ns + SOUND_LEFT_NS
            self._mutes.mute(conversation, until_ns, 0, now_ns, caller)
            if ear := self._ears.get(conversation):
                ear.mute(until_ns, 0)


async def _receive(call: Call, framer: Framer, ear: Ear) -> None:
    """The audio of a feed, until its end. Raises CallError(BAD_REQUEST)."""
    items = aiter(call)
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                item, payload = await anext(items)
        except TimeoutError:
            ear.silence()
            continue
        except StopAsyncIteration:
            return
        if not isinstance(item, Audio) or len(payload) % 2:
            raise CallError(Code.BAD_REQUEST, "a feed takes audio items of whole 16-bit samples")
        if abs(item.t_ns - time.monotonic_ns()) > CLOCK_SLACK_NS:
            raise CallError(Code.BAD_REQUEST, "the capture time of the audio is not of this host's clock")
        framer.push(item.t_ns, payload)


def check(transcriber: Transcriber, language: str) -> None:
    """Warms up, and makes sure that the arithmetic is right: a known clip gives its words, silence gives none.
    Raises EngineError(MODEL_DAMAGED)."""
    heard = transcriber.transcribe(read_wav(KNOWN_CLIP)).text
    words = set(re.findall(r"[a-z]+", heard.lower()))
    if len(words & KNOWN_WORDS) < (KNOWN_ENOUGH if language == "en" else 0):
        raise EngineError(
            Code.MODEL_DAMAGED,
            f"{transcriber.info.model} understood {heard!r} in a clip that says something else: "
            "check it with `timmy models verify`, or set stt.device to 'cpu'",
        )
    if heard := transcriber.transcribe(silence(1000)).text:
        raise EngineError(
            Code.MODEL_DAMAGED,
            f"{transcriber.info.model} understood {heard!r} in silence: check it with `timmy models verify`",
        )
