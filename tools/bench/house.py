"""Daemons of their own for a benchmark: nothing of the user's is touched or measured."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.supervise import Supervisor

READY_S = 120.0


@contextmanager
def own_folders(**settings: str) -> Iterator[None]:
    """Sockets and memories of whatever is started meanwhile lie in a temporary folder. `settings` are further
    variables of its environment (TIMMY_...)."""
    with tempfile.TemporaryDirectory(prefix="timmy-") as folder:
        before = dict(os.environ)
        own = {"TIMMY_RUNTIME": str(Path(folder) / "run"), "TIMMY_STATE": str(Path(folder) / "state")}
        os.environ |= own | settings
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= before


@contextmanager
def own_house() -> Iterator[Supervisor]:
    """The five daemons, ready, with sockets and memories in a temporary folder."""
    with own_folders(), running() as supervisor:
        yield supervisor


@contextmanager
def running() -> Iterator[Supervisor]:
    """The five daemons of the present environment, ready."""
    with Supervisor() as supervisor:
        supervisor.wait_ready(READY_S)
        yield supervisor
