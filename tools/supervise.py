"""The five daemons as children of this process, with the readiness rules of systemd.

    with Supervisor() as supervisor:
        supervisor.wait_ready(60)
        ...

They die with this process, however it ends.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from daemons import config
from ipc import endpoints
from ipc.errors import EXIT_CONFIG, EXIT_SOFTWARE, EndpointError, TimmyError
from tools.supervision import WATCHDOG_S, Abort, Effect, Kill, Say, Start, Supervision, Terminate

_PR_SET_PDEATHSIG = 1
_WATCHDOG_USEC = str(int(WATCHDOG_S * 1_000_000))
_libc = ctypes.CDLL(None, use_errno=True)

COMMANDS: Mapping[str, Sequence[str]] = {name: (sys.executable, "-m", f"daemons.{name}") for name in endpoints.DAEMONS}

Tell = Callable[[str, str], None]
"""Called from the supervisor's thread with a daemon's name and a line about it."""


class StartError(TimmyError):
    """A daemon cannot start, and starting again will not help."""

    exit_status = EXIT_CONFIG


class Child:
    """One process with its own NOTIFY_SOCKET and log file, in the environment `environ`."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self._command = command
        self._environ = environ
        self._address = endpoints.runtime_dir(environ) / f"{name}.notify"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1
        self._address.unlink(missing_ok=True)
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.channel.bind(str(self._address))

    def start(self) -> None:
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._told(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.pidfd = os.pidfd_open(self._process.pid)

    def _told(self) -> dict[str, str]:
        """Its environment: where it says how it goes, and how often it has to."""
        own = {"NOTIFY_SOCKET": str(self._address), "WATCHDOG_USEC": _WATCHDOG_USEC}
        # WATCHDOG_PID is of whoever watches over this process.
        return {name: value for name, value in self._environ.items() if name != "WATCHDOG_PID"} | own

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def notices(self) -> Iterator[str]:
        """What it has told since last time."""
        with suppress(BlockingIOError):
            while True:
                yield self.channel.recv(4096).decode("utf-8", "replace")

    def signal(self, number: int) -> None:
        """To the process and whatever it has started."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def abort(self) -> None:
        """SIGABRT to the process alone: it logs where each of its threads is."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGABRT)

    def reap(self) -> int:
        """The status of a process that has ended; what it started ends with it."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        os.close(self.pidfd)
        self.pidfd = -1
        return status

    def close(self) -> None:
        self.channel.close()
        self._address.unlink(missing_ok=True)


class Supervisor:
    """A context manager: starts the daemons when entered, ends them when left."""

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]] = COMMANDS,
        *,
        tell: Tell = lambda name, line: None,
        echo_logs: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`tell` hears what happens; with `echo_logs` also every line that the daemons log. `environ`: theirs, and
        where the folders are found."""
        self._commands = commands
        self._tell = tell
        self._echo_logs = echo_logs
        self._environ = environ
        self._core = Supervision(commands)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="supervisor")

    def __enter__(self) -> Self:
        """Raises EndpointError when another supervisor is at work here."""
        runtime = endpoints.runtime_dir(self._environ)
        self._logs = log_dir(self._environ)
        for name in self._commands:
            endpoints.observer_path(name, runtime)
        endpoints.claim_folder(runtime)
        try:
            self._lock = endpoints.Lock(lock_path(runtime))
        except EndpointError as error:
            raise EndpointError(f"{error}: timmy down ends it") from None
        try:
            self._nothing_is_held(runtime)
        except EndpointError:
            self._lock.release()
            raise
        self._children = {
            name: Child(name, command, fresh_log(self._logs / f"{name}.log"), self._environ)
            for name, command in self._commands.items()
        }
        self._tails = {name: (self._logs / f"{name}.log").open("rb") for name in self._commands}
        self._wake, self._waker = socket.socketpair()
        self._thread.start()
        return self

    def _nothing_is_held(self, runtime: Path) -> None:
        """Else the daemons would try in vain, and the end of it would remove sockets that are not ours. Who gives
        commands of their own knows what stands at the sockets (tools/harness: its proxies)."""
        for name in self._commands if self._commands is COMMANDS else ():
            endpoints.nobody_listens((endpoints.socket_path(name, runtime), endpoints.observer_path(name, runtime)))

    def __exit__(self, *exc: object) -> None:
        self._waker.close()
        self._thread.join()
        self._wake.close()
        runtime = endpoints.runtime_dir(self._environ)
        for name, child in self._children.items():
            child.close()
            self._tails[name].close()
            # Left behind only by a daemon that had to be killed.
            for path in (endpoints.socket_path(name, runtime), endpoints.observer_path(name, runtime)):
                path.unlink(missing_ok=True)
        self._lock.release()

    def wait_ready(self, timeout_s: float) -> None:
        """Until all are ready. Raises StartError when one will not be, or not in time."""
        if not self.ready(timeout_s):
            raise StartError(f"not ready within {timeout_s:g} s: see the logs in {self._logs}")

    def ready(self, timeout_s: float = 0.0) -> bool:
        """Whether all are ready, or get so in time. Raises StartError when one never will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._core.all_ready() or self._core.failed, timeout_s)
            for name, reason in self._core.failed.items():
                raise StartError(f"{name} cannot start: {reason or f'see {self._logs / name}.log'}")
            return self._core.all_ready()

    def pid(self, name: str) -> int:
        """Of the process that runs now, or ran last."""
        return self._children[name].pid

    # --- the supervisor's thread ---

    def _run(self) -> None:
        self._do(self._core.begin, time.monotonic())
        stopping = False
        while not self._core.all_over() or not stopping:
            for name, what in self._events(stopping):
                if what == "stop":
                    stopping = True
                    self._do(self._core.stop, time.monotonic())
                else:
                    self._heard(name, what)
            self._do(self._core.tick, time.monotonic())
            self._echo()

    def _events(self, stopping: bool) -> list[tuple[str, str]]:
        """Waits for something to happen: (daemon, "notice" | "exit"), or ("", "stop")."""
        watched = {} if stopping else {self._wake.fileno(): ("", "stop")}
        for name, child in self._children.items():
            watched[child.channel.fileno()] = (name, "notice")
            if child.pidfd >= 0:
                watched[child.pidfd] = (name, "exit")
        poll = select.poll()
        for number in watched:
            poll.register(number, select.POLLIN)
        ready = {number for number, _ in poll.poll(self._patience_ms())}
        return [event for number, event in watched.items() if number in ready]

    def _patience_ms(self) -> int | None:
        due_s = min(self._core.next_due_s, time.monotonic() + _ECHO_S if self._echo_logs else float("inf"))
        return None if due_s == float("inf") else max(0, int((due_s - time.monotonic()) * 1000) + 1)

    def _heard(self, name: str, what: str) -> None:
        child = self._children[name]
        status = child.reap() if what == "exit" else None
        for text in child.notices():
            self._do(self._core.notified, name, text, time.monotonic())
        if status is not None:
            self._do(self._core.exited, name, status, time.monotonic())

    def _do(self, decide: Callable[..., list[Effect]], *args: object) -> None:
        with self._changed:
            effects = decide(*args)
            self._changed.notify_all()
        for effect in effects:
            child = self._children[effect.name]
            match effect:
                case Start():
                    self._start(child)
                case Terminate():
                    child.signal(signal.SIGTERM)
                case Abort():
                    child.abort()
                case Kill():
                    child.signal(signal.SIGKILL)
                case Say(name, text):
                    self._tell(name, text)

    def _start(self, child: Child) -> None:
        try:
            child.start()
        except OSError as error:
            self._tell(child.name, f"cannot be started: {error}")
            self._do(self._core.exited, child.name, EXIT_SOFTWARE, time.monotonic())

    def _echo(self) -> None:
        if self._echo_logs:
            for name, tail in self._tails.items():
                for line in tail.read().decode("utf-8", "replace").splitlines():
                    self._tell(name, line)


_ECHO_S = 0.2


def fresh_log(log: Path) -> Path:
    """`log`, empty, in a folder that is made if need be; the one before is in NAME.log.1. Raises EndpointError."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            log.replace(f"{log}.1")
        log.touch()
    except OSError as error:
        raise EndpointError(f"log {log}: {error.strerror}; set TIMMY_STATE") from None
    return log


def log_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the daemons' logs lie when this supervisor runs them: NAME.log, the one before in NAME.log.1."""
    return config.state_dir(environ) / "log"


def lock_path(runtime: Path) -> Path:
    """Held while a supervisor runs; contains its pid."""
    return runtime / "supervisor.lock"
