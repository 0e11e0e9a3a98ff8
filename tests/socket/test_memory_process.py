"""`python -m daemons.memory` as a process of its own, with the real models."""

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

from daemons import config
from ipc.client import Client
from ipc.errors import EXIT_CONFIG, EXIT_OK
from ipc.messages import ListMemories, MemoryPage, Remember, Remembered, Status, StatusReport

pytestmark = pytest.mark.models

SLOW_S = 120.0


@contextmanager
def daemon(folder: Path) -> Iterator[subprocess.Popen[str]]:
    (folder / "run").mkdir(mode=0o700, exist_ok=True)
    places = {
        "TIMMY_RUNTIME": str(folder / "run"),
        "TIMMY_STATE": str(folder / "state"),
        "TIMMY_CACHE": str(config.cache_dir()),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "daemons.memory"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **places},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def ready(client: Client) -> StatusReport:
    await client.wait_connected(SLOW_S)
    while True:
        status = await client.request(Status())
        assert isinstance(status, StatusReport)
        if status.state != "loading":
            return status


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    async def keep() -> Remembered:
        async with asyncio.timeout(SLOW_S), Client("memory", "test", folder=tmp_path / "run") as client:
            assert (await ready(client)).state == "ready"
            result = await client.request(Remember(heard="Remember that the spare key is under the flower pot."))
            assert isinstance(result, Remembered)
            return result

    async def look() -> MemoryPage:
        async with asyncio.timeout(SLOW_S), Client("memory", "test", folder=tmp_path / "run") as client:
            status = await ready(client)
            assert (status.engine, status.model) == ("onnxruntime", "minilm")
            result = await client.request(ListMemories())
            assert isinstance(result, MemoryPage)
            return result

    with daemon(tmp_path) as process:
        kept = asyncio.run(keep())
        process.send_signal(signal.SIGKILL)
        process.wait()
    with daemon(tmp_path) as process:
        page = asyncio.run(look())
        assert [(memory.id, memory.text) for memory in page.memories] == [(kept.id, kept.text)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == EXIT_OK


def test_a_damaged_store_is_one_line_and_a_status_of_its_own(tmp_path: Path) -> None:
    database = tmp_path / "state" / "memory" / "memory.db"
    database.parent.mkdir(parents=True, mode=0o700)
    database.write_bytes(b"noise " * 2000)
    with daemon(tmp_path) as process:
        _, log = process.communicate(timeout=SLOW_S)
        assert process.returncode == EXIT_CONFIG
        assert f"memory: {database} is damaged" in log.splitlines()[-1]
        assert "Traceback" not in log
    assert database.read_bytes() == b"noise " * 2000
