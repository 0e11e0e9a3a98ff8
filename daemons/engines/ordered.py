"""What all fakes that obey orders have in common."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from daemons.engines.base import EngineError
from daemons.orders import Fault, OrderBook
from ipc.errors import Code

HUGE = "word " * 200_000
"""A million characters."""

MANGLED = " \udcff\udcfe"
"""What becomes of bytes that are not UTF-8 where nobody looks: lone surrogates, which cannot be encoded."""

_LOOK_S = 0.01


def strike(fault: Fault) -> None:
    """The faults that end the work at once. Raises EngineError or RuntimeError, or ends the process."""
    if fault == "error":
        raise EngineError(Code.ENGINE_FAILED, "the fake engine fails as it was told to")
    if fault == "exception":
        raise RuntimeError("the fake engine breaks as it was told to")
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)


async def until_lifted(book: OrderBook) -> None:
    """Hangs while that is ordered; does what else is ordered. For engines on the event loop."""
    strike(book.now().fault)
    while book.now().fault == "hang":  # noqa: ASYNC110 - a file tells, not an event
        await asyncio.sleep(_LOOK_S)


def obey(book: OrderBook) -> None:
    """The same for engines in a thread of their own, with the time that the work is to take longer."""
    time.sleep(book.now().slow_ms / 1000)
    strike(book.now().fault)
    while book.now().fault == "hang":
        time.sleep(_LOOK_S)
