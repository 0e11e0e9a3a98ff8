"""dialog's connections to the daemons it drives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ipc.client import Client
from ipc.errors import CallError, Code, PeerGone
from ipc.messages import Status, StatusReport

PATIENCE_S = 10.0
"""How long a turn waits for a daemon that is just being restarted: model load and supervision, twice."""

_POLL_S = 0.1


class Peer:
    """One daemon, and whether it has said that it is ready."""

    def __init__(self, daemon: str, connect: Callable[[str], Client]) -> None:
        self.daemon = daemon
        self.client = connect(daemon)
        self._ready_boot = b""
        self._lost = asyncio.Event()
        self.client.on_lost = self._lost.set

    async def start(self) -> None:
        await self.client.start()

    async def close(self) -> None:
        await self.client.close()

    @property
    def present(self) -> bool:
        return self.client.connected

    async def lost(self) -> None:
        """Returns when the daemon goes away."""
        self._lost.clear()
        if self.client.connected:
            await self._lost.wait()

    async def ready(self, patience_s: float = PATIENCE_S) -> Client:
        """The client, once the daemon serves. Costs nothing but the first time after its start. Raises PeerGone."""
        deadline = time.monotonic() + patience_s
        while not (self.client.connected and self.client.peer and self.client.peer.boot_id == self._ready_boot):
            left = deadline - time.monotonic()
            if left <= 0:
                raise PeerGone(f"{self.daemon} is not ready: see `timmy status`")
            await self._ask(left)
        return self.client

    async def _ask(self, left_s: float) -> None:
        try:
            await self.client.wait_connected(left_s)
            report = await self.client.request(Status(), ttl_ms=1000)
        except CallError as error:
            if error.code not in (Code.PEER_GONE, Code.DEADLINE):
                raise
            return
        if isinstance(report, StatusReport) and report.state in ("ready", "degraded") and self.client.peer:
            self._ready_boot = self.client.peer.boot_id
        else:
            await asyncio.sleep(_POLL_S)
