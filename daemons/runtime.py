"""What every daemon's `__main__` does: configuration, log, socket, readiness, signals, exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Coroutine, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from daemons import config
from daemons.engines.base import EngineInfo
from daemons.notify import notify
from ipc.endpoints import runtime_dir
from ipc.errors import EXIT_CONFIG, EXIT_OK, CallError, Code, TimmyError
from ipc.limits import TEXT_MAX_CHARS
from ipc.marks import Marker, Marks
from ipc.messages import Body, Result, StatusReport
from ipc.server import Call, Handler, Server
from ipc.transport import ZmqServerTransport

log = logging.getLogger(__name__)

STAYS_WRONG = frozenset(
    {Code.MODEL_MISSING, Code.MODEL_DAMAGED, Code.STORE_DAMAGED, Code.STORE_NEWER, Code.STORE_READ_ONLY}
)
"""Starting again does not help against these: the exit status says so to the supervisor."""


class Service(Protocol):
    """A daemon's own part. `load` makes it useful."""

    info: EngineInfo

    @property
    def trouble(self) -> str:
        """Why it works less well than it should ("no microphone"), else empty."""

    def handlers(self) -> Mapping[type[Body], Handler]:
        """What it serves. Before `load` has returned, the runtime answers `not_ready` for it."""

    async def load(self) -> None:
        """Loads, warms up and passes a known-answer check. Raises CallError or TimmyError."""

    async def close(self) -> None:
        """Frees everything, within 2 s."""


class Make(Protocol):
    """A Service's constructor. It marks the stages of `ipc.marks.Stage` that bear its daemon's name."""

    def __call__(self, config: config.Config, /, *, marks: Marker) -> Service: ...


class _LastError(logging.Handler):
    """Keeps the last warning for `timmy status`."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()[:TEXT_MAX_CHARS]


def main(name: str, make: Make) -> int:
    """Runs one daemon until SIGTERM or SIGINT. Returns its exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"{name}: %(message)s")
    try:
        logging.getLogger().setLevel(config.log_level())
        return asyncio.run(_Daemon(name).run(make))
    except TimmyError as error:
        log.error("%s", error)
        notify(f"STATUS={error}")
        stays = isinstance(error, CallError) and error.code in STAYS_WRONG
        return EXIT_CONFIG if stays else error.exit_status


class _Daemon:
    def __init__(self, name: str) -> None:
        self._name = name
        self._state = "loading"
        self._started = time.monotonic()
        self._last_error = _LastError(logging.WARNING)
        logging.getLogger().addHandler(self._last_error)

    async def run(self, make: Make) -> int:
        with closing(Marks(self._name, config.state_dir() / "trace")) as marks:
            return await self._serve(make, marks)

    async def _serve(self, make: Make, marks: Marker) -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._service = make(config.load(), marks=marks)
        transport = ZmqServerTransport(self._name, runtime_dir())
        gated = {kind: self._gate(handler) for kind, handler in self._service.handlers().items()}
        self._server = Server(self._name, transport, gated, self._report, marks)
        self._server.start()
        try:
            await self._until(stop, self._service.load())
            if not stop.is_set():
                self._state = "ready"
                log.info("ready: %s %s on %s", *_words(self._service.info))
                notify(f"READY=1\nSTATUS={self._service.trouble or 'ready'}")
                await stop.wait()
        finally:
            self._state = "stopping"
            notify("STOPPING=1")
            await self._service.close()
            await self._server.close()
        return EXIT_OK

    async def _until(self, stop: asyncio.Event, load: Coroutine[Any, Any, None]) -> None:
        """Loads, unless asked to stop first."""
        notify("STATUS=loading")
        loading = asyncio.ensure_future(load)
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if loading.done():
            loading.result()
        else:
            loading.cancel()

    def _gate(self, handler: Handler) -> Handler:
        def handle(call: Call) -> Awaitable[Result] | Result:
            if self._state == "loading":
                raise CallError(Code.NOT_READY, f"{self._name} is still loading: ask again in a moment")
            return handler(call)

        return handle

    def _report(self) -> StatusReport:
        trouble = self._service.trouble
        info = self._service.info
        return StatusReport(
            daemon=self._name,
            state="degraded" if self._state == "ready" and trouble else self._state,
            detail=trouble,
            engine=info.engine,
            model=info.model,
            device=info.device,
            pid=os.getpid(),
            uptime_s=time.monotonic() - self._started,
            rss_bytes=resident_bytes(),
            requests_open=self._server.requests_open,
            last_error=self._last_error.text,
        )


def _words(info: EngineInfo) -> tuple[str, str, str]:
    return info.engine, info.model, info.device


def resident_bytes(pid: int | str = "self") -> int:
    """Resident set of a process (proc(5), statm field 2)."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * resource.getpagesize()
