"""A temporary folder for daemons, the environment that they get, and what is looked up in it."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from daemons.orders import FAULTS, OrderBook, Orders
from ipc.endpoints import DAEMONS, observer_path, socket_path
from ipc.errors import TimmyError
from ipc.marks import Mark, Stage, trace_files
from ipc.traces import TraceError, read
from tools.harness.disk import SmallDisk
from tools.harness.proxy import Hop

_LOOK_S = 0.02
PATIENCE_S = 30.0
"""How long is waited for what must come. A machine that is busy with other things takes a while."""


class HarnessError(TimmyError):
    """What was asked of the harness cannot be had, or did not come."""


class Place:
    """A context manager. `run`: where callers look for the daemons; `state`: their memories, traces and logs.

    Nothing of the user's is used but, with `engines` "real", the models and the configuration."""

    def __init__(self, engines: str = "fake", settings: Mapping[str, str] | None = None, disk_bytes: int = 0) -> None:
        """`disk_bytes`: the daemons' state lies on a disk of that size, which `fill_disk` fills; 0: with the rest."""
        self.engines = engines
        self._disk_bytes = disk_bytes
        self._disk: SmallDisk | None = None
        self.hops: dict[str, Hop] = {}
        self._settings = settings or {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.root = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="timmy-")))
        self.run, self.state = self.root / "run", self.root / "state"
        self.run.mkdir(mode=0o700)
        self.environ = self._environment()
        if self._disk_bytes:
            self._disk = self._stack.enter_context(SmallDisk(self.state, self._disk_bytes))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _environment(self) -> dict[str, str]:
        fake = self.engines == "fake"
        kept = {k: v for k, v in os.environ.items() if not (fake and k.startswith(("TIMMY_", "XDG_")))}
        # Compiled once: else each start compiles the daemon anew, which takes longer than the start.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        own = {"TIMMY_RUNTIME": str(self.run), "TIMMY_STATE": str(self.state)}
        if fake:
            own |= {"HOME": str(self.root), "TIMMY_STT_INPUT": "none", "TIMMY_TTS_OUTPUT": "none"}
        return {**kept, **own, **self._settings}

    # --- how a daemon is started ---

    def command(self, name: str, limits: Mapping[str, int]) -> list[str]:
        """The daemon as a program. `limits`: long options of prlimit(1), e.g. {"nofile": 40}."""
        program = [sys.executable, "-m", f"daemons.{name}"]
        if self.engines == "fake":
            program = [sys.executable, "-m", f"daemons.{name}.faked", str(self._orders(name))]
        before = list(self._disk.entering) if self._disk else []
        if limits:
            before += ["prlimit", *(f"--{what}={value}" for what, value in limits.items())]
        if name in self.hops:
            before += ["env", f"TIMMY_RUNTIME={self._behind(name)}"]
        return [*before, *program]

    def hop(self, name: str) -> Hop:
        """Puts a proxy before the daemon, which must not run yet."""
        behind = self._behind(name)
        behind.mkdir(mode=0o700, parents=True)
        for other in DAEMONS:
            if other != name:
                socket_path(other, behind).symlink_to(socket_path(other, self.run))
        observer_path(name, self.run).symlink_to(observer_path(name, behind))
        hop = Hop(socket_path(name, self.run), socket_path(name, behind))
        self.hops[name] = self._stack.enter_context(hop)
        return hop

    def _behind(self, name: str) -> Path:
        return self.root / "behind" / name

    def folder_of(self, name: str) -> Path:
        """Where the daemon's own socket is, past the proxy that may stand before it."""
        return self._behind(name) if name in self.hops else self.run

    # --- the disk ---

    def fill_disk(self) -> None:
        """The daemons can write nothing more. Raises HarnessError without a disk of their own."""
        self._own_disk().fill()

    def free_disk(self) -> None:
        self._own_disk().free()

    def lock_disk(self) -> None:
        """The daemons can open nothing for writing any more. Raises HarnessError as `fill_disk`."""
        self._own_disk().lock()

    def unlock_disk(self) -> None:
        self._own_disk().unlock()

    def _own_disk(self) -> SmallDisk:
        if self._disk is None:
            raise HarnessError("the daemons have no disk of their own: give `disk_bytes`")
        return self._disk

    # --- engines ---

    def _orders(self, name: str) -> Path:
        return self.root / f"{name}.json"

    def order(self, name: str, orders: Orders) -> None:
        """In force when this returns. Raises HarnessError for what the daemon's engine cannot suffer."""
        if self.engines != "fake":
            raise HarnessError("real engines take no orders: start the daemons with fakes")
        if orders.fault not in FAULTS[name]:
            raise HarnessError(f"{name} knows no fault {orders.fault!r}, only {', '.join(FAULTS[name])}")
        OrderBook(self._orders(name)).give(orders)

    # --- what was marked ---

    def marks(self, rid: bytes = b"", stage: Stage | None = None) -> list[Mark]:
        """What the daemons have marked so far, in the order of time; of one request or stage, if given. A daemon
        writes its marks out twice a second, and when it ends."""
        found = []
        for path in trace_files((self._disk.seen if self._disk else self.state) / "trace"):
            try:
                found += read(path).marks
            except TraceError:  # being made just now
                continue
        wanted = [m for m in found if rid in (b"", m.rid) and stage in (None, m.stage)]
        return sorted(wanted, key=lambda mark: mark.t_ns)

    def marked(self, stage: Stage, rid: bytes = b"") -> Mark:
        """The first such mark, waited for. Raises HarnessError when it does not come."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := self.marks(rid, stage)):
            if time.monotonic() > deadline:
                raise HarnessError(f"no mark {stage.name} came within {PATIENCE_S:g} s")
            time.sleep(_LOOK_S)
        return found[0]
