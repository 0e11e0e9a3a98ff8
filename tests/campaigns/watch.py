"""What every campaign promises of the daemons it torments, measured by a peer that pings through it all.

with Watch(folder, "llm") as watch:
    torment()
    return {"torments": count, **watch.verdict()}
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

BLOCKED_MAX_S = 1.0
GROWN_MAX_BYTES = 50_000_000
RISE_MAX_MS = 20.0
"""Asserted nowhere: how long an answer takes on a machine that others use, too, is nobody's fault. It is shown."""

CALM_S = 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What the watcher saw of one daemon.

    `blocked_s`: the longest that a ping waited for the daemon, less what the kernel let it wait for a core.
    `silent_s`: the longest time in which it could not be asked at all: it was gone, or said nothing for 1.5 s.
    `grown_bytes`, `peak_bytes`: of its resident set, at the end and at most, over what it was at the beginning.
    `left_open`: requests that it still kept when all callers had gone.
    """

    pings: int
    p95_ms: float
    blocked_s: float
    silent_s: float
    silences: int
    processes: int
    grown_bytes: int
    peak_bytes: int
    left_open: int


class Watch:
    """A context manager. Raises AssertionError, in `verdict`, when a promise was broken."""

    def __init__(self, folder: Path, *daemons: str, calm_s: float = CALM_S) -> None:
        """They run already, with their sockets in `folder`. `calm_s`: how long they are watched before anything
        happens, to have something to compare with."""
        self._command = [sys.executable, "-m", "tests.campaigns.watcher", str(folder), *daemons]
        self._calm_s = calm_s

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        until = time.monotonic() + 60
        while not all(figures.pings for figures in self.figures().values()):
            assert time.monotonic() < until, "there is a daemon that answers no ping"
            time.sleep(0.1)
        time.sleep(self._calm_s)
        self.calm = self.figures()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def figures(self, settle: bool = False) -> Mapping[str, Figures]:
        """Since the last call. `settle`: when all requests have ended, or 15 s later."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("settle\n" if settle else "now\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the watcher ended with status {self._process.wait()}"
        return {daemon: Figures(**seen) for daemon, seen in json.loads(line).items()}

    def verdict(
        self,
        *,
        may_die: frozenset[str] = frozenset(),
        blocked_max_s: float = BLOCKED_MAX_S,
        peak_max_bytes: int = GROWN_MAX_BYTES,
    ) -> dict[str, int]:
        """What a row of a campaign tells of its daemons, the worst of each. Raises AssertionError for a daemon that
        died, or could not be asked (unless it is one of `may_die`), that was blocked, has grown, or keeps a request."""
        seen = self.figures(settle=True)
        for daemon, figures in seen.items():
            if daemon not in may_die:
                self._check_life(daemon, figures, blocked_max_s)
            if max(figures.grown_bytes - GROWN_MAX_BYTES, figures.peak_bytes - peak_max_bytes) > 0:
                raise AssertionError(
                    f"{daemon} grew by {figures.grown_bytes / 1e6:.0f} MB, at most by {figures.peak_bytes / 1e6:.0f} MB"
                )
            if figures.left_open:
                raise AssertionError(f"{daemon} keeps {figures.left_open} requests although their callers are gone")
        rise = max(figures.p95_ms - self.calm[daemon].p95_ms for daemon, figures in seen.items())
        return {
            "pings": sum(figures.pings for figures in seen.values()),
            "ms more at p95": round(max(0.0, rise)),
            "ms at most": round(max(max(figures.blocked_s, figures.silent_s) for figures in seen.values()) * 1000),
            "MB grown": round(max(figures.grown_bytes for figures in seen.values()) / 1e6),
            "MB at most": round(max(figures.peak_bytes for figures in seen.values()) / 1e6),
        }

    @staticmethod
    def _check_life(daemon: str, figures: Figures, blocked_max_s: float) -> None:
        if figures.processes != 1:
            raise AssertionError(f"{daemon} died: {figures.processes} processes had its name")
        if figures.silent_s > blocked_max_s:
            raise AssertionError(f"{daemon} could not be asked for {figures.silent_s:.1f} s")
        if figures.blocked_s > blocked_max_s:
            raise AssertionError(f"{daemon} let a ping wait for {figures.blocked_s:.1f} s")
