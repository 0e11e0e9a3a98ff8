"""A thread for what blocks. The most urgent work goes first, and among equals what came first."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

from ipc.errors import CallError, Code

T = TypeVar("T")

_LAST_JOB_S = 1.0
"""How long closing waits for the work under way. The thread dies with the process, so longer work is cut off."""


class Urgency(IntEnum):
    """Smaller is sooner."""

    STOP = 0
    ANSWER = 1  # somebody waits for it
    KEEP = 2  # nobody waits for it


class Worker:
    """Started by the first work, ended by `close`."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.PriorityQueue[tuple[Urgency, int, Callable[[], None]]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def run(self, urgency: Urgency, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Work whose caller was cancelled before it began is left out."""
        if self._closed:
            raise _stopping()
        if self._thread.ident is None:
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)

        def job() -> None:
            if future.cancelled():
                return
            try:
                result = work()
            except Exception as error:
                _deliver(loop, future, future.set_exception, error)
            else:
                _deliver(loop, future, future.set_result, result)

        self._jobs.put((urgency, next(self._numbers), job))
        return await future

    async def close(self) -> bool:
        """Ends the thread after the work under way; what still waits fails with PEER_GONE. False: it works on."""
        self._closed = True
        self._jobs.put((Urgency.STOP, next(self._numbers), lambda: None))
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, _LAST_JOB_S)
        await asyncio.sleep(0)  # the last result was handed to the loop just now
        for future in list(self._waiting):
            future.set_exception(_stopping())
        return not self._thread.is_alive()

    def _work(self) -> None:
        urgency = Urgency.ANSWER
        while urgency is not Urgency.STOP:
            urgency, _, job = self._jobs.get()
            job()


def _deliver(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], setter: Callable[[Any], None], value: object
) -> None:
    def deliver() -> None:
        if not future.done():
            setter(value)

    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits for a result any more
        loop.call_soon_threadsafe(deliver)


def _stopping() -> CallError:
    return CallError(Code.PEER_GONE, "memory is stopping")
