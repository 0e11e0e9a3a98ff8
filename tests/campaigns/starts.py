"""Campaign 15: the daemons in every order, and each of them twice. In the end they answer; the second one refuses."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.errors import EXIT_CANT_CREATE, CallError, Code
from ipc.messages import Answered, Ask, Status, StatusReport
from tests.support import fake_house
from tests.support.fake_house import ANSWER
from tests.support.forked import Forked

ORDERS = tuple(itertools.permutations(DAEMONS))
PATIENCE_S = 30.0
"""Only a daemon that never answers takes so long."""
AGAIN = 4
"""In one of so many orders a daemon is started for the second time."""
WAITS = (0.0, 0.0, 0.02, 0.1)
"""Seconds between one start and the next."""

Start = Callable[[str, Path], Forked]


def run(count: int, seed: int, start: Start = fake_house.start) -> dict[str, int]:
    """`count` orders, each followed by second starts. Raises AssertionError with the order's own seed."""
    chance = random.Random(seed)
    orders = [*ORDERS] * (count // len(ORDERS)) + chance.sample(ORDERS, count % len(ORDERS))
    chance.shuffle(orders)
    for number, order in enumerate(orders):
        twice = DAEMONS[number // AGAIN % len(DAEMONS)] if number % AGAIN == 0 else None
        try:
            once(order, twice, random.Random(f"{seed}:{number}"), start)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"order {number} of seed {seed}, {' '.join(order)}: {error!r}") from error
    return {"orders": count, "second starts refused": -(-count // AGAIN)}


def once(order: tuple[str, ...], twice: str | None, chance: random.Random, start: Start = fake_house.start) -> None:
    """One order and a question; then `twice` is started once more, and there is another question."""
    with tempfile.TemporaryDirectory(prefix="timmy-") as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "run").mkdir(0o700)
        running = {}
        for daemon in order:
            running[daemon] = stack.enter_context(start(daemon, folder))
            time.sleep(chance.choice(WAITS))
        pids = {twice: running[twice].process.pid} if twice else {}
        asyncio.run(_answers(folder, pids))
        for daemon, pid in pids.items():
            before = _sockets(folder, daemon)
            _second(daemon, folder, pid, start)
            assert _sockets(folder, daemon) == before, f"the second {daemon} touched the sockets"
            asyncio.run(_answers(folder, pids))


def _second(daemon: str, folder: Path, pid: int | None, start: Start) -> None:
    """A second one refuses in one line and leaves the first alone."""
    path = folder / f"{daemon}.log"
    said = path.stat().st_size
    with start(daemon, folder) as second:
        second.process.join(PATIENCE_S)
        status = second.process.exitcode
    assert status == EXIT_CANT_CREATE, f"a second {daemon} ended with {status}"
    lines = path.read_bytes()[said:].decode().splitlines()
    own = [line for line in lines if "running already" in line]
    assert own == [f"{daemon}: {daemon} is running already (pid {pid})"], f"a second {daemon} said {lines}"
    assert not re.search("Traceback", "\n".join(lines)), f"a second {daemon} ended in a traceback"


def _sockets(folder: Path, daemon: str) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (folder / "run").glob(f"{daemon}.*")}


async def _answers(folder: Path, pids: Mapping[str, int | None]) -> None:
    """dialog answers; so do those of `pids`, from the process that is named."""
    run_folder = folder / "run"
    async with asyncio.timeout(PATIENCE_S), Client("dialog", "test", folder=run_folder) as dialog:
        await dialog.wait_connected(PATIENCE_S)
        said = await _ask(dialog)
        assert said == ANSWER, f"the answer was {said!r}"
        for daemon, pid in pids.items():
            async with Client(daemon, "test", folder=run_folder) as client:
                await client.wait_connected(PATIENCE_S)
                report: Any = await client.request(Status())
                assert isinstance(report, StatusReport)
                assert report.pid == pid, f"{daemon} is process {report.pid}, not {pid}"


async def _ask(dialog: Client) -> str:
    """A caller may be told that a daemon loads, or has not come yet; he asks again."""
    while True:
        try:
            answered = await dialog.request(Ask(conversation="home", text="Where is it?", speak=True), ttl_ms=20_000)
        except CallError as error:
            if error.code not in (Code.NOT_READY, Code.PEER_GONE, Code.ENGINE_FAILED):
                raise AssertionError(f"asked too early, dialog says {error}") from error
            await asyncio.sleep(0.02)
        else:
            assert isinstance(answered, Answered)
            return answered.said
