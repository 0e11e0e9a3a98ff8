"""What can be done to a process, and what it weighs."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.harness.place import PATIENCE_S, HarnessError

_LOOK_S = 0.005
LIMITS = {"nofile": resource.RLIMIT_NOFILE, "as": resource.RLIMIT_AS, "fsize": resource.RLIMIT_FSIZE}
"""Limits that can be set on a running process, by the names of prlimit(1): descriptors, memory, size of a file."""


def stop(pid: int) -> None:
    """SIGSTOP; returns when it stands still."""
    os.kill(pid, signal.SIGSTOP)
    _until_state(pid, "T")


def go_on(pid: int) -> None:
    """SIGCONT."""
    os.kill(pid, signal.SIGCONT)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """It stands still meanwhile."""
    stop(pid)
    try:
        yield
    finally:
        go_on(pid)


def limit(pid: int, what: str, value: int) -> tuple[int, int]:
    """Sets a soft limit; returns soft and hard limit as they were, which `unlimit` takes."""
    kind = LIMITS[what]
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (value, before[1]))
    return before


def unlimit(pid: int, what: str, before: tuple[int, int]) -> None:
    resource.prlimit(pid, LIMITS[what], before)


def resident_bytes(pid: int) -> int:
    """Resident set (proc(5), statm field 2); 0 when it has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except (FileNotFoundError, ProcessLookupError):
        return 0


def starved_ns(pid: int) -> int:
    """How long its main thread wanted to run and got no core (schedstat, second field); 0 when it has gone."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text("ascii").split()[1])
    except OSError:
        return 0


def descriptors(pid: int) -> int:
    """How many it has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _until_state(pid: int, state: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != state:
        if time.monotonic() > deadline:
            raise HarnessError(f"process {pid} does not get into state {state}")
        time.sleep(_LOOK_S)
