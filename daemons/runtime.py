"""What every daemon's `__main__` does: configuration, log, socket, readiness, signals, exit status."""

from __future__ import annotations

import asyncio
import faulthandler
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
from daemons.journald import FAILED, READY, REFUSED, RELOADED, STOPPING, JournalHandler, about, stderr_is_journal
from daemons.notify import WATCHDOG, notify, notify_reloading, watchdog_period_s
from ipc.activation import passed_sockets
from ipc.call import Call, Handler
from ipc.endpoints import runtime_dir
from ipc.errors import EXIT_CONFIG, EXIT_OK, CallError, Code, TimmyError
from ipc.limits import TEXT_MAX_CHARS
from ipc.marks import Marker, Marks, Told
from ipc.messages import Body, Result, StatusReport
from ipc.network import listening
from ipc.server import Server
from ipc.text import printable
from ipc.transport import ZmqServerTransport

log = logging.getLogger(__name__)

EXTEND_S = 10
"""While it loads, systemd is asked for so much time more, twice as often."""

LOADING_MAX_S = 600
"""No model takes longer to load; what does hangs, and is left to the supervisor's limit."""

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

    async def beat(self) -> None:
        """Returns once what does the work has got on, at once where nothing is to be done: it feeds the watchdog."""

    live: frozenset[str]
    """Keys of the daemon's table that `adopt` applies while it runs; others need a restart."""

    def adopt(self, config: config.Config) -> None:
        """Works by this configuration from now on, as far as `live` goes."""

    async def close(self) -> None:
        """Frees everything, within 2 s."""


class Make(Protocol):
    """A Service's constructor. It marks the stages of `ipc.marks.Stage` that bear its daemon's name."""

    def __call__(self, config: config.Config, /, *, marks: Marker) -> Service: ...


class _LastError(logging.Handler):
    """Keeps the last warning for `timmy status`."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = printable(record.getMessage()[:TEXT_MAX_CHARS])


class _OneLine(logging.Formatter):
    """One line a record, each begun by the daemon's name; the lines of a traceback are marked as such. What a model or
    a peer has said can neither end a line nor begin one."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: %(message)s")
        self._name = name

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        message, *traceback = super().format(record).split("\n")
        return "\n".join([message, *(f"{self._name}: | {printable(line)}" for line in traceback)])


def begin_log(name: str) -> JournalHandler | None:
    """Logs to stderr, line by line, or to the journal where stderr is that."""
    journal = JournalHandler(name) if stderr_is_journal() else None
    if journal is None:
        # A descriptor of its own: sounddevice turns number 2 away from the terminal whenever it looks for devices.
        stderr = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        handler = logging.StreamHandler(stderr)
        handler.setFormatter(_OneLine(name))
        logging.basicConfig(handlers=[handler], level=logging.INFO)
    else:
        logging.basicConfig(handlers=[journal], level=logging.INFO, format="%(message)s")
    return journal


def main(name: str, make: Make) -> int:
    """Runs one daemon until SIGTERM or SIGINT. Returns its exit status."""
    journal = begin_log(name)
    faulthandler.enable()  # a watchdog ends it by SIGABRT: where it hung
    try:
        logging.getLogger().setLevel(config.log_level())
        return asyncio.run(_Daemon(name, journal.marked if journal else None).run(make))
    except TimmyError as error:
        log.error("%s", error, extra=about(FAILED))
        notify(f"STATUS={error}")
        stays = isinstance(error, CallError) and error.code in STAYS_WRONG
        return EXIT_CONFIG if stays else error.exit_status


