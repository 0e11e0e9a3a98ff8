"""A caller whose process is killed: the kernel tells the daemon, which waits for no silence."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from daemons.engines.fakes_stt import FakeTranscriber
from ipc import limits
from ipc.audio import silence
from ipc.call import Call
from ipc.messages import Feed, Muted, Recall, Result, Status, TurnFinal
from ipc.processes import Processes
from tests.socket.rig import DAEMON, HANG_S, Blocked, Wire, run, until
from tests.socket.test_stt_service import LOUD, fake, feed, next_of

_ASKS = """
import asyncio, sys, time
from pathlib import Path
from ipc.client import Client
from ipc.messages import Mute, Recall

async def ask():
    async with Client(sys.argv[1], "killed", folder=Path(sys.argv[2])) as client:
        await client.wait_connected()
        asks = {"recall": Recall(text="a", limit=1), "mute": Mute(conversation="wav", from_ns=0, lease_ms=30_000)}
        await client.request(asks[sys.argv[3]])
        print("answered", flush=True)
        await asyncio.sleep(60)

asyncio.run(ask())
"""


@contextmanager
def asking(daemon: str, folder: Path, what: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _ASKS, daemon, str(folder), what], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence tells nothing here."""
    monkeypatch.setattr(limits, "CLIENT_SILENCE_S", 3600.0)


def test_what_it_asked_for_ends_and_its_farewell_is_said(sockets: Wire, no_sweep: None) -> None:
    blocked = Blocked()
    parted: list[str] = []

    async def recall(call: Call) -> Result:
        for word in ("of another day", "parted"):
            call.caller.farewells["test"] = partial(parted.append, word)
        return await blocked(call)

    async def test() -> None:
        assert sockets.folder is not None
        async with sockets.pair({Recall: recall}) as (server, client):
            with asking(DAEMON, sockets.folder, "recall") as process:
                await blocked.started.wait()
                assert (server.requests_open, parted) == (1, [])
                process.kill()
                await blocked.cancelled.wait()
                await until(lambda: server.requests_open == 0)
            assert parted == ["parted"]
            assert await client.request(Status())  # nobody else's connection has ended

    run(test())


def test_the_mutes_of_a_dead_dialog_end_with_what_it_let_sound(tmp_path: Path, no_sweep: None) -> None:
    async def test() -> None:
        async with fake(tmp_path, FakeTranscriber()) as (_, client, listening):
            microphone = client.open(Feed(conversation="wav"))
            await feed(microphone, silence(100))
            with asking("stt", tmp_path, "mute") as process:
                assert process.stdout is not None
                assert await asyncio.to_thread(process.stdout.readline) == "answered\n"
                await feed(microphone, LOUD * 20)
            died_ns = time.monotonic_ns()
            await feed(microphone, silence(600) + LOUD * 20 + silence(600))
            assert (await next_of(listening, Muted)).dropped_ms == pytest.approx(400, abs=40)
            assert (await next_of(listening, TurnFinal)).last_voiced_ns > died_ns
            microphone.end()
            await microphone.result()

    run(test())


@contextmanager
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def _descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_a_process_is_watched_once_and_no_descriptor_is_left() -> None:
    async def test() -> None:
        ended: list[int] = []
        processes = Processes(ended.append)
        before = _descriptors()
        with sleeping() as first, sleeping() as second:
            for process in (first, second, second):
                processes.watch(process.pid)
            assert len(_descriptors()) == len(before) + 2
            second.kill()
            await until(lambda: ended)
            processes.close()
        processes.watch(first.pid)  # there is none any more
        await asyncio.sleep(0)
        assert ended == [second.pid]
        assert _descriptors() == before

    asyncio.run(asyncio.wait_for(test(), HANG_S))
