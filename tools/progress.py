"""How a fetch is shown: a bar with size and speed on a terminal, a line at the end anywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from tools.show import human_bytes

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressShown:
    """A context manager that can be called with (name, bytes here, bytes in all)."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn("{task.description:14}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bars = Progress(*columns, console=Console(stderr=True))
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, name: str, done: int, total: int) -> None:
        if self._bars is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total)
            self._bars.update(self._tasks[name], completed=done, total=total)
        else:
            self._in_lines(name, done, total)

    def _in_lines(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if name not in self._begun:
            self._begun[name] = (now, done)
            click.echo(f"{name:14} {human_bytes(total)} to fetch, {human_bytes(done)} here", err=True)
        if done == total:
            since, had = self._begun.pop(name)
            speed = (done - had) / max(now - since, 1e-3)
            click.echo(f"{name:14} fetched, {human_bytes(int(speed))}/s", err=True)
