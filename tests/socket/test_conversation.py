"""The whole suite with its real engines: the bundled conversation, restarts, and what is remembered."""

from __future__ import annotations

import asyncio
import json
import wave
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from ipc.audio import read_wav, silence
from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.messages import Answered, Ask, ListMemories, MemoryPage, Remember
from tests.support.speech import heard, share_heard, speak, words
from tests.support.suite import EXAMPLES, house, kill, running, until_back
from tools.bench.questions import memories
from tools.cli import cli
from tools.recorded import Talk, TurnResult, open_talk

pytestmark = pytest.mark.models

STAGES = {"endpoint", "stt", "recall", "llm_first_token", "llm_first_clause", "tts_first_audio", "ipc", "unaccounted"}


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with house(tmp_path_factory.mktemp("state")), running():
        yield


async def play(talk: Talk, pcm: bytes) -> list[TurnResult]:
    return [result async for result in talk.play(pcm)]


async def turn(talk: Talk, pcm: bytes) -> TurnResult:
    results = await play(talk, pcm)
    assert len(results) == 1, results
    assert results[0].report.outcome == "answered", results
    return results[0]


async def ask(question: str, conversation: str = "typed") -> str:
    async with Client("dialog", "test") as dialog:
        answer = await dialog.request(Ask(conversation=conversation, text=question), ttl_ms=60_000)
    assert isinstance(answer, Answered)
    return answer.said


def test_the_bundled_conversation(daemons: None, tmp_path: Path) -> None:
    """As `timmy talk --wav ... --json` prints it: heard, said, from memory, stages that add up, an answer to hear."""
    names = ["1-remember", "2-capital", "3-plumber"]
    wavs = [str(EXAMPLES / f"{name}.wav") for name in names]
    result = CliRunner().invoke(cli, ["talk", "--wav", *wavs, "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    told, capital, plumber = (json.loads(line) for line in result.stdout.splitlines())
    assert {"plumber", "tuesday"} <= set(words(told["heard"]))
    assert {"capital", "france"} <= set(words(capital["heard"]))
    assert "paris" in words(capital["said"])
    assert {"when", "plumber"} <= set(words(plumber["heard"]))
    assert "tuesday" in words(plumber["said"])
    for line in (told, capital, plumber):
        assert set(line["stages_ms"]) == STAGES
        assert sum(line["stages_ms"].values()) == pytest.approx(line["speech_end_to_first_audio_ms"], abs=0.02)
        assert len(bytes.fromhex(line["rid"])) == 16
    assert share_heard(plumber["said"], transcript(Path(plumber["reply_wav"]))) > 0.6


def transcript(wav: Path) -> str:
    from daemons.engines.whisper import WhisperTranscriber

    return WhisperTranscriber("tiny.en", "cpu", 2, "en").transcribe(read_wav(wav)).text


def test_what_was_told_outlives_all_daemons(tmp_path: Path) -> None:
    async def say(name: str) -> TurnResult:
        async with AsyncExitStack() as stack:
            return await turn(await open_talk(stack, None), read_wav(EXAMPLES / name))

    with house(tmp_path):
        with running():
            asyncio.run(say("1-remember.wav"))
        with running():
            answer = asyncio.run(say("3-plumber.wav"))
    assert "tuesday" in words(answer.report.said)
    assert answer.report.memories >= 1


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_restarted_between_two_turns_costs_no_turn(daemons: None, daemon: str) -> None:
    question = read_wav(EXAMPLES / "2-capital.wav")

    async def converse() -> TurnResult:
        async with AsyncExitStack() as stack:
            talk = await open_talk(stack, None)
            await turn(talk, question)
            old = await kill(daemon)
            await until_back(daemon, old)
            return await turn(talk, question)

    assert "paris" in words(asyncio.run(converse()).report.said)


def test_silence_is_no_turn(daemons: None) -> None:
    async def listen() -> list[TurnResult]:
        async with AsyncExitStack() as stack:
            return await play(await open_talk(stack, None), silence(2000))

    assert asyncio.run(listen()) == []


def test_words_said_before_the_answer_sounds_join_the_turn(daemons: None) -> None:
    """The speaker goes on when the answer is being made, and nothing is lost. The voice's own silence (220 ms) is most
    of the pause: with the 350 ms of a whole question, who is first would be a matter of luck."""
    pcm = speak("What is the capital of France?") + silence(20) + speak("And what is the capital of Germany?")

    async def converse() -> list[TurnResult]:
        async with AsyncExitStack() as stack:
            return await play(await open_talk(stack, None), pcm)

    results = asyncio.run(converse())
    assert len(results) == 1
    assert {"france", "germany"} <= set(words(results[0].report.heard))


def test_among_200_memories_only_the_relevant_one_reaches_the_answer(tmp_path: Path) -> None:
    told = memories()
    assert len(told) >= 200

    async def fill() -> int:
        async with Client("memory", "test") as memory:
            for text in told:
                await memory.request(Remember(heard=text, always=True), ttl_ms=10_000)
            page = await memory.request(ListMemories())
            assert isinstance(page, MemoryPage)
            return page.total

    with house(tmp_path), running():
        assert asyncio.run(fill()) >= 200
        assert "paris" in words(asyncio.run(ask("What is the capital of France?", "a")))
        key = next(text for text in told if "spare key" in text.lower())
        place = set(words(key.lower().partition("spare key")[2])) - {"is", "the", "under", "in", "on", "behind", "a"}
        assert place & set(words(asyncio.run(ask("Where is the spare key?", "b"))))


def test_questions_are_not_remembered(daemons: None) -> None:
    async def count() -> int:
        async with Client("memory", "test") as memory:
            page = await memory.request(ListMemories())
        assert isinstance(page, MemoryPage)
        return page.total

    before = asyncio.run(count())
    asyncio.run(ask("What is the capital of Spain?", "c"))
    assert asyncio.run(count()) == before


def test_what_is_remembered_can_be_seen_and_erased(daemons: None) -> None:
    def memory(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["memory", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    async def tell() -> None:
        async with Client("memory", "test") as client:
            await client.request(Remember(heard="Remember that the violin is in the attic.", always=True))

    asyncio.run(tell())
    found = [entry for entry in json.loads(memory("list", "--json")) if "violin" in entry["text"]]
    assert len(found) == 1
    assert "violin" in memory("list")
    assert memory("forget", str(found[0]["id"])) == "forgotten: 1 of 1\n"
    assert memory("forget", str(found[0]["id"])) == "forgotten: 0 of 1\n"
    assert "violin" not in memory("list", "--json")


def test_status_tells_of_all_five(daemons: None) -> None:
    result = CliRunner().invoke(cli, ["status", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert set(report) == set(DAEMONS)
    assert all(entry["rss_bytes"] > 0 for entry in report.values())
    assert {"engine", "model", "pid", "uptime_s", "state", "last_error"} <= set(report["llm"])


def test_an_answer_as_a_wav_is_whole(daemons: None, tmp_path: Path) -> None:
    async def converse() -> TurnResult:
        async with AsyncExitStack() as stack:
            return await turn(await open_talk(stack, tmp_path), read_wav(EXAMPLES / "2-capital.wav"))

    result = asyncio.run(converse())
    assert result.reply_wav is not None
    with wave.open(result.reply_wav) as file:
        assert file.getnframes() / file.getframerate() > 0.5
    assert heard(words(result.report.said)[-1], words(transcript(Path(result.reply_wav)))[-1])
