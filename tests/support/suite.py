"""All five daemons with their real engines, and what tests do with them."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from ipc.client import Client
from ipc.errors import CallError
from ipc.messages import Status, StatusReport
from tools.supervise import Supervisor

READY_S = 120.0
ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"


@contextmanager
def house(state: Path, environ: Mapping[str, str] | None = None) -> Iterator[None]:
    """An environment of its own for daemons and tools: sockets and memories in folders of the test."""
    with tempfile.TemporaryDirectory(prefix="timmy-") as runtime:
        own = {"TIMMY_RUNTIME": runtime, "TIMMY_STATE": str(state), **(environ or {})}
        with mock.patch.dict(os.environ, own):
            yield


@contextmanager
def running() -> Iterator[Supervisor]:
    """The five daemons of the present house, ready."""
    with Supervisor() as supervisor:
        supervisor.wait_ready(READY_S)
        yield supervisor


async def pid_of(daemon: str) -> int:
    async with Client(daemon, "test") as client:
        report = await client.request(Status())
    assert isinstance(report, StatusReport)
    return report.pid


async def kill(daemon: str) -> int:
    """kill -9; returns the pid that is gone."""
    pid = await pid_of(daemon)
    os.kill(pid, signal.SIGKILL)
    return pid


async def until_back(daemon: str, old_pid: int) -> None:
    """Until supervision has brought up another process that serves. pytest's time-out ends a vain wait."""
    while True:
        try:
            async with Client(daemon, "test") as client:
                report = await client.request(Status())
                assert isinstance(report, StatusReport)
                if report.pid != old_pid and report.state in ("ready", "degraded"):
                    return
        except CallError:
            pass
        await asyncio.sleep(0.05)
