"""A daemon on real sockets in a thread of its own, for tests of programs that run to their end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ipc.call import Handler
from ipc.messages import Body, StatusReport
from ipc.server import Server
from ipc.transport import ZmqServerTransport


class DaemonThread:
    """A context manager that serves `handlers` under a daemon's name. `states`: what it says when it is asked for the
    first time, the second, and so on; it stays in the last."""

    def __init__(self, name: str, handlers: Mapping[type[Body], Handler], folder: Path, *states: str) -> None:
        self._name, self._handlers, self._folder = name, handlers, folder
        self._states = list(states or ("ready",))
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = Server(self._name, ZmqServerTransport(self._name, self._folder), self._handlers, self._report)
        server.start()
        self._up.set()
        await self._end.wait()
        await server.close()

    def _report(self) -> StatusReport:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return StatusReport(
            daemon=self._name,
            state=state,
            detail="no microphone" if state == "degraded" else "",
            engine="fake",
            model="none",
            device="cpu",
            pid=os.getpid(),
            uptime_s=3725.0,
            rss_bytes=123_456_789,
            requests_open=0,
            last_error="",
        )
