"""The llm daemon over real sockets: with a model that does as told, with the real one, with an Ollama."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from daemons.config import Config, Llm
from daemons.engines.base import EngineError, Prompt
from daemons.engines.fakes_llm import FakeModel
from daemons.llm.core import CHECK_QUESTION, WAITING_MAX
from daemons.llm.service import LlmService
from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError, Code
from ipc.ids import new_rid
from ipc.messages import ChatMessage, Generate, Generated, Rest, Token
from tests.support.fake_ollama import FakeOllama
from tests.support.serving import serving

NOON = "It is noon."


def run(task: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await task()

    asyncio.run(bounded())


def question(text: str = "What time is it?", max_tokens: int = 50) -> Generate:
    return Generate(messages=[ChatMessage(role="user", content=text)], max_tokens=max_tokens)


def says(answer: str) -> Callable[[Prompt], str]:
    """A model that passes the check and gives `answer` to everything else."""
    return lambda prompt: "Paris." if prompt.messages[-1][1] == CHECK_QUESTION else answer


@asynccontextmanager
async def fake(folder: Path, answer: str = NOON) -> AsyncIterator[tuple[FakeModel, LlmService, Client]]:
    """A loaded service whose model has been asked nothing but the check question."""
    model = FakeModel(says(answer))
    service = LlmService(Config(), model)
    async with serving("llm", service, folder) as client:
        model.prompts.clear()
        yield model, service, client


async def heard(stream: Stream) -> tuple[str, Generated]:
    text = ""
    async for item, _ in stream:
        assert isinstance(item, Token)
        text += item.text
    result = await stream.result()
    assert isinstance(result, Generated)
    return text, result


async def failure(stream: Stream) -> CallError:
    with pytest.raises(CallError) as caught:
        await heard(stream)
    return caught.value


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 (what is waited for is a plain attribute)
        await asyncio.sleep(0.002)


def test_an_answer_is_streamed_and_counted(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (model, _, client):
            text, result = await heard(client.open(question()))
            assert text == NOON
            assert (result.prompt_tokens, result.completion_tokens, result.finish) == (5, 3, "stop")
            assert 0 < result.received_ns <= result.first_token_ns
            assert model.prompts == [Prompt([("user", "What time is it?")], 50)]

    run(check)


def test_what_the_prompt_shares_with_the_last_one_is_reported(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (_, _, client):
            prefill = await client.request(question("What time", max_tokens=0))
            assert isinstance(prefill, Generated)
            assert (prefill.completion_tokens, prefill.first_token_ns) == (0, 0)
            _, result = await heard(client.open(question()))
            assert result.cached_tokens == prefill.prompt_tokens == 3

    run(check)


@pytest.mark.parametrize("answer", ["", " \n \t ", "\N{GRINNING FACE} \N{SPARKLES}", "\x00\x1b\x07"])
def test_a_model_that_gives_no_words(tmp_path: Path, answer: str) -> None:
    async def check() -> None:
        async with fake(tmp_path, answer) as (_, service, client):
            stream = client.open(question())
            error = await failure(stream)
            assert error.code is Code.EMPTY_ANSWER
            assert service.trouble == ""

    run(check)


def test_control_characters_are_left_out(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path, "It\x00 is\x1b \x07 noon.") as (_, _, client):
            assert (await heard(client.open(question())))[0].split() == ["It", "is", "noon."]

    run(check)


def test_a_model_that_does_not_stop_is_stopped(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path, " word") as (model, _, client):
            model.babble = 10_000
            model.given = 0
            text, result = await heard(client.open(question(max_tokens=40)))
            assert len(text.split()) == 40
            assert (result.completion_tokens, result.finish) == (40, "length")
            assert (model.given, model.stopped) == (41, 1)

    run(check)


def test_a_model_that_fails_in_the_middle_and_the_next_request(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (model, service, client):
            model.fail_after, model.error = 2, EngineError(Code.ENGINE_FAILED, "the model fell over")
            error = await failure(client.open(question()))
            assert (error.code, str(error)) == (Code.ENGINE_FAILED, "the model fell over")
            assert service.trouble == "the model fell over"
            model.error = None
            assert (await heard(client.open(question())))[0] == NOON
            assert service.trouble == ""

    run(check)


def test_a_prompt_that_cannot_be_is_no_trouble_of_the_daemon(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (model, service, client):
            model.fail_after, model.error = 0, EngineError(Code.BAD_REQUEST, "too long")
            assert (await failure(client.open(question()))).code is Code.BAD_REQUEST
            assert service.trouble == ""

    run(check)


def test_a_model_rests_as_long_as_it_is_told_to(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (model, _, client):
            model.stall_after = 1
            stream = client.open(question())
            await anext(aiter(stream))
            await stream.send(Rest(ms=300))
            await stream.send(Rest(ms=0))
            await until(lambda: len(model.rests) == 2)
            assert model.rests == [0.3, 0]
            stream.cancel()

    run(check)


def test_a_cancel_stops_the_model(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (model, _, client):
            model.stall_after = 1
            stream = client.open(question())
            item, _ = await anext(aiter(stream))
            assert isinstance(item, Token)
            stream.cancel()
            await until(lambda: model.stopped == 1)
            model.stall_after = None
            assert (await heard(client.open(question())))[0] == NOON

    run(check)


def test_a_model_that_stalls_ends_with_the_time_given(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (model, _, client):
            model.stall_after = 1
            assert (await failure(client.open(question(), ttl_ms=50))).code is Code.DEADLINE
            await until(lambda: model.stopped == 1)

    run(check)


def test_a_newer_request_of_the_same_turn_supersedes(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (model, _, client):
            model.stall_after, rid = 1, new_rid()
            older = client.open(question(), rid=rid)
            await until(lambda: len(model.prompts) == 1)
            model.stall_after = None
            newer = client.open(question(), rid=rid)
            assert (await heard(newer))[0] == NOON
            with pytest.raises(CallCancelled):
                await older.result()
            assert model.stopped == 1

    run(check)


def test_a_prefill_gives_way_to_a_question(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (model, _, client):
            model.stall_after = 0
            prefill = client.open(question(max_tokens=0))
            await until(lambda: len(model.prompts) == 1)
            model.stall_after = None
            assert (await heard(client.open(question())))[0] == NOON
            with pytest.raises(CallCancelled, match="gave way"):
                await prefill.result()

    run(check)


def test_questions_are_answered_one_after_the_other_and_the_line_is_bounded(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (model, _, client):
            model.stall_after = 0
            first = client.open(question("0"))
            await until(lambda: len(model.prompts) == 1)
            model.stall_after = None
            waiting = [client.open(question(str(n))) for n in range(1, 1 + WAITING_MAX)]
            error = await failure(client.open(question("one too many")))
            assert error.code is Code.BUSY
            assert len(model.prompts) == 1
            first.cancel()
            assert [(await heard(stream))[0] for stream in waiting] == [NOON] * WAITING_MAX
            assert [prompt.messages[0][1] for prompt in model.prompts] == [str(n) for n in range(1 + WAITING_MAX)]

    run(check)


def test_one_that_gives_up_waiting_leaves_the_line(tmp_path: Path) -> None:
    async def check() -> None:
        async with fake(tmp_path) as (model, _, client):
            model.stall_after = 0
            first, second = client.open(question("0")), client.open(question("1"))
            third = client.open(question("2"))
            await until(lambda: len(model.prompts) == 1)
            model.stall_after = None
            second.cancel()
            first.cancel()
            assert (await heard(third))[0] == NOON
            assert [prompt.messages[0][1] for prompt in model.prompts] == ["0", "2"]

    run(check)


def test_a_model_that_talks_nonsense_is_refused(tmp_path: Path) -> None:
    async def check() -> None:
        service = LlmService(Config(), FakeModel("@@@@"))
        with pytest.raises(EngineError, match="model 'fake' says '@@@@' to 'What is the capital") as caught:
            async with serving("llm", service, tmp_path):
                pass
        assert caught.value.code is Code.MODEL_DAMAGED

    run(check)


@pytest.mark.models
def test_the_embedded_model(tmp_path: Path) -> None:
    async def check() -> None:
        service = LlmService(Config(llm=Llm(engine="llama", context_tokens=1024)))
        async with serving("llm", service, tmp_path) as client:
            assert service.info.engine == "llama.cpp"
            text, result = await heard(client.open(question(CHECK_QUESTION), ttl_ms=30_000))
            assert "Paris" in text
            assert result.cached_tokens > 0

    run(check)


def ollama(server: FakeOllama, engine: Literal["auto", "ollama"]) -> LlmService:
    return LlmService(Config(llm=Llm(engine=engine, ollama_url=server.url, context_tokens=1024)))


@pytest.mark.parametrize("engine", ["auto", "ollama"])
def test_a_running_ollama_that_has_the_model(tmp_path: Path, engine: Literal["auto", "ollama"]) -> None:
    async def check() -> None:
        with FakeOllama() as server:
            service = ollama(server, engine)
            async with serving("llm", service, tmp_path) as client:
                assert (service.info.engine, service.info.model) == ("ollama", "llama3.2:3b")
                assert "Paris" in (await heard(client.open(question())))[0]

    run(check)


@pytest.mark.models
@pytest.mark.parametrize(
    ("models", "fault", "reason"),
    [((), "", "the running Ollama lacks llama3.2:3b"), (("llama3.2:3b",), "500", "the runner has died")],
)
def test_auto_with_an_ollama_that_cannot_serve_takes_the_embedded_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, models: tuple[str, ...], fault: str, reason: str
) -> None:
    async def check() -> None:
        with FakeOllama(models) as server, caplog.at_level(logging.INFO):
            server.fault = fault
            service = ollama(server, "auto")
            async with serving("llm", service, tmp_path):
                assert service.info.engine == "llama.cpp"
            assert reason in caplog.text

    run(check)


def test_an_ollama_without_the_model_is_an_error_when_it_was_asked_for(tmp_path: Path) -> None:
    async def check() -> None:
        with FakeOllama(()) as server, pytest.raises(EngineError, match=r"timmy models pull llama3\.2:3b") as caught:
            async with serving("llm", ollama(server, "ollama"), tmp_path):
                pass
        assert caught.value.code is Code.MODEL_MISSING

    run(check)


@pytest.mark.parametrize(
    ("engine", "advice"), [("ollama", "set llm.ollama_url"), ("auto", "or restart the llm daemon to use the embedded")]
)
def test_an_ollama_that_goes_away(tmp_path: Path, engine: Literal["auto", "ollama"], advice: str) -> None:
    async def check() -> None:
        with FakeOllama() as server:
            service = ollama(server, engine)
            async with serving("llm", service, tmp_path) as client:
                await asyncio.to_thread(server.stop)
                error = await failure(client.open(question()))
                assert error.code is Code.UPSTREAM_DOWN
                assert advice in str(error)
                assert service.trouble == str(error)

    run(check)


def test_an_ollama_that_stops_in_mid_answer_and_the_next_answer(tmp_path: Path) -> None:
    async def check() -> None:
        with FakeOllama() as server:
            async with serving("llm", ollama(server, "ollama"), tmp_path) as client:
                server.fault = "stops"
                assert (await failure(client.open(question()))).code is Code.UPSTREAM_FAILED
                server.fault = ""
                assert "Paris" in (await heard(client.open(question())))[0]

    run(check)
