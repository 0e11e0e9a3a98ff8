"""Waiting for what will be true, without a guess at when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_S = 30.0
"""Only a test that fails waits so long."""


async def eventually(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Returns once it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.01)
