"""Tells when the process at the other end of a connection has ended. libzmq does not tell it of a ROUTER's peers; the
kernel does (pidfd_open(2))."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


class Processes:
    """Calls `ended` with the number of a watched process once it has ended. Lives on the running loop."""

    def __init__(self, ended: Callable[[int], None]) -> None:
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._watched: dict[int, int] = {}

    def watch(self, pid: int) -> None:
        """Twice is once. One that cannot be watched (it has ended already, or the kernel refuses) is not told of: then
        its silence has to tell."""
        if pid in self._watched:
            return
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return
        self._watched[pid] = fd
        self._loop.add_reader(fd, self._over, pid)

    def close(self) -> None:
        for pid in list(self._watched):
            self._leave(pid)

    def _over(self, pid: int) -> None:
        self._leave(pid)
        self._ended(pid)

    def _leave(self, pid: int) -> None:
        fd = self._watched.pop(pid)
        self._loop.remove_reader(fd)
        os.close(fd)
