"""A caller in C, written from the specification alone, talks to real daemons."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.call import Call
from ipc.client import Client
from ipc.endpoints import runtime_dir
from ipc.errors import CallError, Code
from ipc.messages import Answered, Ask, Delta, Result
from ipc.observer import Observer
from tests.support.daemon_thread import DaemonThread
from tests.support.suite import ROOT, house, running

SOURCE = ROOT / "examples" / "c" / "timmy.c"
LIBRARIES = ("-lmsgpackc", "-lmsgpack-c")
"""What Debian's msgpack for C is called, before and since version 6."""


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled without a warning."""
    program = tmp_path_factory.mktemp("c") / "timmy"
    errors = ""
    for library in LIBRARIES:
        command = ["cc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
        made = subprocess.run(
            [*command, "-o", program, SOURCE, "-lzmq", library], capture_output=True, text=True, check=False
        )
        if made.returncode == 0:
            return program
        errors += made.stderr
    raise AssertionError(errors)


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with house(tmp_path_factory.mktemp("state")), running():
        yield


def run(caller: Path, folder: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [caller, folder, *words], capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"},
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.models
@pytest.mark.usefixtures("daemons")
def test_a_question_is_answered_by_the_real_daemons(caller: Path) -> None:
    status, out = run(caller, runtime_dir(), "ask", "What is the capital of France?")
    assert status == 0
    assert "Paris" in out
    assert out.endswith("[answered]\n")


@pytest.mark.models
@pytest.mark.usefixtures("daemons")
def test_a_question_that_is_given_up_ends_as_cancelled_and_the_next_one_is_answered(caller: Path) -> None:
    async def watch() -> list[str]:
        seen: list[str] = []
        async with Observer(["dialog"]) as observer:
            done = asyncio.create_task(
                asyncio.to_thread(run, caller, runtime_dir(), "cancel", "Tell me a long story about a dog.")
            )
            async with asyncio.timeout(60):
                while "cancelled" not in seen:
                    seen.append((await anext(observer)).message.body.type_name())
            assert await done == (0, "\n[cancelled]\n")
        return seen

    seen = asyncio.run(watch())
    assert seen.index("cancel") < seen.index("cancelled")
    assert "answered" not in seen
    assert run(caller, runtime_dir(), "ask", "What is the capital of France?")[1].endswith("[answered]\n")


async def _long(call: Call) -> Result:
    for number in range(700):
        await call.send(Delta(text=f"{number} "))
    return Answered(said="", prompt_tokens=0, cached_tokens=0, completion_tokens=0, memories=0)


def test_an_answer_longer_than_the_credit_arrives_whole(caller: Path, tmp_path: Path) -> None:
    with DaemonThread("dialog", {Ask: _long}, tmp_path / "run"):
        status, out = run(caller, tmp_path / "run", "ask", "count")
    assert (status, out) == (0, "".join(f"{number} " for number in range(700)) + "\n[answered]\n")


def test_an_error_is_told_with_its_sentence(caller: Path, tmp_path: Path) -> None:
    def fail(call: Call) -> Result:
        raise CallError(Code.BUSY, "ask again in a moment")

    with DaemonThread("dialog", {Ask: fail}, tmp_path / "run"):
        assert run(caller, tmp_path / "run", "ask", "x") == (1, "\n[error: ask again in a moment]\n")


async def _slow(call: Call) -> Result:
    await asyncio.sleep(2.5)
    return Answered(said="", prompt_tokens=0, cached_tokens=0, completion_tokens=0, memories=0)


def test_a_caller_who_waits_says_that_it_is_there(caller: Path, tmp_path: Path) -> None:
    async def watch() -> list[str]:
        seen = []
        async with Observer(["dialog"], tmp_path / "run") as observer:
            async with Client("dialog", "test", folder=tmp_path / "run") as client:
                await client.wait_connected()
            done = asyncio.create_task(asyncio.to_thread(run, caller, tmp_path / "run", "ask", "x"))
            async for each in observer:
                seen.append(each.message.body.type_name())
                if seen[-1] == "answered":
                    break
            assert await done == (0, "\n[answered]\n")
        return seen

    with DaemonThread("dialog", {Ask: _slow}, tmp_path / "run"):
        seen = asyncio.run(watch())
    assert seen.count("ping") == seen.count("pong") >= 2
