"""When a daemon is started, given up, ended or killed: events and a clock in, effects out. Pure.

starting --READY=1--> ready --exit--> waiting --its delay--> starting
starting --exit 78--> failed                 (starting again does not help)
ready --no WATCHDOG=1--> hung --exit--> waiting    (aborted, and killed when it takes longer than GRACE_S)
any --stop--> stopping --exit--> stopped     (killed when it takes longer than GRACE_S)
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from ipc.errors import EXIT_CONFIG

FIRST_DELAY_S = 0.25
DELAY_MAX_S = 10.0
STEADY_S = 30.0
"""Whoever ran this long starts again without the delays of earlier deaths."""
GRACE_S = 2.2
"""From SIGTERM or SIGABRT to SIGKILL: daemons free everything within 2 s, and all must be over within 3."""
WATCHDOG_S = 60.0
"""Who was ready and says nothing of its work for so long hangs: as in the longest of systemd's units."""


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    HUNG = "hung"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Start:
    name: str


@dataclass(frozen=True, slots=True)
class Terminate:
    name: str


@dataclass(frozen=True, slots=True)
class Abort:
    """The daemon shall show in its log where it hangs, and end."""

    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    name: str


@dataclass(frozen=True, slots=True)
class Say:
    """Something that a person should see."""

    name: str
    text: str


Effect = Start | Terminate | Abort | Kill | Say
_RUNNING = (Phase.STARTING, Phase.READY, Phase.HUNG)
_OVER = (Phase.FAILED, Phase.STOPPED)


@dataclass(slots=True)
class _Daemon:
    phase: Phase = Phase.STOPPED
    status: str = ""
    started_s: float = 0.0
    deaths: int = 0
    due_s: float = field(default=float("inf"))


class Supervision:
    """What the supervisor knows of its daemons. Times are seconds of any one clock."""

    def __init__(self, names: Iterable[str]) -> None:
        self._daemons = {name: _Daemon() for name in names}
        self._stopping = False

    def all_ready(self) -> bool:
        return all(daemon.phase is Phase.READY for daemon in self._daemons.values())

    def all_over(self) -> bool:
        return all(daemon.phase in _OVER for daemon in self._daemons.values())

    @property
    def failed(self) -> dict[str, str]:
        """The daemons that will not be started again, each with its last words."""
        return {name: d.status for name, d in self._daemons.items() if d.phase is Phase.FAILED}

    @property
    def next_due_s(self) -> float:
        """When `tick` is due; infinity: only after another event."""
        return min(daemon.due_s for daemon in self._daemons.values())

    def begin(self, now_s: float) -> list[Effect]:
        return [self._start(name, now_s) for name in self._daemons]

    def notified(self, name: str, text: str, now_s: float) -> list[Effect]:
        """A daemon told how it goes, in the lines of sd_notify(3)."""
        daemon = self._daemons[name]
        told = dict(line.partition("=")[::2] for line in text.splitlines())
        said: list[Effect] = []
        if told.get("STATUS", daemon.status) != daemon.status:
            daemon.status = told["STATUS"]
            said.append(Say(name, daemon.status))
        if told.get("READY") == "1" and daemon.phase is Phase.STARTING:
            daemon.phase = Phase.READY
            daemon.due_s = now_s + WATCHDOG_S
            said = [Say(name, "ready" if daemon.status in ("", "ready") else f"ready, but {daemon.status}")]
        if told.get("WATCHDOG") == "1" and daemon.phase is Phase.READY:
            daemon.due_s = now_s + WATCHDOG_S
        return said

    def exited(self, name: str, status: int, now_s: float) -> list[Effect]:
        """`status` as subprocess gives it: negative is the signal that ended it."""
        daemon = self._daemons[name]
        daemon.due_s = float("inf")
        if self._stopping:
            daemon.phase = Phase.STOPPED
            return []
        if status == EXIT_CONFIG:
            daemon.phase = Phase.FAILED
            return [Say(name, "cannot work as it is set up; not started again")]
        daemon.deaths = 1 if now_s - daemon.started_s >= STEADY_S else daemon.deaths + 1
        delay_s = min(FIRST_DELAY_S * 2 ** (daemon.deaths - 1), DELAY_MAX_S)
        daemon.phase = Phase.WAITING
        daemon.due_s = now_s + delay_s
        return [Say(name, f"{ending(status)}; starts again in {delay_s:g} s")]

    def stop(self, now_s: float) -> list[Effect]:
        self._stopping = True
        effects: list[Effect] = []
        for name, daemon in self._daemons.items():
            if daemon.phase in _RUNNING:
                daemon.phase = Phase.STOPPING
                daemon.due_s = now_s + GRACE_S
                effects.append(Terminate(name))
            elif daemon.phase is Phase.WAITING:
                daemon.phase = Phase.STOPPED
                daemon.due_s = float("inf")
        return effects

    def tick(self, now_s: float) -> list[Effect]:
        """Does what is due."""
        effects: list[Effect] = []
        for name, daemon in self._daemons.items():
            if daemon.due_s > now_s:
                continue
            daemon.due_s = float("inf")
            if daemon.phase is Phase.WAITING:
                effects.append(self._start(name, now_s))
            elif daemon.phase is Phase.READY:
                daemon.phase, daemon.due_s = Phase.HUNG, now_s + GRACE_S
                effects += [Say(name, f"hangs: its work stands still since {WATCHDOG_S:g} s; aborted"), Abort(name)]
            else:
                effects += [Say(name, f"did not end within {GRACE_S:g} s: killed"), Kill(name)]
        return effects

    def _start(self, name: str, now_s: float) -> Start:
        daemon = self._daemons[name]
        daemon.phase, daemon.status, daemon.started_s = Phase.STARTING, "", now_s
        daemon.due_s = float("inf")
        return Start(name)


def ending(status: int) -> str:
    """How a process ended, for a person."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
