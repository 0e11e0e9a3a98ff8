"""The engine on servers with OpenAI's chat completions, against a real HTTP server that can fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons.config import OPENAI_CREDENTIAL, openai_key
from daemons.engines.base import EngineError, Prompt, Usage
from daemons.engines.openai import OpenAiModel
from daemons.engines.servers import KeyRefused
from ipc.errors import Code, ConfigError
from tests.support.fake_ollama import LINES
from tests.support.fake_openai import FakeOpenAi
from tests.unit.test_ollama import FRANCE, closed_port, run

MODEL = "qwen3-8b"
Check = Callable[[OpenAiModel], Coroutine[Any, Any, None]]


@pytest.fixture
def server() -> Iterator[FakeOpenAi]:
    with FakeOpenAi() as fake:
        yield fake


def engine(check: Check, url: str, model: str = MODEL, key: str = "") -> None:
    """Runs `check` with an engine, and closes it."""

    async def task() -> None:
        made = OpenAiModel(url, model, key)
        try:
            await check(made)
        finally:
            await made.close()

    run(task())


async def ask(model: OpenAiModel, max_tokens: int = 50) -> tuple[list[str], Usage]:
    items = [item async for item in model.generate(Prompt(FRANCE, max_tokens, 0.5))]
    usage = items.pop()
    assert isinstance(usage, Usage)
    return [item for item in items if isinstance(item, str)], usage


async def fails(work: Coroutine[Any, Any, object]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await work
    return caught.value


def test_an_answer_and_its_counts(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        await model.load()
        pieces, usage = await ask(model)
        assert tuple(pieces) == LINES
        assert usage == Usage(prompt_tokens=21, cached_tokens=8, completion_tokens=9, finish="stop")

    engine(check, server.api + "/")


def test_a_server_that_counts_nothing(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        server.counts = False
        assert (await ask(model))[1] == Usage(0, 0, len(LINES), "stop")

    engine(check, server.api)


def test_what_is_asked_of_the_server(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        await ask(model)
        (body,) = server.requests
        assert body["messages"] == [{"role": role, "content": content} for role, content in FRANCE]
        assert (body["model"], body["max_tokens"], body["temperature"]) == (MODEL, 50, 0.5)
        assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})

    engine(check, server.api)


def test_an_answer_cut_at_the_limit(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        pieces, usage = await ask(model, 2)
        assert (tuple(pieces), usage.finish) == (LINES[:2], "length")

    engine(check, server.api)


def test_no_token_reads_the_prompt_only(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        pieces, usage = await ask(model, 0)
        assert (pieces, usage.completion_tokens) == ([], 0)
        assert server.requests[0]["max_tokens"] == 1

    engine(check, server.api)


def test_one_connection_serves_all(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        await model.load()
        for _ in range(3):
            await ask(model)
        assert len(server.connections) == 1

    engine(check, server.api)


def test_a_connection_that_the_server_gives_up_costs_no_answer(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        server.fault = "hangs up"
        for _ in range(3):
            assert tuple((await ask(model))[0]) == LINES
        assert len(server.connections) == 3

    engine(check, server.api)


def test_closing_hangs_up(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        server.fault = "endless"
        answer = model.generate(Prompt(FRANCE, 5000))
        assert await anext(answer) == "The"
        await answer.aclose()
        assert await asyncio.to_thread(server.hung_up.wait, 20)
        server.fault = ""
        assert tuple((await ask(model))[0]) == LINES

    engine(check, server.api)


def test_cancelling_hangs_up_on_a_server_that_says_nothing(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        server.fault = "silent"
        waiting = asyncio.ensure_future(anext(model.generate(Prompt(FRANCE, 50))))
        assert await asyncio.to_thread(server.asked.wait, 20)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        assert waiting.cancelled()

    engine(check, server.api)


def test_no_server() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"

    async def check(model: OpenAiModel) -> None:
        for work in (model.load(), ask(model)):
            error = await fails(work)
            assert (error.code, str(error)) == (
                Code.UPSTREAM_DOWN,
                f"no server at {url}: start it, or set llm.openai_url",
            )

    engine(check, url)


def test_the_only_model_needs_no_name(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        await model.load()
        assert (model.info.engine, model.info.model) == ("openai", MODEL)
        await ask(model)
        assert server.requests[0]["model"] == MODEL

    engine(check, server.api, "")


@pytest.mark.parametrize(
    ("models", "wanted", "detail"),
    [
        (("one", "two"), "", "has these models: one, two; set llm.openai_model to one"),
        ((), "", "has these models: none"),
        (("one", "two"), "three", "lacks the model 'three' (it has one, two): set llm.openai_model"),
    ],
)
def test_a_model_that_is_not_there(server: FakeOpenAi, models: tuple[str, ...], wanted: str, detail: str) -> None:
    server.models = list(models)

    async def check(model: OpenAiModel) -> None:
        error = await fails(model.load())
        assert error.code is Code.MODEL_MISSING
        assert detail in str(error)

    engine(check, server.api, wanted)


def test_a_model_that_went_away(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        await model.load()
        server.models.clear()
        assert (await fails(ask(model))).code is Code.MODEL_MISSING

    engine(check, server.api)


def test_a_key(server: FakeOpenAi) -> None:
    server.key = "s3cret"

    async def welcome(model: OpenAiModel) -> None:
        await model.load()
        assert tuple((await ask(model))[0]) == LINES

    def refused(reason: str) -> Check:
        async def check(model: OpenAiModel) -> None:
            for work in (model.load(), ask(model)):
                error = await fails(work)
                assert isinstance(error, KeyRefused)
                assert (error.code, "s3cre" in str(error)) == (Code.UPSTREAM_FAILED, False)
                assert reason in str(error)

        return check

    engine(welcome, server.api, key="s3cret")
    engine(refused("refuses the key (401): correct it in the file that llm.openai_key_file"), server.api, key="s3cre")
    engine(refused("wants a key (401): put it into the file that llm.openai_key_file"), server.api)


def test_an_address_without_its_path(server: FakeOpenAi) -> None:
    async def check(model: OpenAiModel) -> None:
        assert "correct llm.openai_url, which mostly ends in /v1" in str(await fails(model.load()))

    engine(check, server.url)


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("500", "failed: the runner has died"),
        ("not json", "failed|does not speak OpenAI's protocol|stopped in the middle"),
        ("stops", "failed: peer closed connection"),
        ("ends", "stopped in the middle of an answer"),
        ("error", "failed: out of memory"),
    ],
)
def test_a_server_that_fails(server: FakeOpenAi, fault: str, detail: str) -> None:
    async def check(model: OpenAiModel) -> None:
        server.fault = fault
        error = await fails(ask(model))
        assert error.code is Code.UPSTREAM_FAILED
        assert any(each in str(error) for each in detail.split("|"))
        server.fault = ""
        assert tuple((await ask(model))[0]) == LINES, "the next answer is whole"

    engine(check, server.api)


@pytest.mark.parametrize("fault", ["500", "not json", "not ollama"])
def test_a_server_that_fails_at_the_model_check(server: FakeOpenAi, fault: str) -> None:
    async def check(model: OpenAiModel) -> None:
        server.fault = fault
        assert (await fails(model.load())).code is Code.UPSTREAM_FAILED

    engine(check, server.api)


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret\n", "ascii")
    file.chmod(0o600)
    assert openai_key(str(file), {}) == "s3cret"
    assert openai_key("", {}) == ""
    (tmp_path / OPENAI_CREDENTIAL).write_text("handed", "ascii")
    assert openai_key("", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "handed"


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret", "ascii")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=r"can be read by others: chmod 600 ") as caught:
        openai_key(str(file), {})
    assert "s3cret" not in str(caught.value)


def test_a_key_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="holds no key"):
        openai_key(str(tmp_path / "key"), {})
    with pytest.raises(ConfigError, match="none cannot be read: No such file"):
        openai_key(str(tmp_path / "none"), {})
