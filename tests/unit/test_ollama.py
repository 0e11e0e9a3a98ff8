"""The Ollama engine against a real HTTP server that can fail."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from daemons.engines import ollama
from daemons.engines.base import EngineError, Prompt, Usage
from daemons.engines.ollama import OllamaModel, has_model
from daemons.engines.servers import is_loopback
from ipc.errors import CallError, Code
from tests.support.fake_ollama import LINES, FakeOllama
from tools.ollama_pull import pull

MODEL = "llama3.2:3b"
FRANCE = [("system", "Be short."), ("user", "What is the capital of France?")]


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama() as fake:
        yield fake


def run(task: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await task

    asyncio.run(bounded())


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def engine(check: Callable[[OllamaModel], Coroutine[Any, Any, None]], url: str, model: str = MODEL) -> None:
    """Runs `check` with an engine, and closes it."""

    async def task() -> None:
        made = OllamaModel(url, model, 2048)
        async with contextlib.aclosing(_Closing(made)):
            await check(made)

    run(task())


class _Closing:
    def __init__(self, model: OllamaModel) -> None:
        self.aclose = model.close


async def ask(model: OllamaModel, max_tokens: int = 50) -> tuple[list[str], Usage]:
    items = [item async for item in model.generate(Prompt(FRANCE, max_tokens, 0.5))]
    usage = items.pop()
    assert isinstance(usage, Usage)
    return [item for item in items if isinstance(item, str)], usage


async def fails(model: OllamaModel) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await ask(model)
    return caught.value


def test_an_answer_and_its_counts(server: FakeOllama) -> None:
    async def check(model: OllamaModel) -> None:
        await model.load()
        pieces, usage = await ask(model)
        assert tuple(pieces) == LINES
        assert (usage.prompt_tokens, usage.completion_tokens, usage.finish) == (21, 7, "stop")

    engine(check, server.url)


def test_what_is_asked_of_the_server(server: FakeOllama) -> None:
    async def check(model: OllamaModel) -> None:
        await ask(model)
        (body,) = server.requests
        assert body["messages"] == [{"role": role, "content": content} for role, content in FRANCE]
        assert body["options"] == {"num_predict": 50, "temperature": 0.5, "num_ctx": 2048}
        assert (body["stream"], body["think"], body["keep_alive"]) == (True, False, "30m")

    engine(check, server.url)


def test_a_connection_that_the_server_gives_up_costs_no_answer(server: FakeOllama) -> None:
    async def check(model: OllamaModel) -> None:
        server.fault = "hangs up"
        for _ in range(3):
            assert tuple((await ask(model))[0]) == LINES
        assert len(server.connections) == 3

    engine(check, server.url)


def test_an_answer_cut_at_the_limit(server: FakeOllama) -> None:
    async def check(model: OllamaModel) -> None:
        pieces, usage = await ask(model, 2)
        assert (tuple(pieces), usage.finish) == (LINES[:2], "length")

    engine(check, server.url)


def test_no_token_reads_the_prompt_only(server: FakeOllama) -> None:
    async def check(model: OllamaModel) -> None:
        pieces, usage = await ask(model, 0)
        assert (pieces, usage.completion_tokens) == ([], 0)
        assert server.requests[0]["options"]["num_predict"] == 1, "0 would be without limit"

    engine(check, server.url)


def test_one_connection_serves_all(server: FakeOllama) -> None:
    async def check(model: OllamaModel) -> None:
        await model.load()
        for _ in range(3):
            await ask(model)
        assert len(server.connections) == 1

    engine(check, server.url)


def test_closing_hangs_up(server: FakeOllama) -> None:
    async def check(model: OllamaModel) -> None:
        server.fault = "endless"
        answer = model.generate(Prompt(FRANCE, 5000))
        assert await anext(answer) == "The"
        await answer.aclose()
        assert await asyncio.to_thread(server.hung_up.wait, 20)
        server.fault = ""
        assert tuple((await ask(model))[0]) == LINES

    engine(check, server.url)


def test_cancelling_hangs_up_on_a_server_that_says_nothing(server: FakeOllama) -> None:
    async def check(model: OllamaModel) -> None:
        server.fault = "silent"
        waiting = asyncio.ensure_future(anext(model.generate(Prompt(FRANCE, 50))))
        assert await asyncio.to_thread(server.asked.wait, 20)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    engine(check, server.url)


def test_no_server() -> None:
    url = f"http://127.0.0.1:{closed_port()}"

    async def check(model: OllamaModel) -> None:
        with pytest.raises(EngineError) as caught:
            await model.load()
        assert caught.value.code is Code.UPSTREAM_DOWN
        assert str(caught.value) == f"no Ollama at {url}: start it with `ollama serve` or set llm.ollama_url"
        assert (await fails(model)).code is Code.UPSTREAM_DOWN

    engine(check, url)


def test_a_server_that_goes_away_between_two_answers(server: FakeOllama) -> None:
    async def check(model: OllamaModel) -> None:
        await ask(model)
        await asyncio.to_thread(server.stop)
        assert (await fails(model)).code is Code.UPSTREAM_DOWN

    engine(check, server.url)


@pytest.mark.parametrize("model", ["llama3.2:3b", "mistral"])
def test_the_model_is_there(server: FakeOllama, model: str) -> None:
    server.models = ["llama3.2:3b", "mistral:latest"]
    engine(OllamaModel.load, server.url, model)


@pytest.mark.parametrize("model", ["llama3.2", "mistral:7b", "qwen3"])
def test_the_model_is_missing(server: FakeOllama, model: str) -> None:
    server.models = ["llama3.2:3b", "mistral:latest"]

    async def check(made: OllamaModel) -> None:
        with pytest.raises(EngineError, match=f"timmy models pull {model}") as caught:
            await made.load()
        assert caught.value.code is Code.MODEL_MISSING
        assert (await fails(made)).code is Code.MODEL_MISSING

    engine(check, server.url, model)


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("500", "failed: the runner has died"),
        ("not json", "is no Ollama (Expecting value"),
        ("not ollama", "is no Ollama ('list' object"),
        ("stops", "failed: peer closed connection"),
        ("ends", "stopped in the middle of an answer"),
        ("error", "failed: out of memory"),
    ],
)
def test_a_server_that_fails(server: FakeOllama, fault: str, detail: str) -> None:
    async def check(model: OllamaModel) -> None:
        server.fault = fault
        error = await fails(model)
        assert error.code is Code.UPSTREAM_FAILED
        assert detail in str(error)
        server.fault = ""
        assert tuple((await ask(model))[0]) == LINES, "the next answer is whole"

    engine(check, server.url)


@pytest.mark.parametrize("fault", ["500", "not json", "not ollama"])
def test_a_server_that_fails_at_the_model_check(server: FakeOllama, fault: str) -> None:
    async def check(model: OllamaModel) -> None:
        server.fault = fault
        with pytest.raises(EngineError) as caught:
            await model.load()
        assert caught.value.code is Code.UPSTREAM_FAILED

    engine(check, server.url)


def test_the_proxy_of_the_environment_is_not_asked_for_this_machine(
    server: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")

    async def check(model: OllamaModel) -> None:
        await model.load()
        assert [part async for part in pull(server.url, MODEL)]

    engine(check, server.url)


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:11434", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:11434", True),
        ("http://localhost:11434", True),
        ("http://ollama.localhost", True),
        ("http://192.0.2.7:11434", False),
        ("https://localhost.example.org", False),
    ],
)
def test_loopback(url: str, own: bool) -> None:
    assert is_loopback(url) is own


def test_whether_a_running_ollama_has_the_model(server: FakeOllama) -> None:
    async def check() -> None:
        assert await has_model(server.url, MODEL) is True
        assert await has_model(server.url, "mistral") is False
        assert await has_model(f"http://127.0.0.1:{closed_port()}", MODEL) is None
        server.fault = "500"
        with pytest.raises(EngineError, match="the runner has died"):
            await has_model(server.url, MODEL)

    run(check())


def test_a_server_elsewhere_that_does_not_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama, "is_loopback", lambda url: False)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def check() -> None:
        assert await has_model(f"http://127.0.0.1:{closed_port()}", MODEL) is None

    run(check())


def test_pulling_a_model(server: FakeOllama) -> None:
    async def check() -> None:
        said = [part async for part in pull(server.url, "mistral")]
        assert said[0] == ("pulling manifest", 0, 0)
        assert [(done, total) for _, done, total in said[1:-1]] == [(0, 1000), (500, 1000), (1000, 1000)]
        assert said[-1] == ("success", 0, 0)

    run(check())


@pytest.mark.parametrize(
    ("model", "fault", "code", "detail"),
    [
        ("no-such-model", "", Code.MODEL_MISSING, "Ollama knows no model 'no-such-model'"),
        ("mistral", "error", Code.UPSTREAM_FAILED, "no space left on device"),
        ("mistral", "ends", Code.UPSTREAM_FAILED, "stopped before the model was complete"),
        ("mistral", "500", Code.UPSTREAM_FAILED, "the runner has died"),
        ("mistral", "not json", Code.UPSTREAM_FAILED, "Expecting value"),
    ],
)
def test_pulling_goes_wrong(server: FakeOllama, model: str, fault: str, code: Code, detail: str) -> None:
    server.fault = fault

    async def check() -> None:
        with pytest.raises(CallError, match=detail) as caught:
            [part async for part in pull(server.url, model)]
        assert caught.value.code is code

    run(check())


def test_pulling_without_a_server() -> None:
    async def check() -> None:
        with pytest.raises(CallError, match="start it with `ollama serve`") as caught:
            [part async for part in pull(f"http://localhost:{closed_port()}", MODEL)]
        assert caught.value.code is Code.UPSTREAM_DOWN

    run(check())
