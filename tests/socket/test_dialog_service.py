"""dialog among four daemons that do as they are told, on the in-process twin of the wire: what it drives, what it
serves, and what it makes of their faults."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from daemons.config import Config
from daemons.dialog.core import APOLOGY, APOLOGY_BROKEN_OFF, APOLOGY_NOT_HEARD, REST_MS, REST_ON_MS
from daemons.dialog.effects import Store
from daemons.dialog.service import DialogService
from ipc import messages as m
from ipc.call import Call, Handler
from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError, Code
from ipc.ids import new_rid
from ipc.inproc import InprocClient, InprocHub
from ipc.server import Server

TURN = new_rid()
B = TypeVar("B", bound=m.Body)


def report(daemon: str, state: str = "ready") -> m.StatusReport:
    return m.StatusReport(
        daemon=daemon, state=state, detail="", engine="", model="", device="", pid=1, uptime_s=0.0,
        rss_bytes=0, requests_open=0, last_error="",
    )  # fmt: skip


class Others:
    """The four daemons dialog drives. What they were asked is in `asked`; `answer` is what the model says."""

    def __init__(self) -> None:
        self.asked: list[m.Body] = []
        self.answer: list[str] = ["Under the ", "flower pot. "]
        self.model_error: CallError | None = None
        self.memory_error: CallError | None = None
        self.voice_error: CallError | None = None
        self.model_hangs = False
        self.model_awaits_rests = 0
        self.voice_hangs = False
        self.may_fall_silent = _set()
        self.may_remember = _set()
        self.offered = 0
        self.given_up = 0
        self.listened = 0
        self.refused: list[m.Body] = []
        self.events: asyncio.Queue[m.Down] = asyncio.Queue()
        self.hubs = {name: InprocHub() for name in ("stt", "memory", "llm", "tts")}
        self.servers: dict[str, Server] = {}
        self._handlers: dict[str, dict[type[m.Body], Handler]] = {
            "stt": {m.Listen: self._listen, m.Mute: self._note(m.Done())},
            "memory": {m.Recall: self._recall, m.Remember: self._remember},
            "llm": {m.Generate: self._generate},
            "tts": {m.Speak: self._speak},
        }

    def start(self, name: str) -> None:
        self.servers[name] = Server(name, self.hubs[name], self._handlers[name], lambda: report(name))
        self.servers[name].start()

    async def stop(self, name: str) -> None:
        await self.servers.pop(name).close()

    def connect(self, name: str) -> Client:
        return Client(name, "dialog", transport=InprocClient(self.hubs[name]))

    def of(self, kind: type[B]) -> list[B]:
        return [body for body in self.asked if isinstance(body, kind)]

    def _note(self, result: m.Result) -> Handler:
        def handle(call: Call) -> m.Result:
            self.asked.append(call.body)
            return result

        return handle

    async def _listen(self, call: Call) -> m.Result:
        self.listened += 1
        while True:
            await call.send(await self.events.get())

    async def _recall(self, call: Call) -> m.Result:
        self.asked.append(call.body)
        if self.memory_error:
            raise self.memory_error
        note = m.Memory(id=1, text="the key is under the flower pot", importance=4, created_s=1.0, score=0.9)
        return m.Recalled(memories=[note], received_ns=call.received_ns, finished_ns=time.monotonic_ns())

    async def _remember(self, call: Call) -> m.Result:
        if self.memory_error:
            self.refused.append(call.body)
            raise self.memory_error
        self.offered += 1
        try:
            await self.may_remember.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        self.asked.append(call.body)
        return m.Remembered(kept=True, id=1, importance=4, text="")

    async def _generate(self, call: Call) -> m.Result:
        self.asked.append(call.body)
        if call.body.max_tokens:
            for text in self.answer:
                await call.send(m.Token(text=text, t_ns=time.monotonic_ns()))
            if self.model_error:
                raise self.model_error
            if self.model_hangs:
                await asyncio.Event().wait()
            for _ in range(self.model_awaits_rests):
                self.asked.append((await anext(aiter(call)))[0])
        return m.Generated(
            prompt_tokens=9, cached_tokens=8, completion_tokens=len(self.answer), finish="stop",
            received_ns=call.received_ns, first_token_ns=0,
        )  # fmt: skip

    async def _speak(self, call: Call) -> m.Result:
        self.asked.append(call.body)
        if self.voice_error:
            raise self.voice_error
        if self.voice_hangs:
            await asyncio.Event().wait()
        now = time.monotonic_ns()
        clauses = 0
        async for item, _ in call:
            self.asked.append(item)
            if not clauses:
                await call.send(m.ClauseReady(index=0, received_ns=now, started_ns=now, ready_ns=now))
                await call.send(m.PlaybackStarted(t_ns=time.monotonic_ns()))
            clauses += 1
        await self.may_fall_silent.wait()
        await call.send(m.PlaybackDrained(t_ns=time.monotonic_ns()))
        return m.Spoken(clauses=clauses, audio_ms=1)


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@asynccontextmanager
async def house(monkeypatch: pytest.MonkeyPatch, state: Path) -> AsyncIterator[tuple[Others, Client]]:
    monkeypatch.setenv("TIMMY_STATE", str(state))
    others = Others()
    for name in others.hubs:
        others.start(name)
    service = DialogService(Config(), others.connect)
    hub = InprocHub()
    server = Server("dialog", hub, service.handlers(), lambda: report("dialog"))
    server.start()
    await service.load()
    try:
        async with Client("dialog", "test", transport=InprocClient(hub)) as client:
            await client.wait_connected()
            yield others, client
    finally:
        await service.close()
        await server.close()
        for name in list(others.servers):
            await others.stop(name)


Scene = Callable[[Others, Client], Awaitable[None]]
Run = Callable[[Scene], None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    def go(scene: Scene) -> None:
        async def play() -> None:
            async with house(monkeypatch, tmp_path) as (others, client):
                await scene(others, client)

        asyncio.run(play())

    return go


async def ask(client: Client, text: str = "Where is the key?", speak: bool = False) -> m.Answered:
    answer = await client.request(m.Ask(conversation="home", text=text, speak=speak), ttl_ms=30_000)
    assert isinstance(answer, m.Answered)
    return answer


async def speaks(others: Others, client: Client, conversation: str) -> None:
    """Somebody begins to speak there, and dialog knows it."""
    told = client.open(m.Follow(conversation=conversation))
    others.events.put_nowait(m.SpeechStarted(conversation=conversation, turn=TURN, t_ns=1))
    others.events.put_nowait(m.Partial(conversation=conversation, turn=TURN, revision=1, text="And"))
    async for item, _ in told:
        if isinstance(item, m.TurnHeard):
            return


def _waiting(state: Path) -> list[str]:
    """What the journal holds."""
    path = state / "dialog" / "to-remember.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Store).heard for line in lines]


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for knows of no event
        await asyncio.sleep(0.005)


async def next_report(stream: Stream) -> m.TurnReport:
    async for item, _ in stream:
        if isinstance(item, m.TurnReport):
            return item
    raise AssertionError("the stream ended")


def final(turn: bytes = TURN, revision: int = 1, text: str = "Where is the key?") -> m.TurnFinal:
    now = time.monotonic_ns()
    return m.TurnFinal(
        conversation="home", turn=turn, revision=revision, text=text, last_voiced_ns=now - 500_000_000,
        endpoint_ns=now, transcript_ns=now, sent_ns=now,
    )  # fmt: skip


def test_a_typed_question_is_answered_from_memory_and_offered_to_it(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        answer = await ask(client)
        assert (answer.said, answer.memories, answer.cached_tokens) == ("Under the flower pot.", 1, 8)
        prompt = next(body for body in others.of(m.Generate) if body.max_tokens)
        assert "flower pot" in prompt.messages[-1].content
        await until(lambda: others.of(m.Remember))
        assert others.of(m.Remember) == [m.Remember(heard="Where is the key?")]
        assert not others.of(m.Speak)

    run(scene)


def test_the_model_rests_while_the_first_clause_is_made_and_goes_on_when_it_is(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.answer = ["Under the pot. ", "There"]
        others.model_awaits_rests = 2
        assert (await ask(client, speak=True)).said == "Under the pot. There"
        assert others.of(m.Rest) == [m.Rest(ms=REST_MS), m.Rest(ms=REST_ON_MS)]

    run(scene)


def test_a_model_that_does_not_know_how_to_rest_is_not_told_to(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipc.server.FEATURES", ["credit", "epoch", "payload"])

    async def scene(others: Others, client: Client) -> None:
        others.answer = ["Under the pot. ", "There"]
        others.model_awaits_rests = 1
        waiting = asyncio.create_task(ask(client, speak=True))
        await until(lambda: others.of(m.Clause))
        await asyncio.sleep(0.1)
        assert not others.of(m.Rest)
        waiting.cancel()

    run(scene)


def test_the_answer_streams_clause_by_clause(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.answer = ["One. ", "Two. "]
        stream = client.open(m.Ask(conversation="home", text="Count."))
        assert [item async for item, _ in stream] == [m.Delta(text="One."), m.Delta(text=" Two.")]
        assert isinstance(await stream.result(), m.Answered)

    run(scene)


def test_a_spoken_turn_mutes_the_microphone_while_it_sounds(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        follow = client.open(m.Follow(conversation="home"))
        others.events.put_nowait(m.SpeechStarted(conversation="home", turn=TURN, t_ns=1))
        others.events.put_nowait(final())
        told = await next_report(follow)
        assert (told.outcome, told.turn) == ("answered", TURN)
        assert told.stages is not None
        await until(lambda: len(others.of(m.Mute)) == 2)
        leases = [body.lease_ms for body in others.of(m.Mute)]
        assert leases[0] > 0
        assert leases[1] == 0

    run(scene)


def test_speech_that_goes_on_revokes_and_the_next_revision_is_answered(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.model_hangs = True
        others.answer = []
        follow = client.open(m.Follow(conversation="home"))
        others.events.put_nowait(m.SpeechStarted(conversation="home", turn=TURN, t_ns=1))
        others.events.put_nowait(final())
        await until(lambda: any(b.max_tokens for b in others.of(m.Generate)))
        others.model_hangs = False
        others.answer = ["Both. "]
        others.events.put_nowait(m.TurnResumed(conversation="home", turn=TURN, revision=1, t_ns=time.monotonic_ns()))
        others.events.put_nowait(final(revision=2, text="Where is the key and the bike?"))
        told = await next_report(follow)
        assert (told.heard, told.said) == ("Where is the key and the bike?", "Both.")
        await until(lambda: others.of(m.Remember))
        assert others.of(m.Remember) == [m.Remember(heard="Where is the key and the bike?")]

    run(scene)


@pytest.mark.parametrize("answer", [[], [" \n"], ["🎉🎉"], ["\x07\x1b"]])
def test_a_model_without_words_fails_in_words(run: Run, answer: list[str]) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.answer = answer
        with pytest.raises(CallError, match="no words"):
            await ask(client)

    run(scene)


def test_a_question_without_words_is_refused(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        with pytest.raises(CallError, match="there is no question in it") as caught:
            await ask(client, " \n")
        assert caught.value.code is Code.BAD_REQUEST
        assert (await ask(client)).said == "Under the flower pot."

    run(scene)


def test_a_model_that_gives_8000_letters_without_a_space(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.answer = ["a" * 10] * 819
        assert (await ask(client)).said == "a" * 8190
        assert others.of(m.Speak) == []

    run(scene)


def test_a_model_that_breaks_off_says_so_aloud(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.model_error = CallError(Code.UPSTREAM_FAILED, "Ollama stopped in the middle")
        follow = client.open(m.Follow(conversation="home"))
        others.events.put_nowait(final())
        told = await next_report(follow)
        assert (told.outcome, told.detail) == ("failed", "Ollama stopped in the middle")
        assert told.said == f"Under the flower pot. {APOLOGY_BROKEN_OFF}"
        assert others.of(m.Clause)[-1] == m.Clause(text=APOLOGY_BROKEN_OFF)

    run(scene)


def test_a_model_that_fails_at_once_is_apologised_for_and_the_next_turn_works(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.answer, others.model_error = [], CallError(Code.UPSTREAM_DOWN, "no Ollama")
        follow = client.open(m.Follow(conversation="home"))
        others.events.put_nowait(final())
        assert (await next_report(follow)).said == APOLOGY
        others.answer, others.model_error = ["Here. "], None
        assert (await ask(client)).said == "Here."

    run(scene)


def test_without_memory_the_answer_comes_and_the_words_are_offered_later(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.memory_error = CallError(Code.STORE_LOCKED, "the memories are locked")
        answer = await ask(client)
        assert (answer.said, answer.memories) == ("Under the flower pot.", 0)
        others.memory_error = None
        await until(lambda: others.of(m.Remember))

    run(scene)


def test_remembering_waits_while_somebody_speaks(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        await speaks(others, client, "kitchen")
        await ask(client)
        await asyncio.sleep(0.3)
        assert not others.of(m.Remember)
        others.events.put_nowait(m.TurnDropped(conversation="kitchen", turn=TURN, reason="no words"))
        await until(lambda: others.of(m.Remember))

    run(scene)


def test_what_was_heard_is_on_disk_while_its_answer_sounds_and_offered_when_it_is_over(
    run: Run, tmp_path: Path
) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.may_fall_silent.clear()
        asking = asyncio.create_task(ask(client, speak=True))
        await until(lambda: _waiting(tmp_path) == ["Where is the key?"])
        assert not asking.done()
        assert not others.offered
        others.may_fall_silent.set()
        await asking
        await until(lambda: _waiting(tmp_path) == [])
        assert others.of(m.Remember) == [m.Remember(heard="Where is the key?")]

    run(scene)


def test_an_answer_that_was_revoked_when_it_sounded_leaves_nothing_to_remember(run: Run, tmp_path: Path) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.may_fall_silent.clear()
        began_ns = time.monotonic_ns()
        others.events.put_nowait(final())
        await until(lambda: _waiting(tmp_path) == ["Where is the key?"])
        others.events.put_nowait(m.TurnResumed(conversation="home", turn=TURN, revision=1, t_ns=began_ns))
        await until(lambda: _waiting(tmp_path) == [])
        others.may_fall_silent.set()
        others.events.put_nowait(final(revision=2, text="Where is the key and the bike?"))
        await until(lambda: others.of(m.Remember))
        assert others.of(m.Remember) == [m.Remember(heard="Where is the key and the bike?")]

    run(scene)


def test_nothing_is_offered_before_it_is_on_disk(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(others: Others, client: Client) -> None:
        begun, may_write, sync = threading.Event(), threading.Event(), os.fdatasync
        offered: list[int] = []

        def slow(descriptor: int) -> None:
            begun.set()
            assert may_write.wait(30)
            sync(descriptor)
            offered.append(others.offered)

        monkeypatch.setattr(os, "fdatasync", slow)
        await ask(client)
        await asyncio.to_thread(begun.wait)
        await client.request(m.Say(conversation="home", text="Nothing is held up."))
        assert not others.offered
        may_write.set()
        await until(lambda: others.of(m.Remember))
        assert offered[0] == 0

    run(scene)


def test_remembering_gives_way_to_speech_and_is_done_after_it(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.may_remember.clear()
        await ask(client)
        await until(lambda: others.offered)
        others.events.put_nowait(m.SpeechStarted(conversation="kitchen", turn=TURN, t_ns=1))
        await until(lambda: others.given_up)
        assert _waiting(tmp_path) == ["Where is the key?"]
        assert "not remembered yet" not in caplog.text, "it was given up because it took too long"
        others.may_remember.set()
        others.events.put_nowait(m.TurnDropped(conversation="kitchen", turn=TURN, reason="no words"))
        await until(lambda: _waiting(tmp_path) == [])
        assert others.of(m.Remember) == [m.Remember(heard="Where is the key?")]
        assert (others.offered, others.given_up) == (2, 1)

    run(scene)


def test_an_answer_that_sounds_is_rest_unless_somebody_speaks_elsewhere(run: Run, tmp_path: Path) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.memory_error = CallError(Code.STORE_LOCKED, "the memories are locked")
        await ask(client, "First?")
        await until(lambda: others.refused)
        others.may_fall_silent.clear()
        asking = asyncio.create_task(ask(client, "Second?", speak=True))
        await until(lambda: _waiting(tmp_path) == ["First?", "Second?"])
        await speaks(others, client, "kitchen")
        others.memory_error = None
        await asyncio.sleep(0.3)
        assert not others.offered
        others.events.put_nowait(m.TurnDropped(conversation="kitchen", turn=TURN, reason="no words"))
        await until(lambda: _waiting(tmp_path) == ["Second?"])
        assert not asking.done(), "the first is remembered while the answer to the second sounds"
        others.may_fall_silent.set()
        await asking
        await until(lambda: _waiting(tmp_path) == [])

    run(scene)


def test_words_that_the_memory_refuses_hold_up_no_others(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.memory_error = CallError(Code.BAD_REQUEST, "these words cannot be stored")
        await ask(client, "First?")
        await until(lambda: others.refused)
        others.memory_error = None
        await ask(client, "Second?")
        await until(lambda: others.of(m.Remember))
        assert others.of(m.Remember) == [m.Remember(heard="Second?")]

    run(scene)


def test_who_asks_again_under_the_same_id_gets_the_answer(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.voice_hangs = True
        first = client.open(m.Say(conversation="home", text="Dinner is ready."), rid=TURN)
        await until(lambda: others.of(m.Speak))
        others.voice_hangs = False
        await client.request(m.Say(conversation="home", text="Dinner is cold."), rid=TURN)
        with pytest.raises(CallCancelled):
            await first.result()
        assert others.of(m.Clause) == [m.Clause(text="Dinner is cold.")]

    run(scene)


def test_a_lost_voice_ends_the_turn_in_print(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.voice_error = CallError(Code.DEVICE_LOST, "the speaker went away")
        follow = client.open(m.Follow(conversation="home"))
        others.events.put_nowait(final())
        told = await next_report(follow)
        assert (told.outcome, told.detail, told.first_audio_ms) == ("failed", "the speaker went away", None)
        assert told.said

    run(scene)


def test_half_a_turn_lost_with_stt_is_apologised_for_and_the_new_stt_is_heard(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        follow = client.open(m.Follow(conversation="home"))
        others.events.put_nowait(m.SpeechStarted(conversation="home", turn=TURN, t_ns=1))
        await until(lambda: others.events.empty())
        await others.stop("stt")
        assert (await next_report(follow)).said == APOLOGY_NOT_HEARD
        others.start("stt")
        others.events.put_nowait(final(new_rid()))
        assert (await next_report(follow)).outcome == "answered"

    run(scene)


def test_one_turn_at_a_time(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        others.model_hangs = True
        first = client.open(m.Ask(conversation="home", text="First?"))
        await anext(first)
        with pytest.raises(CallError) as failure:
            await ask(client)
        assert failure.value.code is Code.BUSY
        first.cancel()
        with pytest.raises(CallCancelled):
            await first.result()
        others.model_hangs = False
        assert (await ask(client)).said

    run(scene)


def test_an_announcement_is_spoken_and_not_remembered(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        await client.request(m.Say(conversation="home", text="Dinner is ready."))
        assert others.of(m.Clause) == [m.Clause(text="Dinner is ready.")]
        assert not others.of(m.Remember)
        with pytest.raises(CallError, match="nothing to say"):
            await client.request(m.Say(conversation="home", text="🎉"))

    run(scene)


def test_what_a_person_should_know_is_told(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        follow = client.open(m.Follow(conversation="home"))
        others.events.put_nowait(m.Muted(conversation="home", dropped_ms=1500))
        others.events.put_nowait(m.InputLost(conversation="home", detail="unplugged"))
        others.events.put_nowait(m.InputLost(conversation="home", detail=""))
        texts = [(await anext(follow))[0] for _ in range(3)]
        assert [item.text[:20] for item in texts if isinstance(item, m.Notice)] == [
            "1.5 s of speech was ",
            "the microphone is go",
            "the microphone is ba",
        ]

    run(scene)


def test_a_model_that_has_just_started_reads_the_start_of_the_prompt(run: Run) -> None:
    async def scene(others: Others, client: Client) -> None:
        await until(lambda: others.of(m.Generate))
        first = others.of(m.Generate)[0]
        assert first.max_tokens == 0
        assert first.messages[0].role == "system"

    run(scene)


def test_a_fault_of_its_own_does_not_leave_it_deaf(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> None:
        raise ValueError("a fault")

    async def scene(others: Others, client: Client) -> None:
        follow = client.open(m.Follow(conversation="home"))
        with monkeypatch.context() as patch:
            patch.setattr("daemons.dialog.service.AGAIN_S", 0.0)
            patch.setattr("daemons.dialog.core.Conversation.partial", fault)
            others.events.put_nowait(m.Partial(conversation="home", turn=TURN, revision=0, text="Where"))
            await until(lambda: others.listened == 2)
        others.events.put_nowait(final())
        assert (await next_report(follow)).outcome == "answered"

    run(scene)
