"""The hearing daemon over real sockets."""

from __future__ import annotations

import asyncio
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from daemons import config, microphones
from daemons.engines.base import EngineError, Frame, Superseded, Transcript, never
from daemons.engines.fakes_stt import FakeDetector, FakeMicrophone, FakeTranscriber
from daemons.engines.plugged import Patience
from daemons.stt import service as stt_service
from daemons.stt.service import SttService
from ipc.audio import FRAME_BYTES, FRAME_NS, paced, read_wav, silence
from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError, Code
from ipc.messages import (
    HOME,
    Audio,
    Body,
    Clause,
    Done,
    Fed,
    Feed,
    InputLost,
    Listen,
    Mute,
    Muted,
    Partial,
    SpeechStarted,
    TurnCandidate,
    TurnDropped,
    TurnFinal,
    TurnResumed,
)
from tests.support.serving import serving
from tests.support.speech import speak, words
from tests.support.suite import EXAMPLES

T = TypeVar("T", bound=Body)
NO_INPUT = config.Config(stt=config.Stt(input="none"))
LOUD = b"\1\1" * (FRAME_BYTES // 2)


async def feed(stream: Stream, pcm: bytes) -> None:
    """At speaking pace, as a microphone."""
    for frame in paced(pcm, time.monotonic_ns()):
        await asyncio.sleep((frame.due_ns - time.monotonic_ns()) / 1e9)
        await stream.send(Audio(t_ns=frame.t_ns), frame.pcm)


async def next_of(events: Stream, kind: type[T]) -> T:
    async for item, _ in events:
        if isinstance(item, kind):
            return item
    raise AssertionError(f"no {kind.__name__} came")


@asynccontextmanager
async def fake(
    folder: Path, transcriber: FakeTranscriber, microphone: FakeMicrophone | None = None
) -> AsyncIterator[tuple[SttService, Client, Stream]]:
    """A service whose transcriber, detector and microphone are told what to do, and a listener."""
    make = None if microphone is None else lambda: microphone
    service = SttService(NO_INPUT, lambda: transcriber, FakeDetector, make)
    async with serving("stt", service, folder) as client:
        listening = client.open(Listen())
        assert await client.request(Mute(conversation=HOME, from_ns=0, lease_ms=0)) == Done()  # Listen has arrived
        yield service, client, listening


def run(task: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await task()

    asyncio.run(bounded())


@pytest.mark.models
def test_a_spoken_question_becomes_a_turn(tmp_path: Path) -> None:
    first, second = speak("Remember that the plumber comes on Tuesday at nine."), speak("Where is the spare key?")

    async def task() -> None:
        async with serving("stt", SttService(NO_INPUT), tmp_path) as client:
            listening, microphone = client.open(Listen()), client.open(Feed(conversation="wav"))
            await feed(microphone, silence(300) + first + silence(1500) + second + silence(700))
            microphone.end()
            fed = await microphone.result()
            assert isinstance(fed, Fed)
            assert fed.frames >= (len(first) + len(second)) // FRAME_BYTES
            events: list[Body] = []
            async for item, _ in listening:
                events.append(item)
                if isinstance(item, TurnFinal) and "key" in words(item.text):
                    break
        _check_two_utterances(events)

    run(task)


def _check_two_utterances(events: list[Body]) -> None:
    assert isinstance(events[0], SpeechStarted)
    assert {event.turn for event in events if not isinstance(event, Muted)} == {events[0].turn}  # type: ignore[attr-defined]
    assert any(isinstance(event, Partial) for event in events)
    told = [event for event in events if isinstance(event, TurnCandidate | TurnFinal)]
    final = [event for event in told if isinstance(event, TurnFinal)]
    first, last = final
    assert {"plumber", "tuesday"} <= set(words(first.text))
    assert {"plumber", "tuesday", "spare", "key"} <= set(words(last.text))
    # Where the voice takes breath inside a sentence, which it does at random, that is resumed, too.
    resumed = [event.revision for event in events if isinstance(event, TurnResumed)]
    assert resumed == list(range(1, last.revision))
    assert first.revision in resumed
    for event in told:
        assert event.last_voiced_ns < event.endpoint_ns
        assert event.last_voiced_ns < event.transcript_ns


@pytest.mark.models
def test_the_last_voiced_sample_is_where_the_speech_ends(tmp_path: Path) -> None:
    pcm = speak("Where is the spare key?").rstrip(b"\0")

    async def task() -> None:
        async with serving("stt", SttService(NO_INPUT), tmp_path) as client:
            listening, microphone = client.open(Listen()), client.open(Feed(conversation="wav"))
            start_ns = time.monotonic_ns()
            await feed(microphone, pcm + silence(700))
            final = await next_of(listening, TurnFinal)
            spoken_ns = len(pcm) // 2 * 1_000_000_000 // 16_000
            assert -300_000_000 < final.last_voiced_ns - start_ns - spoken_ns < 2 * FRAME_NS + 20_000_000

    run(task)


@pytest.mark.parametrize(
    ("endpointing", "text", "finals"),
    [
        ("quick", "What is the capital of France?", [1, 2]),
        ("quick", "And then I", [2]),
        ("calm", "What is the capital of France?", [2]),
    ],
)
def test_the_words_and_the_configuration_say_whether_a_pause_is_an_end(
    tmp_path: Path, endpointing: config.Endpointing, text: str, finals: list[int]
) -> None:
    settings = config.Config(stt=config.Stt(input="none", endpointing=endpointing))
    transcriber = FakeTranscriber("What is the capital of France?", text)  # the first proves that it is sound

    async def task() -> None:
        service = SttService(settings, lambda: transcriber, FakeDetector)
        async with serving("stt", service, tmp_path) as client:
            listening, microphone = client.open(Listen()), client.open(Feed(conversation="wav"))
            await feed(microphone, LOUD * 20 + silence(600) + LOUD * 20)
            microphone.end()
            told = []
            async for item, _ in listening:
                told += [item.revision] if isinstance(item, TurnFinal) else []
                if told[-1:] == [2]:
                    break
            assert told == finals

    run(task)


@pytest.mark.models
def test_a_wav_file_can_be_the_microphone(tmp_path: Path) -> None:
    path = tmp_path / "question.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(silence(1000) + read_wav(EXAMPLES / "2-capital.wav"))

    async def task() -> None:
        service = SttService(config.Config(stt=config.Stt(input=str(path))))
        async with serving("stt", service, tmp_path / "run") as client:
            final = await next_of(client.open(Listen()), TurnFinal)
            assert final.conversation == HOME
            assert {"capital", "france"} <= set(words(final.text))
            assert service.trouble == ""

    run(task)


def test_the_end_of_a_feed_completes_its_turn(tmp_path: Path) -> None:
    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber()) as (_, client, listening):
            microphone = client.open(Feed(conversation="wav"))
            await feed(microphone, LOUD * 20)
            microphone.end()
            assert await microphone.result() == Fed(frames=20, dropped_ms=0)
            assert (await next_of(listening, TurnFinal)).text == "What is the capital of France?"

    run(task)


def test_a_feed_that_stalls_completes_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stt_service, "STALL_S", 0.1)

    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber()) as (_, client, listening):
            microphone = client.open(Feed(conversation="wav"))
            await feed(microphone, LOUD * 20)
            await next_of(listening, TurnFinal)
            await feed(microphone, LOUD * 20)
            assert await next_of(listening, SpeechStarted)

    run(task)


