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
def own_house() -> Iterator[Supervisor]:
    """The five daemons, ready, with sockets and memories in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="timmy-") as folder:
        before = dict(os.environ)
        os.environ |= {"TIMMY_RUNTIME": str(Path(folder) / "run"), "TIMMY_STATE": str(Path(folder) / "state")}
        try:
            with Supervisor() as supervisor:
                supervisor.wait_ready(READY_S)
                yield supervisor
        finally:
            os.environ.clear()
            os.environ |= before
