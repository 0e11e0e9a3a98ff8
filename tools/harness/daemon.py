"""One daemon alone, as its real process, in a temporary folder."""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Self

from daemons.orders import Orders
from ipc.messages import Body, Status, StatusReport
from tools.harness import processes
from tools.harness.place import PATIENCE_S, HarnessError, Place
from tools.harness.proxy import Hop
from tools.harness.talk import Line, Open, Reply
from tools.supervise import Child, fresh_log, log_dir

ABORT_S = 2.0
"""An aborted daemon has written by then where it was."""

LOG_END_CHARS = 4000


class Daemon:
    """A context manager: ready when entered.

    with Daemon("llm") as llm:
        reply = llm.ask(Generate(messages=[...], max_tokens=8))

    Its engines are fakes that know what the daemon asks them at its start, unless `engines` is "real". `settings`:
    TIMMY_* variables. `limits`: as prlimit(1) names them, e.g. {"nofile": 40}. `hop`: a proxy stands before it.
    `disk_bytes`: its state lies on a disk of that size, which `place.fill_disk()` fills.
    `orders`: what its fake engines are told before it starts. `place`: another one's folder, to start it beside others.
    """

    def __init__(
        self,
        name: str,
        *,
        engines: str = "fake",
        settings: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
        hop: bool = False,
        disk_bytes: int = 0,
        orders: Orders | None = None,
        place: Place | None = None,
    ) -> None:
        self.name = name
        self._own = None if place else Place(engines, settings, disk_bytes)
        self._given = place
        self._limits = limits or {}
        self._with_hop = hop
        self._orders = orders or Orders()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Raises HarnessError with the last line of its log when it does not get ready."""
        with ExitStack() as stack:
            self.place = self._given or stack.enter_context(self._own or Place())
            if self._with_hop:
                self.place.hop(self.name)
            if self.place.engines == "fake":
                self.place.order(self.name, self._orders)
            self.log = fresh_log(log_dir(self.place.environ) / f"{self.name}.log")
            command = self.place.command(self.name, self._limits)
            self._child = Child(self.name, command, self.log, self.place.environ)
            stack.callback(self._child.close)
            stack.callback(self.end)
            self._child.start()
            self._until_ready()
            # Not before: who connects in vain waits longer and longer before the next try.
            self._line = stack.enter_context(Line(self.name, self.place.run))
            self._line.wait(self.pid)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    # --- its life ---

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.pidfd >= 0 and not _readable(self._child.pidfd, 0)

    @property
    def hop(self) -> Hop:
        """The proxy before it, if it was asked for."""
        return self.place.hops[self.name]

    def start(self, wait: bool = True) -> None:
        """Starts it, for the first time or again after its end; returns when it is ready."""
        for _ in self._child.notices():  # of the life before
            pass
        self._child.start()
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Raises HarnessError when it ends instead, or takes too long."""
        self._until_ready()
        self._line.wait(self.pid)

    def _until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        told = ""
        while "READY=1" not in told.splitlines():
            watched = {self._child.channel.fileno(), self._child.pidfd}
            ready, _, _ = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))
            told = "\n".join(self._child.notices())
            if "READY=1" not in told.splitlines() and (not ready or self._child.pidfd in ready):
                how = "ended" if ready else f"was not ready within {PATIENCE_S:g} s"
                raise HarnessError(f"{self.name} {how}: {self.last_line()}")

    def kill(self) -> None:
        """kill -9; returns when it has gone. `start` starts it again."""
        self._child.signal(signal.SIGKILL)
        self._child.reap()

    def end(self) -> int:
        """SIGTERM, and its exit status (negative: the signal that ended it); 0 when it does not run."""
        if self._child.pidfd < 0:
            return 0
        if self.running:
            processes.go_on(self.pid)
        self._child.signal(signal.SIGTERM)
        return self.wait_end()

    def wait_end(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit status, when it ends by itself. One that does not is aborted. Raises HarnessError then, with the end
        of its log, which tells where it was."""
        if not _readable(self._child.pidfd, timeout_s):
            self._child.signal(signal.SIGABRT)
            _readable(self._child.pidfd, ABORT_S)
            self.kill()
            told = self.log.read_text("utf-8", "replace")[-LOG_END_CHARS:]
            raise HarnessError(f"{self.name} did not end within {timeout_s:g} s and was aborted:\n{told}")
        return self._child.reap()

    def stopped(self) -> AbstractContextManager[None]:
        """`with llm.stopped():` it stands still (SIGSTOP)."""
        return processes.stopped(self.pid)

    def limit(self, what: str, value: int) -> None:
        """A soft limit for the running process: "nofile", "as" or "fsize"."""
        processes.limit(self.pid, what, value)

    def engine(self, **orders: Any) -> None:
        """Orders for its fake engine, as for `Orders`: in force at once. Without arguments it is well again."""
        self.place.order(self.name, Orders(**orders))

    def last_line(self) -> str:
        """What it logged last."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return lines[-1] if lines else "it logged nothing"

    # --- requests, see tools.harness.talk ---

    def ask(self, body: Body, *items: Body | tuple[Body, bytes], ttl_ms: int = 5000) -> Reply:
        return self._line.ask(body, *items, ttl_ms=ttl_ms)

    def open(self, body: Body, *, ttl_ms: int = 0) -> Open:
        return self._line.open(body, ttl_ms=ttl_ms)

    def status(self) -> StatusReport:
        """Raises HarnessError when it does not answer."""
        reply = self.ask(Status())
        if not isinstance(reply.result, StatusReport):
            raise HarnessError(f"{self.name} does not tell its status: {reply.detail}")
        return reply.result


def _readable(descriptor: int, timeout_s: float) -> bool:
    return bool(select.select([descriptor], [], [], timeout_s)[0])
