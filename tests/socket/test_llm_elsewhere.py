"""The llm daemon with a model behind llama.cpp's own HTTP server, which speaks OpenAI's chat completions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.config import Config, Llm
from daemons.llm.core import CHECK_QUESTION
from daemons.llm.service import LlmService
from ipc.client import Client
from ipc.errors import EXIT_CONFIG, CallError, Code, ConfigError
from ipc.messages import ChatMessage, Generate, Generated, Token
from tests.support.fake_openai import FakeOpenAi
from tests.support.llama_server import MODEL, llama_server
from tests.support.serving import serving


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with llama_server() as address:
        yield f"{address}/v1"


def service(url: str, model: str = "", key_file: str = "") -> LlmService:
    return LlmService(Config(llm=Llm(engine="openai", openai_url=url, openai_model=model, openai_key_file=key_file)))


async def answer(client: Client, text: str, max_tokens: int = 24) -> tuple[str, Generated]:
    stream = client.open(Generate(messages=[ChatMessage(role="user", content=text)], max_tokens=max_tokens))
    said = "".join([item.text async for item, _ in stream if isinstance(item, Token)])
    result = await stream.result()
    assert isinstance(result, Generated)
    return said, result


@pytest.mark.models
def test_a_question_is_answered_elsewhere(server: str, tmp_path: Path) -> None:
    async def check() -> None:
        async with asyncio.timeout(120), serving("llm", made := service(server), tmp_path) as client:
            assert (made.info.engine, made.info.model) == ("openai", MODEL)
            said, counts = await answer(client, CHECK_QUESTION)
            assert "Paris" in said
            assert counts.prompt_tokens > 10
            assert counts.completion_tokens > 0
            await answer(client, CHECK_QUESTION, max_tokens=0)
            _, again = await answer(client, CHECK_QUESTION)
            assert again.cached_tokens > 0, "the server tells what it had read before"

    asyncio.run(check())


@pytest.mark.models
def test_a_question_that_is_taken_back_frees_the_server(server: str, tmp_path: Path) -> None:
    async def check() -> None:
        async with asyncio.timeout(120), serving("llm", service(server), tmp_path) as client:
            story = ChatMessage(role="user", content="Tell me a very long story.")
            stream = client.open(Generate(messages=[story], max_tokens=1500))
            await anext(stream)
            stream.cancel()
            assert "Paris" in (await answer(client, CHECK_QUESTION))[0]

    asyncio.run(check())


def test_a_server_that_goes_away_is_a_trouble_until_it_is_back(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("s3cret", "ascii")
    key.chmod(0o600)

    async def check() -> None:
        with FakeOpenAi(key="s3cret") as fake:
            made = service(fake.api, key_file=str(key))
            async with asyncio.timeout(60), serving("llm", made, tmp_path) as client:
                fake.fault = "500"
                with pytest.raises(CallError, match="failed: the runner has died") as caught:
                    await answer(client, "Well?")
                assert caught.value.code is Code.UPSTREAM_FAILED
                fake.fault = ""
                assert "Paris" in (await answer(client, "Well?"))[0]
                assert not made.trouble
                await asyncio.to_thread(fake.stop)
                with pytest.raises(CallError, match=r"start it, or set llm\.openai_url"):
                    await answer(client, "Well?")
                assert "no server at" in made.trouble

    asyncio.run(check())


def test_a_refused_key_ends_the_daemon_for_good() -> None:
    async def check() -> None:
        with FakeOpenAi(key="s3cret") as fake:
            made = service(fake.api)
            with pytest.raises(ConfigError, match="wants a key") as caught:
                await made.load()
            assert caught.value.exit_status == EXIT_CONFIG
            await made.close()

    asyncio.run(check())