def test_a_feed_that_is_given_up_still_tells_what_was_said(tmp_path: Path) -> None:
    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber()) as (_, client, listening):
            microphone = client.open(Feed(conversation="wav"))
            await feed(microphone, LOUD * 20)
            await next_of(listening, SpeechStarted)
            microphone.cancel()
            assert (await next_of(listening, TurnFinal)).text == "What is the capital of France?"

    run(task)


def test_one_conversation_has_one_microphone(tmp_path: Path) -> None:
    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber()) as (_, client, _listening):
            first = client.open(Feed(conversation="wav"))
            await feed(first, silence(100))
            with pytest.raises(CallError) as caught:
                await client.request(Feed(conversation="wav"))
            assert caught.value.code is Code.BUSY
            first.end()
            await first.result()
            again = client.open(Feed(conversation="wav"))
            again.end()
            assert await again.result() == Fed(frames=0, dropped_ms=0)

    run(task)


@pytest.mark.parametrize(
    ("item", "payload", "reason"),
    [
        (Clause(text="hello"), b"", "whole 16-bit samples"),
        (Audio(t_ns=0), b"\0" * 640, "not of this host's clock"),
        (Audio(t_ns=2**62), b"\0" * 640, "not of this host's clock"),
        (None, b"\0" * 641, "whole 16-bit samples"),
    ],
)
def test_what_is_no_audio_is_refused(tmp_path: Path, item: Body | None, payload: bytes, reason: str) -> None:
    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber()) as (_, client, _listening):
            microphone = client.open(Feed(conversation="wav"))
            await microphone.send(item or Audio(t_ns=time.monotonic_ns()), payload)
            with pytest.raises(CallError, match=reason) as caught:
                await microphone.result()
            assert caught.value.code is Code.BAD_REQUEST

    run(task)


