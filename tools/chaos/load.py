"""Questions at a steady rate, whatever becomes of the answers."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ipc.client import Client
from ipc.errors import TimmyError
from ipc.messages import Ask, Attach
from tools.chaos.plan import Load
from tools.chaos.record import Question
from tools.harness import ask

CONVERSATIONS_MAX = 32
"""A speaker is attached to each, and a caller may have 64 requests open."""

_AGAIN_S = 0.1
TEXTS = ("Which city is it?", "The spare key number {n} is under the mat.")
"""A question, and something that is remembered."""


class Questions:
    """Asks dialog, each time in a conversation that waits for nothing."""

    def __init__(self, load: Load, folder: Path, clock: Callable[[], float], take: Callable[[Question], None]) -> None:
        self._load, self._clock, self._take = load, clock, take
        self._dialog = Client("dialog", "chaos", folder=folder)
        self._tts = Client("tts", "chaos", folder=folder)
        count = min(CONVERSATIONS_MAX, 2 + int(load.per_second * 4))
        self._idle = deque(f"chaos-{number}" for number in range(count))
        self._asking: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Questions:
        await self._dialog.start()
        await self._tts.start()
        names = list(self._idle) if self._load.aloud else []
        self._listening = [asyncio.create_task(self._listen(name)) for name in names]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in (*self._listening, *self._asking):
            task.cancel()
        await asyncio.gather(*self._listening, *self._asking, return_exceptions=True)
        await self._dialog.close()
        await self._tts.close()

    async def run(self) -> None:
        """Until cancelled."""
        for number in itertools.count():
            await asyncio.sleep(number / self._load.per_second - self._clock())
            task = asyncio.create_task(self.one(TEXTS[number % 2].format(n=number)))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def ended(self) -> None:
        """Until the last answer has come, or has not."""
        await asyncio.gather(*self._asking)

    async def one(self, text: str) -> None:
        began_s = self._clock()
        if not self._idle:
            self._take(Question(began_s, began_s, "error", "busy", "all conversations wait: lower per_second"))
            return
        name = self._idle.popleft()
        request = Ask(conversation=name, text=text, speak=self._load.aloud)
        reply = await ask(self._dialog, request, ttl_ms=int(self._load.patience_s * 1000))
        self._take(Question(began_s, self._clock(), reply.outcome, reply.code or "", reply.detail))
        self._idle.append(name)

    async def _listen(self, conversation: str) -> None:
        """A speaker that is attached again whenever it was lost."""
        while True:
            try:
                await self._tts.wait_connected()
                async for _ in self._tts.open(Attach(conversation=conversation)):
                    pass
            except TimmyError:
                await asyncio.sleep(_AGAIN_S)
