"""Processes that begin in milliseconds: forked from one that has imported what they need and nothing more."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

PRELOADED = ("tests.support.faulty_disk", "tests.support.fake_house", "daemons.memory.store", "daemons.dialog.journal")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(PRELOADED))


class Forked:
    """A context manager: `work(pipe, *arguments)` in a process of its own, which is killed at the end. `pipe` is the
    other end of `self.pipe`. `work` and its arguments must be known by name (pickle)."""

    def __init__(self, work: Callable[..., object], *arguments: Any) -> None:
        self.pipe, theirs = _context.Pipe()
        self._theirs: Connection = theirs
        self.process: ForkServerProcess = _context.Process(target=work, args=(theirs, *arguments), daemon=True)

    def __enter__(self) -> Forked:
        self.process.start()
        self._theirs.close()
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()

    def said(self, most: int | None = None) -> list[Any]:
        """What it sends, until it ends or has sent `most`."""
        told: list[Any] = []
        with suppress(EOFError, ConnectionResetError):
            while most is None or len(told) < most:
                told.append(self.pipe.recv())
        return told

    def ended(self) -> int | None:
        """Waits for its end. Its exit status; -9 when it was killed."""
        self.process.join()
        return self.process.exitcode
