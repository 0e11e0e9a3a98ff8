"""Who watches a daemon in `timmy bench ipc`: a tap, a tap that stands still, a recording. Each is a `timmy` process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from tools.bench.peers import AskSoon

BEGUN_S = 10.0
_LOOK_S = 0.05

_COMMANDS = {
    "tapped": ("tap", "memory", "--decode"),
    "stalled_tap": ("tap", "memory", "--decode"),
    "recorded": ("record", "--daemon", "memory"),
}

WATCHED = tuple(_COMMANDS)


@dataclass(frozen=True, slots=True)
class Watcher:
    how: str
    out: Path
    process: subprocess.Popen[bytes]

    async def begun(self, ask: AskSoon) -> None:
        """It writes down what `ask` makes pass, and stands still if it is one that does. Raises ClickException when it
        has not begun within BEGUN_S."""
        before, now = 0, self._written()
        try:
            async with asyncio.timeout(BEGUN_S):
                while not 0 < before < now:  # a recording has a head before it has begun
                    await ask()
                    await asyncio.sleep(_LOOK_S)
                    before, now = now, self._written()
        except TimeoutError:
            raise click.ClickException(f"{self.how}: nothing was seen at the daemon within {BEGUN_S:g} s") from None
        if self.how == "stalled_tap":
            self.process.send_signal(signal.SIGSTOP)

    def _written(self) -> int:
        return self.out.stat().st_size if self.out.exists() else 0


@contextmanager
def watching(how: str, folder: Path) -> Iterator[Watcher]:
    """One of WATCHED, at the daemon `memory` in `folder`."""
    out = folder / "seen"
    command = [sys.executable, "-m", "tools.cli", *_COMMANDS[how], "--out", str(out)]
    environ = {**os.environ, "TIMMY_RUNTIME": str(folder)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield Watcher(how, out, process)
        finally:
            process.kill()