def test_a_mute_over_the_wire(tmp_path: Path) -> None:
    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber()) as (_, client, listening):
            microphone = client.open(Feed(conversation="wav"))
            await feed(microphone, silence(100))
            await client.request(Mute(conversation="wav", from_ns=time.monotonic_ns(), lease_ms=30_000))
            await feed(microphone, LOUD * 20)
            await client.request(Mute(conversation="wav", from_ns=time.monotonic_ns(), lease_ms=0))
            await feed(microphone, silence(100))
            assert (await next_of(listening, Muted)).dropped_ms == pytest.approx(400, abs=40)
            microphone.end()
            fed = await microphone.result()
            assert isinstance(fed, Fed)
            assert fed.dropped_ms == pytest.approx(400, abs=40)

    run(task)


def test_a_microphone_that_comes_back_while_an_answer_sounds(tmp_path: Path) -> None:
    """It was told to be deaf before there was one, and again while it was away."""

    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber()) as (_, client, listening):
            for _ in range(2):
                await client.request(Mute(conversation="wav", from_ns=time.monotonic_ns(), lease_ms=30_000))
                microphone = client.open(Feed(conversation="wav"))
                await feed(microphone, LOUD * 20)
                microphone.end()
                assert await microphone.result() == Fed(frames=20, dropped_ms=0)  # the mute is not over
            until_ns = time.monotonic_ns()
            await client.request(Mute(conversation="wav", from_ns=until_ns, lease_ms=0))
            microphone = client.open(Feed(conversation="wav"))
            await feed(microphone, LOUD * 20 + silence(600))
            assert (await next_of(listening, SpeechStarted)).t_ns >= until_ns  # the first that it told of

    run(task)


def test_a_transcriber_that_fails_is_trouble_until_it_works(tmp_path: Path) -> None:
    transcriber = FakeTranscriber()

    async def task() -> None:
        async with fake(tmp_path, transcriber) as (service, client, listening):
            microphone = client.open(Feed(conversation="wav"))
            for failure in (EngineError(Code.ENGINE_FAILED, "out of memory"), ValueError("a bug")):
                transcriber.failure = failure
                await feed(microphone, LOUD * 10 + silence(200))
                assert (await next_of(listening, TurnDropped)).reason == "the transcriber failed"
                assert service.trouble == f"the transcriber failed: {failure}"
            transcriber.failure = None
            await feed(microphone, LOUD * 10 + silence(600))
            await next_of(listening, TurnFinal)
            assert service.trouble == ""

    run(task)


def test_a_transcriber_that_stalls_loses_nothing(tmp_path: Path) -> None:
    transcriber = FakeTranscriber()

    async def task() -> None:
        async with fake(tmp_path, transcriber) as (_, client, listening):
            transcriber.go.clear()
            microphone = client.open(Feed(conversation="wav"))
            await feed(microphone, LOUD * 20 + silence(700) + LOUD * 20 + silence(200))
            microphone.end()
            transcriber.go.set()
            await microphone.result()
            assert (await next_of(listening, TurnFinal)).revision == 1

    run(task)


def test_a_listener_that_does_not_read_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stt_service, "EVENTS_MAX", 2)

    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber()) as (service, _client, listening):
            for _ in range(3):  # before the loop can send any of them
                service._input_changed("gone")
            with pytest.raises(CallError) as caught:
                await listening.result()
            assert caught.value.code is Code.OVER_QUOTA

    run(task)


