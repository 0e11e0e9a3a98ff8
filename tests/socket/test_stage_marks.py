"""What each daemon marks of a request, with engines and peers that do as they are told. The whole: test_trace.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from daemons.config import Config, Dialog, Stt, Tts
from daemons.dialog.service import DialogService
from daemons.engines.fakes_llm import FakeModel
from daemons.engines.fakes_memory import FakeClassifier, FakeEmbedder
from daemons.engines.fakes_stt import FakeDetector, FakeTranscriber
from daemons.engines.fakes_tts import FakeSynthesizer
from daemons.llm.service import LlmService
from daemons.memory.service import MemoryService
from daemons.stt.service import SttService
from daemons.tts.service import TtsService
from ipc import messages as m
from ipc.audio import FRAME_BYTES, paced, silence
from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError, Code
from ipc.ids import new_rid
from ipc.marks import Mark, Note, Stage
from tests.socket.test_dialog_service import Others
from tests.support.eventually import eventually
from tests.support.recorder import Recorder
from tests.support.serving import serving

RID = new_rid()
LOUD = b"\1\1" * (FRAME_BYTES // 2)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMMY_STATE", str(tmp_path / "state"))


@pytest.fixture
def marks() -> Recorder:
    return Recorder()


def run(task: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await task()

    asyncio.run(bounded())


# --- stt ---------------------------------------------------------------------------------------------------


async def say(microphone: Stream, pcm: bytes) -> None:
    for frame in paced(pcm, time.monotonic_ns()):
        await asyncio.sleep((frame.due_ns - time.monotonic_ns()) / 1e9)
        await microphone.send(m.Audio(t_ns=frame.t_ns), frame.pcm)


UNTOLD_NS = -1
"""A time that no event tells."""


def of_event(event: m.Body) -> list[Mark]:
    """What stt marks when it tells this."""
    match event:
        case m.TurnCandidate(turn=turn, revision=revision):
            return [
                Mark(turn, Stage.LAST_VOICED, event.last_voiced_ns, revision),
                Mark(turn, Stage.ENDPOINT_CANDIDATE, event.endpoint_ns, revision),
                Mark(turn, Stage.TRANSCRIPT, event.transcript_ns, revision),
                Mark(turn, Stage.TEXT_SENT, UNTOLD_NS, revision),
            ]
        case m.SpeechStarted():
            return [Mark(event.turn, Stage.SPEECH_STARTED, event.t_ns, 0)]
        case m.TurnFinal():
            return [
                Mark(event.turn, Stage.ENDPOINT_CONFIRMED, event.endpoint_ns, event.revision),
                Mark(event.turn, Stage.TEXT_SENT, event.sent_ns, event.revision),
            ]
        case m.TurnResumed():
            return [Mark(event.turn, Stage.RESUMED, event.t_ns, event.revision)]
    return []


def test_stt_marks_what_it_tells_of_a_turn(tmp_path: Path, marks: Recorder) -> None:
    service = SttService(Config(stt=Stt(input="none")), FakeTranscriber, FakeDetector, marks=marks)

    async def task() -> None:
        async with serving("stt", service, tmp_path) as client:
            events, microphone = client.open(m.Listen()), client.open(m.Feed(conversation="wav"))
            told: list[m.Body] = []
            await say(microphone, LOUD * 10 + silence(300))
            await until_told(events, m.TurnCandidate, told)
            await say(microphone, LOUD * 10 + silence(600))
            await until_told(events, m.TurnFinal, told)
            while told[-1].revision == 1:  # type: ignore[attr-defined]  # the first silence was confirmed, too
                await until_told(events, m.TurnFinal, told)
            assert [event.revision for event in told if isinstance(event, m.TurnResumed)] == [1]
            expected = [mark for event in told for mark in of_event(event)]
            assert len(marks.marks) == len(expected)
            for mark, wanted in zip(marks.marks, expected, strict=True):
                assert mark == (wanted._replace(t_ns=mark.t_ns) if wanted.t_ns == UNTOLD_NS else wanted)

    run(task)


async def until_told(events: Stream, kind: type[m.Body], told: list[m.Body]) -> None:
    async for event, _ in events:
        told.append(event)
        if isinstance(event, kind):
            return


def test_stt_marks_a_mute_under_the_turn_that_asks_for_it(tmp_path: Path, marks: Recorder) -> None:
    service = SttService(Config(stt=Stt(input="none")), FakeTranscriber, FakeDetector, marks=marks)

    async def task() -> None:
        async with serving("stt", service, tmp_path) as client:
            client.open(m.Feed(conversation="wav"))
            await client.request(m.Ping())  # the feed has arrived
            now_ns = time.monotonic_ns()
            await client.request(m.Mute(conversation="wav", from_ns=now_ns, lease_ms=3000), rid=RID)
            await client.request(m.Mute(conversation="wav", from_ns=now_ns + 7, lease_ms=0), rid=RID)
            await client.request(m.Mute(conversation="nobody", from_ns=now_ns, lease_ms=3000), rid=RID)
            assert marks.marks == [Mark(RID, Stage.MUTED, now_ns, 3000), Mark(RID, Stage.MUTED, now_ns + 7, 0)]

    run(task)


# --- dialog ------------------------------------------------------------------------------------------------


def dialog(
    marks: Recorder,
    folder: Path,
    others: Others,
    scene: Callable[[Client], Awaitable[None]],
    config: Config | None = None,
) -> None:
    async def task() -> None:
        for name in others.hubs:
            others.start(name)
        async with serving("dialog", DialogService(config or Config(), others.connect, marks=marks), folder) as client:
            await scene(client)
        for name in list(others.servers):
            await others.stop(name)

    run(task)


@pytest.mark.parametrize("speak", [True, False])
@pytest.mark.parametrize("memory_fails", [True, False])
def test_dialog_marks_an_answered_turn(tmp_path: Path, marks: Recorder, speak: bool, memory_fails: bool) -> None:
    others = Others()
    others.memory_error = CallError(Code.STORE_LOCKED, "the store is locked") if memory_fails else None

    async def scene(client: Client) -> None:
        question = m.Ask(conversation="home", text="Where is the key?", speak=speak)
        await client.request(question, rid=RID, ttl_ms=30_000)
        prompt = next(body.messages for body in others.of(m.Generate) if body.max_tokens)
        told = dict(marks.told(RID))
        assert told[Stage.STABLE_TOKENS] in (0, 9), "as much as the model has read by then"
        expected = [
            (Stage.HEARD, 4),
            (Stage.RECALL_START, 0),
            (Stage.RECALL_END, 0 if memory_fails else 1),
            (Stage.PROMPT_BUILT, len(prompt)),
            (Stage.STABLE_TOKENS, told.get(Stage.STABLE_TOKENS)),
            (Stage.MODEL_SENT, 0),
            (Stage.TOKEN_RECEIVED, 0),
        ]
        assert marks.told(RID) == [*expected, *[(Stage.FIRST_CLAUSE, 0)] * speak, (Stage.ENDED, 0)]
        assert marks.notes == [Note(RID, "conversation", "home")], "what was heard is kept only when asked for"

    dialog(marks, tmp_path, others, scene)


def test_dialog_keeps_what_was_heard_when_asked_to(tmp_path: Path, marks: Recorder) -> None:
    async def scene(client: Client) -> None:
        await client.request(m.Ask(conversation="home", text="Where is the key?"), rid=RID, ttl_ms=30_000)
        assert marks.notes == [Note(RID, "conversation", "home"), Note(RID, "heard", "Where is the key?")]

    dialog(marks, tmp_path, Others(), scene, Config(dialog=Dialog(trace_words=True)))


def test_dialog_marks_what_it_gives_up(tmp_path: Path, marks: Recorder) -> None:
    others = Others()
    others.model_hangs = True

    async def scene(client: Client) -> None:
        asking = client.open(m.Ask(conversation="home", text="Where is the key?"), rid=RID)
        await eventually(lambda: any(body.max_tokens for body in others.of(m.Generate)))
        asking.cancel()
        await eventually(lambda: len(marks.of(RID)) == 10)
        assert marks.told(RID)[6:] == [
            (Stage.TOKEN_RECEIVED, 0),
            (Stage.REVOKED, 0),
            (Stage.CANCELLED, 0),
            (Stage.ENDED, 3),
        ]

    dialog(marks, tmp_path, others, scene)


# --- llm ---------------------------------------------------------------------------------------------------


def test_llm_marks_its_first_token_and_what_it_read(tmp_path: Path, marks: Recorder) -> None:
    question = m.Generate(messages=[m.ChatMessage(role="user", content="What time is it?")], max_tokens=9)
    model = FakeModel("Paris it is.")

    async def task() -> None:
        async with serving("llm", LlmService(Config(), model, marks=marks), tmp_path) as client:
            answered, read, stopped = new_rid(), new_rid(), new_rid()
            result = await client.request(question, rid=answered)
            assert isinstance(result, m.Generated)
            first, prompt, cached = marks.of(answered)
            assert first == Mark(answered, Stage.FIRST_TOKEN, result.first_token_ns, 0)
            assert prompt == Mark(answered, Stage.PROMPT_TOKENS, first.t_ns, result.prompt_tokens)
            assert cached == Mark(answered, Stage.CACHED_TOKENS, first.t_ns, result.cached_tokens)

            await client.request(m.Generate(messages=question.messages, max_tokens=0), rid=read)
            assert marks.told(read) == [(Stage.PROMPT_TOKENS, 5), (Stage.CACHED_TOKENS, 4)]

            model.stall_after = 2
            stream = client.open(question, rid=stopped)
            await anext(aiter(stream))
            stream.cancel()
            with pytest.raises(CallCancelled):
                await stream.result()
            assert marks.told(stopped) == [(Stage.FIRST_TOKEN, 0)], "what an unfinished answer read is not known"

    run(task)


# --- memory ------------------------------------------------------------------------------------------------


def test_memory_marks_what_it_kept_and_what_was_not_worth_it(tmp_path: Path, marks: Recorder) -> None:
    service = MemoryService(Config(), FakeEmbedder, lambda _: FakeClassifier(3), marks=marks)

    async def task() -> None:
        async with serving("memory", service, tmp_path) as client:
            kept, passed = new_rid(), new_rid()
            result = await client.request(m.Remember(heard="The plumber comes on Tuesday at nine."), rid=kept)
            assert isinstance(result, m.Remembered)
            await client.request(m.Remember(heard="How are you?"), rid=passed)
            assert marks.told(kept) == [(Stage.MEMORY_STORED, result.id)]
            assert result.id > 0
            assert marks.told(passed) == [(Stage.MEMORY_STORED, 0)]

    run(task)


# --- tts ---------------------------------------------------------------------------------------------------


async def speak(client: Client, rid: bytes, *clauses: str) -> Stream:
    stream = client.open(m.Speak(conversation=m.HOME), rid=rid)
    for text in clauses:
        await stream.send(m.Clause(text=text))
    stream.end()
    return stream


def test_tts_marks_the_first_clause_and_the_playback(tmp_path: Path, marks: Recorder) -> None:
    voice = FakeSynthesizer()
    service = TtsService(Config(tts=Tts(output="none")), lambda: voice, marks=marks)

    async def task() -> None:
        async with serving("tts", service, tmp_path) as client:
            older, newer = new_rid(), new_rid()
            voice.go.clear()
            await speak(client, older, "Old.")
            await eventually(lambda: "Old." in voice.asked)
            stream = await speak(client, newer, "New.", "More.")
            await eventually(lambda: "New." in voice.asked)
            voice.go.set()
            items = [item async for item, _ in stream]
            ready = next(item for item in items if isinstance(item, m.ClauseReady))
            (started,) = [item for item in items if isinstance(item, m.PlaybackStarted)]
            (drained,) = [item for item in items if isinstance(item, m.PlaybackDrained)]
            assert marks.told(older) == [(Stage.SYNTHESIS_START, 0)]
            began, *others = marks.of(newer)
            assert began.stage is Stage.SYNTHESIS_START
            assert began.t_ns <= ready.ready_ns
            assert others == [
                Mark(newer, Stage.CLAUSE_RECEIVED, ready.received_ns, 0),
                Mark(newer, Stage.FIRST_AUDIO, ready.ready_ns, 0),
                Mark(newer, Stage.PLAYBACK_STARTED, started.t_ns, 0),
                Mark(newer, Stage.PLAYBACK_DRAINED, drained.t_ns, 0),
            ]

    run(task)
