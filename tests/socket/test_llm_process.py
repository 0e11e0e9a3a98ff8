"""`python -m daemons.llm` as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipc.client import Client
from ipc.errors import EXIT_CONFIG, EXIT_OK
from ipc.messages import ChatMessage, Generate, Generated, Status, StatusReport
from tests.support.fake_ollama import FakeOllama


@contextmanager
def daemon(folder: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    home = {"HOME": str(folder), "TIMMY_RUNTIME": str(runtime)}
    path = {"PATH": os.environ["PATH"]}
    process = subprocess.Popen(
        [sys.executable, "-m", "daemons.llm"], env={**path, **home, **settings}, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def report(client: Client) -> StatusReport:
    status = await client.request(Status())
    assert isinstance(status, StatusReport)
    return status


def test_from_start_to_end(tmp_path: Path) -> None:
    async def talk(pid: int) -> None:
        async with asyncio.timeout(60), Client("llm", "test", folder=tmp_path / "run") as client:
            await client.wait_connected(60)
            while (status := await report(client)).state == "loading":
                pass
            assert (status.state, status.engine, status.model, status.pid) == ("ready", "ollama", "llama3.2:3b", pid)
            message = ChatMessage(role="user", content="What is the capital of France?")
            result = await client.request(Generate(messages=[message], max_tokens=0))
            assert isinstance(result, Generated)
            assert result.prompt_tokens == 21

    with FakeOllama() as server, daemon(tmp_path, TIMMY_LLM_OLLAMA_URL=server.url) as process:
        asyncio.run(talk(process.pid))
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
        assert process.returncode == EXIT_OK
        assert "engine ollama: a running Ollama has llama3.2:3b" in log


def test_a_trace_that_cannot_be_kept_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "trace").write_text("a file in the way")

    async def talk() -> None:
        async with asyncio.timeout(60), Client("llm", "test", folder=tmp_path / "run") as client:
            await client.wait_connected(60)
            while (await report(client)).state == "loading":
                pass
            await client.request(Generate(messages=[ChatMessage(role="user", content="Well?")], max_tokens=0))

    settings = {"TIMMY_STATE": str(tmp_path / "state")}
    with FakeOllama() as server, daemon(tmp_path, TIMMY_LLM_OLLAMA_URL=server.url, **settings) as process:
        asyncio.run(talk())
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
        assert process.returncode == EXIT_OK
        assert log.count("trace marks cannot be kept in") == 1
        assert "Traceback" not in log


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"TIMMY_LLM_ENGINE": "llama"}, "llm: model 'smollm2-135m' is not here: timmy models pull smollm2-135m"),
        ({"TIMMY_LLM_ENGINE": "llama", "TIMMY_LLM_MODEL": "/etc/hostname"}, "llm: /etc/hostname is not a .gguf file"),
        ({"TIMMY_LLM_ENGINE": "ollama"}, "timmy models pull llama3.2:3b"),
    ],
)
def test_a_model_that_is_not_there_is_one_line_and_a_status_of_its_own(
    tmp_path: Path, settings: dict[str, str], line: str
) -> None:
    with FakeOllama(()) as server, daemon(tmp_path, TIMMY_LLM_OLLAMA_URL=server.url, **settings) as process:
        _, log = process.communicate(timeout=60)
        assert process.returncode == EXIT_CONFIG
        assert line in log.splitlines()[-1]
        assert "Traceback" not in log