def test_every_listener_hears_and_may_leave(tmp_path: Path) -> None:
    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber()) as (service, client, listening):
            other = client.open(Listen())
            await client.request(Mute(conversation=HOME, from_ns=0, lease_ms=0))
            service._input_changed("one")
            assert (await next_of(other, InputLost)).detail == "one"
            other.cancel()
            with pytest.raises(CallCancelled):
                await other.result()
            await client.request(Mute(conversation=HOME, from_ns=0, lease_ms=0))
            service._input_changed("two")
            assert [(await next_of(listening, InputLost)).detail for _ in range(2)] == ["one", "two"]
            assert len(service._listeners) == 1

    run(task)


# --- the machine's own microphone -----------------------------------------------------------------


def test_the_microphone_speaks_in_the_home_conversation(tmp_path: Path) -> None:
    microphone = FakeMicrophone()

    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber(), microphone) as (_, _client, listening):
            begin_ns = time.monotonic_ns()
            for number in range(40):
                microphone.push(Frame(begin_ns + number * FRAME_NS, LOUD if number < 10 else bytes(FRAME_BYTES)))
            assert (await next_of(listening, TurnFinal)).conversation == HOME
        assert microphone.closed == 1

    run(task)


def test_without_a_microphone_the_daemon_is_ready_and_says_why_it_is_deaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphones, "Patience", lambda: Patience(0.05))
    microphone = FakeMicrophone(EngineError(Code.DEVICE_MISSING, "no microphone: plug one in"))

    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber(), microphone) as (service, _client, listening):
            assert service.trouble == "no microphone: plug one in"
            microphone.failure = None
            assert (await next_of(listening, InputLost)).detail == ""
            assert service.trouble == ""

    run(task)


def test_a_microphone_that_goes_away_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphones, "Patience", lambda: Patience(0.05))
    microphone = FakeMicrophone()

    async def task() -> None:
        async with fake(tmp_path, FakeTranscriber(), microphone) as (service, _client, listening):
            begin_ns = time.monotonic_ns()
            for number in range(10):
                microphone.push(Frame(begin_ns + number * FRAME_NS, LOUD))
            await next_of(listening, SpeechStarted)
            microphone.failure = EngineError(Code.DEVICE_MISSING, "no microphone: plug one in")
            microphone.lose()
            assert "went away" in (await next_of(listening, InputLost)).detail
            assert (await next_of(listening, TurnFinal)).text, "what was said before is not lost"
            for _ in range(2):  # opened once, and tried in vain once
                await asyncio.to_thread(microphone.tried.acquire)
            microphone.failure = None
            assert (await next_of(listening, InputLost)).detail == ""
            assert service.trouble == ""

    run(task)


# --- readiness ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transcriber", "code", "reason"),
    [
        (FakeTranscriber("he is a cat"), Code.MODEL_DAMAGED, "'he is a cat' in a clip that says something else"),
        (FakeTranscriber(failure=EngineError(Code.ENGINE_FAILED, "no sums")), Code.ENGINE_FAILED, "no sums"),
    ],
)
def test_it_is_not_ready_with_a_wrong_answer(
    tmp_path: Path, transcriber: FakeTranscriber, code: Code, reason: str
) -> None:
    async def task() -> None:
        with pytest.raises(EngineError, match=reason) as caught:
            async with fake(tmp_path, transcriber):
                pass
        assert caught.value.code is code

    run(task)


def test_it_is_not_ready_when_it_hears_words_in_silence() -> None:
    class Babbler(FakeTranscriber):
        def transcribe(self, pcm: bytes, draft: bool = False, superseded: Superseded = never) -> Transcript:
            return super().transcribe(b"any sound", draft, superseded)

    with pytest.raises(EngineError, match="in silence"):
        stt_service.check(Babbler(), "en")


def test_a_missing_model_is_named() -> None:
    service = SttService(config.Config(stt=config.Stt(input="none", model="small.en")))
    with pytest.raises(EngineError) as caught:
        run(service.load)
    assert caught.value.code is Code.MODEL_MISSING
    assert "timmy models pull small.en" in str(caught.value)
