"""The five daemons under their supervisor, in a temporary folder."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Self

from daemons.orders import Orders
from ipc.endpoints import DAEMONS
from ipc.messages import Body, Status, StatusReport
from tools.harness import processes
from tools.harness.place import PATIENCE_S, HarnessError, Place
from tools.harness.proxy import Hop
from tools.harness.talk import Line, Reply
from tools.supervise import Supervisor

READY_S = 120.0
"""Real engines load their models."""
_LOOK_S = 0.02


class House:
    """A context manager: all five ready when entered, as `timmy up` runs them.

    with House(hops=["llm"]) as house:
        house.hop("llm").faults = HopFaults(delay_ms=50)
        reply = house.ask("dialog", Ask(conversation="test", text="Well?"))

    Whatever dies is started again. `tell` hears what the supervisor says. The rest is as for `Daemon`.
    """

    def __init__(
        self,
        *,
        engines: str = "fake",
        settings: Mapping[str, str] | None = None,
        limits: Mapping[str, Mapping[str, int]] | None = None,
        hops: Sequence[str] = (),
        disk_bytes: int = 0,
        orders: Mapping[str, Orders] | None = None,
        tell: Callable[[str, str], None] = lambda name, line: None,
    ) -> None:
        self.place = Place(engines, settings, disk_bytes)
        self._limits = limits or {}
        self._hops = hops
        self._orders = orders or {}
        self._tell = tell
        self._stack = ExitStack()
        self._lines: dict[str, Line] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.place)
            for name in self._hops:
                self.place.hop(name)
            commands = {}
            for name in DAEMONS:
                if self.place.engines == "fake":
                    self.place.order(name, self._orders.get(name, Orders()))
                commands[name] = self.place.command(name, self._limits.get(name, {}))
            self.supervisor = stack.enter_context(Supervisor(commands, tell=self._tell, environ=self.place.environ))
            self.supervisor.wait_ready(READY_S)
            for name in DAEMONS:
                self._lines[name] = stack.enter_context(Line(name, self.place.run))
                self._lines[name].wait(self.pid(name))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def hop(self, name: str) -> Hop:
        """The proxy before a daemon, if `hops` names it."""
        return self.place.hops[name]

    # --- requests ---

    def ask(self, daemon: str, body: Body, *items: Body | tuple[Body, bytes], ttl_ms: int = 5000) -> Reply:
        """As `Daemon.ask`."""
        return self._lines[daemon].ask(body, *items, ttl_ms=ttl_ms)

    def line(self, daemon: str) -> Line:
        """The connection that `ask` uses."""
        return self._lines[daemon]

    def status(self, daemon: str) -> StatusReport | None:
        """None: it does not answer."""
        result = self.ask(daemon, Status(), ttl_ms=1000).result
        return result if isinstance(result, StatusReport) else None

    # --- faults ---

    def pid(self, daemon: str) -> int:
        """Of the process that the supervisor runs now."""
        return self.supervisor.pid(daemon)

    def kill(self, daemon: str) -> int:
        """kill -9; returns the pid that is gone. The supervisor starts another process."""
        pid = self.pid(daemon)
        os.kill(pid, signal.SIGKILL)
        return pid

    def until_back(self, daemon: str, old_pid: int, timeout_s: float = PATIENCE_S) -> float:
        """Waits for another process that serves; how many seconds that took. Raises HarnessError."""
        began = time.monotonic()
        while time.monotonic() < began + timeout_s:
            report = self.status(daemon)
            if report is not None and report.pid != old_pid and report.state in ("ready", "degraded"):
                return time.monotonic() - began
            time.sleep(_LOOK_S)
        raise HarnessError(f"{daemon} was not back within {timeout_s:g} s")

    def stopped(self, daemon: str) -> AbstractContextManager[None]:
        """`with house.stopped("llm"):` it stands still (SIGSTOP)."""
        return processes.stopped(self.pid(daemon))

    def engine(self, daemon: str, **orders: Any) -> None:
        """As `Daemon.engine`."""
        self.place.order(daemon, Orders(**orders))
