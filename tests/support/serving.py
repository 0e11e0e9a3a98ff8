"""A service on real sockets inside a test, as the runtime would serve it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from daemons.runtime import Service
from ipc.client import Client
from ipc.messages import StatusReport
from ipc.server import Server
from ipc.transport import ZmqServerTransport


@contextlib.asynccontextmanager
async def serving(name: str, service: Service, folder: Path) -> AsyncIterator[Client]:
    """Loads and serves `service`; gives a connected client."""

    def report() -> StatusReport:
        return StatusReport(
            daemon=name, state="degraded" if service.trouble else "ready", detail=service.trouble,
            engine=service.info.engine, model=service.info.model, device=service.info.device, pid=os.getpid(),
            uptime_s=0.0, rss_bytes=0, requests_open=0, last_error="",
        )  # fmt: skip

    server = Server(name, ZmqServerTransport(name, folder), service.handlers(), report)
    server.start()
    try:
        await service.load()
        async with Client(name, "test", folder=folder) as client:
            await client.wait_connected()
            yield client
    finally:
        await service.close()
        await server.close()
