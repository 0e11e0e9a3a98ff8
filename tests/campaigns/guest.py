"""Somebody who speaks into a microphone over the wire and hears the answers, and notes all that he is told."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from ipc.audio import FRAME_BYTES, FRAME_NS
from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError
from ipc.messages import Ask, Attach, Audio, Body, Feed, Follow, Listen, Ping, Sound
from tests.campaigns.crowd import AGAIN_S, Crowd, Item
from tests.campaigns.spoken import WORDS_MAX, frame, word

NAME = "kitchen"
WORD_FRAMES, GAP_FRAMES = 8, 2
"""160 ms, and 40 ms to the next: no pause."""


class Told(NamedTuple):
    """`life`: the process of the daemon that told it. A Sound is the first of its turn; a Died is a kill."""

    t_ns: int
    daemon: str
    life: int
    body: Body | Died


class Died(NamedTuple):
    daemon: str


class Guest:
    """A context manager. `account` has its requests, `log` what it was told since it was last cleared."""

    def __init__(self, folder: Path) -> None:
        self.account = Crowd()
        self.log: list[Told] = []
        self.sounds_until_ns = 0
        self._folder = folder
        self._numbers = itertools.count(1)
        self._spoken: dict[int, bytes] = {}
        self._start_ns = time.monotonic_ns()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        names = ("stt", "tts", "dialog")
        self.clients = {
            name: await self._stack.enter_async_context(Client(name, "guest", folder=self._folder)) for name in names
        }
        standing: list[tuple[str, Body, Callable[[], AsyncIterator[Item]] | None]] = [
            ("stt", Listen(), None),
            ("stt", Feed(conversation=NAME), self._microphone),
            ("tts", Attach(conversation=NAME), None),
            ("dialog", Follow(conversation=NAME), None),
        ]
        self._tasks = [asyncio.create_task(self._keep(*each)) for each in standing]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        over = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        for result in over:
            if kind is None and not isinstance(result, asyncio.CancelledError):
                raise AssertionError(f"a caller broke: {result!r}")

    async def _keep(self, daemon: str, body: Body, items: Callable[[], AsyncIterator[Item]] | None) -> None:
        """Asks again whenever its daemon has come back."""
        client = self.clients[daemon]

        def heed(item: Body, payload: bytes) -> None:
            self._note(daemon, client.peer.pid if client.peer else 0, item, payload)

        while True:
            await self.account.call(client, body, items() if items else None, 0, heed)
            if isinstance(body, Attach):
                self._cut(time.monotonic_ns())
            await asyncio.sleep(AGAIN_S)

    def _note(self, daemon: str, life: int, item: Body, payload: bytes) -> None:
        if not isinstance(item, Sound):
            self.log.append(Told(time.monotonic_ns(), daemon, life, item))
            return
        end_ns = item.t_ns + len(payload) // 2 * 1_000_000_000 // item.sample_rate
        self.sounds_until_ns = max(self.sounds_until_ns, end_ns)
        if item.last and not payload:
            self._cut(item.t_ns)
        before = ((e.life, e.body.turn) for e in self.log if isinstance(e.body, Sound))
        if any(payload) and (life, item.turn) not in before:
            self.log.append(Told(time.monotonic_ns(), daemon, life, item))

    def _cut(self, t_ns: int) -> None:
        """What is due later does not sound."""
        self.sounds_until_ns = min(self.sounds_until_ns, t_ns)
        self.log[:] = [event for event in self.log if not (isinstance(event.body, Sound) and event.body.t_ns >= t_ns)]

    def died(self, daemon: str, pid: int) -> None:
        """What was told from now on was told after the kill."""
        self.log.append(Told(time.monotonic_ns(), daemon, pid, Died(daemon)))

    # --- what it does ---

    def speak(self, words: int, full_stop: bool = True) -> list[str]:
        """Says so many words from now on; returns them at once."""
        slot = (time.monotonic_ns() - self._start_ns) // FRAME_NS + 2
        said = []
        for left in range(words, 0, -1):
            number, ends = next(self._numbers) % WORDS_MAX, full_stop and left == 1
            said.append(word(number, ends))
            for _ in range(WORD_FRAMES):
                self._spoken[slot] = frame(number, ends)
                slot += 1
            slot += GAP_FRAMES
        return said

    async def _microphone(self) -> AsyncIterator[Item]:
        slot = (time.monotonic_ns() - self._start_ns) // FRAME_NS
        while True:
            t_ns = self._start_ns + slot * FRAME_NS
            await asyncio.sleep((t_ns + FRAME_NS - time.monotonic_ns()) / 1e9)
            yield Audio(t_ns=t_ns), self._spoken.pop(slot, bytes(FRAME_BYTES))
            slot += 1

    def ask(self, text: str) -> Stream:
        """A typed question that is to be answered aloud."""
        return self.clients["dialog"].open(Ask(conversation=NAME, text=text, speak=True))

    async def met(self, pids: dict[str, int]) -> bool:
        """Whether each of these processes has all of its standing requests."""
        for daemon, client in self.clients.items():
            wanted = 2 if daemon == "stt" else 1
            if len(self.account.waiting(daemon, pids[daemon])) < wanted:
                return False
            try:
                await client.request(Ping(), ttl_ms=1000)  # answered after what was sent before it
            except (CallError, CallCancelled):
                return False
        return True
