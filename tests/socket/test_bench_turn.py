"""The old architecture as it is measured: real services, engines and sockets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from daemons import config
from daemons.engines.fakes_stt import FakeTranscriber
from daemons.engines.webrtc import WebRtcDetector
from daemons.stt.service import SttService
from ipc.audio import paced, read_wav, silence
from ipc.messages import Audio, Feed, Listen, TurnFinal
from tests.support.serving import serving
from tests.support.suite import EXAMPLES, house
from tools.bench import questions, stages, turn
from tools.bench.old import END_SILENCE_MS, MEMORIES, PAUSE_WAIT_MS, web
from tools.bench.old.house import OldHouse
from tools.bench.old.replies import Done, Listened
from tools.bench.old.stt_service import Endpointer
from tools.bench.soundcard import SoundCard
from tools.cli import cli

CAPITAL = EXAMPLES / "2-capital.wav"
PLUMBER = EXAMPLES / "3-plumber.wav"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with house(tmp_path_factory.mktemp("state"), {"TIMMY_DIALOG_PERSONA": "You are {name}. Answer in one sentence."}):
        yield


@contextmanager
def started(pooled: bool) -> Iterator[OldHouse]:
    with closing(OldHouse("old", pooled)) as services:
        services.start()
        yield services


# --- connections, with nothing behind them ---


@contextmanager
def _counting(answer: Callable[[web.Request], Done]) -> Iterator[tuple[str, list[object]]]:
    """A service's server, and the connections that it gets."""
    connections: list[object] = []
    server = web.serving(socket.create_server(("127.0.0.1", 0)), {"/it": answer})
    accept = server.process_request

    def counted(request: socket.socket, address: tuple[str, int]) -> None:
        connections.append(address)
        accept(request, address)

    server.process_request = counted  # type: ignore[method-assign, assignment]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", connections
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("pooled", "connections"), [(True, 1), (False, 3)])
def test_a_pool_keeps_its_connection_and_the_other_way_makes_one_a_request(pooled: bool, connections: int) -> None:
    rids = []

    def answer(request: web.Request) -> Done:
        rids.append(request.rid)
        return Done()

    with _counting(answer) as (url, made), closing(web.Caller(pooled)) as caller:
        for rid in ("a", "b", "c"):
            assert caller.post(f"{url}/it", rid, b"", Done) == Done()
    assert len(made) == connections
    assert rids == ["a", "b", "c"]


def test_a_failure_and_an_unknown_path_are_told_in_one_line() -> None:
    def fail(request: web.Request) -> Done:
        raise RuntimeError("the kettle is empty")

    with _counting(fail) as (url, _), closing(web.Caller(True)) as caller:
        with pytest.raises(web.ServiceError, match="the kettle is empty"):
            caller.post(f"{url}/it", "a", b"", Done)
        with pytest.raises(web.ServiceError, match="/nothing"):
            caller.post(f"{url}/nothing", "a", b"", Done)


# --- the services ---


@pytest.mark.models
@pytest.mark.parametrize("pooled", [True, False])
def test_a_spoken_question_goes_through_all_three_services(folders: None, pooled: bool) -> None:
    with started(pooled) as services:
        for number, text in enumerate(questions.memories()[:30]):
            services.remember(str(number), text)
        silent = services.listen("s", silence(1000))
        _check_turn(services.listen("a", silence(300) + read_wav(PLUMBER)))
        other = services.listen("b", silence(300) + read_wav(CAPITAL))
    assert (silent.heard, silent.processed) == ("", None)
    assert other.processed is not None
    assert other.processed.cached_tokens < other.processed.prompt_tokens / 4, "the head of the prompt has changed"


def _check_turn(reply: Listened) -> None:
    processed = reply.processed
    assert processed is not None
    assert "plumber" in reply.heard
    assert len(processed.memories) == MEMORIES
    assert processed.memories[0].startswith("the plumber comes")
    rows, spoken = stages.of_old(reply), processed.spoken
    assert rows is not None
    assert spoken is not None
    assert sum(rows.values()) == pytest.approx((spoken.first_sample_ns - reply.last_voiced_ns) / 1e6)
    assert all(ms >= 0 for ms in rows.values())
    assert rows["endpoint"] >= END_SILENCE_MS
    assert rows["audio_setup"] >= PAUSE_WAIT_MS
    moments = [reply.endpoint_ns, reply.transcribed_ns, reply.sent_ns, processed.received_ns, processed.classified_ns]
    moments += [processed.stored_ns, processed.recalled_ns, processed.answered_ns, processed.sent_ns]
    moments += [spoken.received_ns, spoken.paused_ns, spoken.waited_ns, spoken.synthesized_ns, spoken.opened_ns]
    assert moments == sorted(moments)


@pytest.mark.models
@pytest.mark.parametrize("name", ["stt", "tts"])
def test_a_service_that_dies_in_a_turn_is_named_in_one_line(folders: None, name: str) -> None:
    with started(True) as services:
        killer = threading.Timer(0.5, services.processes[name].kill)  # the question is still being spoken
        killer.start()
        with pytest.raises(web.ServiceError) as caught:
            services.listen("a", silence(300) + read_wav(PLUMBER))
        killer.join()
    assert str(caught.value) == f"old: the {name} service ended with status -9"