class _Daemon:
    def __init__(self, name: str, told: Told | None = None) -> None:
        self._name = name
        self._told = told
        self._state = "loading"
        self._started = time.monotonic()
        self._last_error = _LastError(logging.WARNING)
        logging.getLogger().addHandler(self._last_error)

    async def run(self, make: Make) -> int:
        with closing(Marks(self._name, config.state_dir() / "trace", self._told)) as marks:
            return await self._serve(make, marks)

    async def _serve(self, make: Make, marks: Marker) -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._config = config.load()
        self._service = make(self._config, marks=marks)
        passed = passed_sockets(self._name, runtime_dir())
        network = listening(self._config.network.listen, self._config.network.port, config.keys_dir())
        self._transport = ZmqServerTransport(self._name, runtime_dir(), passed, network)
        gated = {kind: self._gate(handler) for kind, handler in self._service.handlers().items()}
        self._server = Server(self._name, self._transport, gated, self._report, marks)
        self._server.start()
        # What is to be read anew while it loads is read as soon as it has loaded.
        hangup = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, hangup.set)
        try:
            await self._until(stop, self._service.load())
            if not stop.is_set():
                self._state = "ready"
                log.info("ready: %s %s on %s", *_words(self._service.info), extra=about(READY))
                notify(f"READY=1\nSTATUS={self._trouble or 'ready'}")
                await self._work(stop, hangup)
        finally:
            self._state = "stopping"
            notify("STOPPING=1\nSTATUS=stopping")
            log.info("stopping", extra=about(STOPPING))
            await self._service.close()
            await self._server.close()
        return EXIT_OK

    @property
    def _trouble(self) -> str:
        """Of the service, and of its door on a network."""
        return "; ".join(filter(None, (self._service.trouble, self._transport.trouble)))

    async def _work(self, stop: asyncio.Event, hangup: asyncio.Event) -> None:
        beside = [asyncio.ensure_future(self._reload_on(hangup))]
        if (period_s := watchdog_period_s()) is not None:
            beside.append(asyncio.ensure_future(self._feed_watchdog(period_s)))
        await stop.wait()
        for task in beside:
            task.cancel()

    async def _until(self, stop: asyncio.Event, load: Coroutine[Any, Any, None]) -> None:
        """Loads, unless asked to stop first."""
        notify(f"STATUS=loading {' '.join(_words(self._service.info)).strip()}")
        loading = asyncio.ensure_future(load)
        stopping = asyncio.ensure_future(stop.wait())
        began = time.monotonic()
        while not (loading.done() or stop.is_set()):
            await asyncio.wait({loading, stopping}, timeout=EXTEND_S / 2, return_when=asyncio.FIRST_COMPLETED)
            if time.monotonic() - began < LOADING_MAX_S:
                notify(f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1_000_000}")
        stopping.cancel()
        if loading.done():
            loading.result()
        else:
            loading.cancel()

    async def _feed_watchdog(self, period_s: float) -> None:
        """Only what comes through the work itself counts. The status says what changed meanwhile."""
        told = self._trouble
        while True:
            await self._service.beat()
            notify(WATCHDOG)
            if self._trouble != told:
                told = self._trouble
                notify(f"STATUS={told or 'ready'}")
            await asyncio.sleep(period_s)

    # --- the configuration, anew ---

    async def _reload_on(self, hangup: asyncio.Event) -> None:
        while True:
            await hangup.wait()
            hangup.clear()
            notify_reloading()
            notify(f"READY=1\nSTATUS={self._reload()}")

    def _reload(self) -> str:
        """Takes over what can be; what it says is the status. A file with a mistake changes nothing."""
        try:
            fresh = config.load()
        except TimmyError as error:
            log.error("the configuration stays as it was: %s", error, extra=about(REFUSED))
            return f"the configuration stays as it was: {error}"
        changed = config.changed_keys(self._name, self._config, fresh)
        door = [f"network.{key}" for key in config.changed_keys("network", self._config, fresh)]
        waiting = [f"{self._name}.{key}" for key in changed if key not in self._service.live] + door
        self._service.adopt(fresh)
        # What waits is compared with what is in force the next time, too.
        self._config = config.with_keys_of(self._name, self._config, fresh, self._service.live)
        said = f"configuration read again, {len(changed) + len(door) - len(waiting)} keys changed"
        if waiting:
            said += f"; {', '.join(waiting)} will hold after a restart"
        log.info("%s", said, extra=about(RELOADED))
        return said

    def _gate(self, handler: Handler) -> Handler:
        def handle(call: Call) -> Awaitable[Result] | Result:
            if self._state == "loading":
                raise CallError(Code.NOT_READY, f"{self._name} is still loading: ask again in a moment")
            return handler(call)

        return handle

    def _report(self) -> StatusReport:
        info = self._service.info
        return StatusReport(
            daemon=self._name,
            # Its own work is as good with a door that is shut: who asks whether it can be heard reads this.
            state="degraded" if self._state == "ready" and self._service.trouble else self._state,
            detail=self._trouble,
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