@pytest.mark.models
@pytest.mark.sound
def test_where_there_is_a_speaker_it_is_opened_for_the_answer(folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with SoundCard() as card:
        for name, value in card.variables.items():
            monkeypatch.setenv(name, value)
        with started(True) as services:
            reply = services.listen("a", silence(300) + read_wav(CAPITAL))
    assert services.engines[-1] == "output: default"
    assert reply.processed is not None
    assert reply.processed.spoken is not None
    assert reply.processed.spoken.opened_ns > reply.processed.spoken.synthesized_ns


@pytest.mark.models
def test_what_a_service_needs_to_start_is_told_in_its_own_words(folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMMY_TTS_VOICE", "nobody")
    with closing(OldHouse("old", True)) as services, pytest.raises(web.ServiceError) as caught:
        services.start()
    assert re.fullmatch(r"old: the tts service ended with status 1: model 'nobody' is not here: .*", str(caught.value))
    assert all(process.poll() is not None for process in services.processes.values())


# --- beside the daemons ---


@pytest.mark.parametrize("recording", sorted(EXAMPLES.glob("*.wav")), ids=lambda path: path.stem)
def test_both_clocks_start_at_the_same_sample(recording: Path, tmp_path: Path) -> None:
    pcm = silence(300) + read_wav(recording) + silence(1500)
    ear, detector = Endpointer(), WebRtcDetector(config.Stt().vad_aggressiveness)
    over = (ear.over(detector.is_speech(frame.pcm), frame.t_ns, frame.pcm) for frame in paced(pcm, 0))
    assert any(over)
    assert asyncio.run(_last_voiced_ns(pcm, tmp_path)) == ear.last_voiced_ns


async def _last_voiced_ns(pcm: bytes, folder: Path) -> int:
    """After the beginning of `pcm`, as the hearing daemon tells it."""
    service = SttService(config.Config(stt=config.Stt(input="none")), lambda: FakeTranscriber())
    async with serving("stt", service, folder) as client:
        heard, stream = client.open(Listen()), client.open(Feed(conversation="wav"))
        start_ns = time.monotonic_ns()
        for frame in paced(pcm, start_ns):
            await asyncio.sleep((frame.due_ns - time.monotonic_ns()) / 1e9)
            await stream.send(Audio(t_ns=frame.t_ns), frame.pcm)
        async for item, _ in heard:
            if isinstance(item, TurnFinal):
                return item.last_voiced_ns - start_ns
    raise AssertionError("no final came")


@pytest.mark.models
def test_all_stacks_are_asked_and_compared(folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    one = [question for question in questions.questions() if question.recording == PLUMBER.name]
    monkeypatch.setattr(turn, "questions", lambda: one)
    monkeypatch.setattr(turn, "memories", lambda: questions.memories()[:40])
    result = CliRunner().invoke(cli, ["bench", "turn", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert set(figures["stacks"]) == {"timmy", "http-pooled", "http-new"}
    for row in figures["stacks"].values():
        assert set(row["stages_ms"]) == set(stages.TITLES)
        total = row["speech_end_to_first_audio_ms"]
        assert total["p50"] == total["p90"] == pytest.approx(sum(stage["mean"] for stage in row["stages_ms"].values()))
        assert row["right_memory_in_prompt"]["turns"] == row["right_memory_in_prompt"]["of"] == row["answered"] == 1
    ours, pooled, new = (set(figures["stacks"][name]["engines"]) for name in ("timmy", "http-pooled", "http-new"))
    assert pooled == new
    assert ours <= pooled, "the same engines"
    for name in ("http-pooled", "http-new"):
        row, medians = figures["ratios"][f"{name}/timmy"], figures["stacks"]
        theirs, our = (medians[stack]["speech_end_to_first_audio_ms"]["p50"] for stack in (name, "timmy"))
        assert row["low"] <= row["ratio"] == theirs / our <= row["high"]


@pytest.mark.models
def test_alone_the_daemons_are_reported_as_ever(folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    one = [question for question in questions.questions() if question.recording == PLUMBER.name]
    monkeypatch.setattr(turn, "questions", lambda: one)
    monkeypatch.setattr(turn, "memories", lambda: questions.memories()[:5])
    result = CliRunner().invoke(cli, ["bench", "turn", "--stack", "timmy"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    own = ["endpoint", "stt", "recall", "llm_first_token", "llm_first_clause", "tts_first_audio", "ipc", "unaccounted"]
    at = lines.index("1 turns, 1 answered")
    assert [line.split()[0] for line in lines[:at]] == ["ms", "speech", *own]
    waits = ["after the end of the turn", "the words came after"]
    insights = [*waits, "the first turn took", "the whole unchanging start"]
    for line, beginning in zip(lines[at + 1 :], insights, strict=True):
        assert line.startswith(beginning)
