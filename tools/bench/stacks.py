"""The stacks that `timmy bench turn` compares, each asked in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from daemons import config
from ipc.audio import silence
from ipc.client import Client
from ipc.ids import new_rid
from ipc.messages import Recall, Recalled, Remember
from tools.bench import stages
from tools.recorded import TurnResult, open_talk
from tools.status import ask_all

if TYPE_CHECKING:
    from tools.bench.old.house import OldHouse

BEFORE_MS = 300
"""Of silence before each question: no microphone is opened in the middle of a word."""

REMEMBER_TTL_MS = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one question. `stages_ms`: its rows, adding up to the time to the first audible sample; None when
    nothing sounded. `memories`: those in the prompt. `turn`: the report, of this suite's own daemons only."""

    heard: str
    said: str
    answered: bool
    stages_ms: dict[str, float] | None
    memories: tuple[str, ...] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0
    turn: TurnResult | None = None

    @property
    def total_ms(self) -> float | None:
        return sum(self.stages_ms.values()) if self.stages_ms else None


class Stack(Protocol):
    """A whole assistant that runs. `engines` says what it runs, one line each."""

    engines: list[str]

    async def remember(self, texts: Sequence[str]) -> None:
        """Keeps them, by its own front door. Raises TimmyError."""

    async def ask(self, pcm: bytes) -> Outcome:
        """Says it at speaking pace; returns when the answer has sounded. Raises TimmyError."""


class TimmyStack:
    """The five daemons, which must be running. They hear the microphone while they are asked and sleep meanwhile."""

    def __init__(self, memory: Client, engines: list[str]) -> None:
        self.engines = engines
        self._memory = memory
        self._conversation = f"bench-{new_rid().hex()[-12:]}"

    async def remember(self, texts: Sequence[str]) -> None:
        for text in texts:
            await self._memory.request(Remember(heard=text, always=True), ttl_ms=REMEMBER_TTL_MS)

    async def ask(self, pcm: bytes) -> Outcome:
        async with AsyncExitStack() as stack:
            talk = await open_talk(stack, None, self._conversation)
            turns = [turn async for turn in talk.play(silence(BEFORE_MS) + pcm)]
        if not turns:
            return Outcome("", "", False, None)
        report = turns[0].report
        return Outcome(
            heard=report.heard,
            said=report.said,
            answered=report.outcome == "answered",
            stages_ms=stages.of_timmy(report.stages) if report.stages else None,
            memories=await self._in_prompt(report.heard),
            prompt_tokens=report.prompt_tokens,
            cached_tokens=report.cached_tokens,
            turn=turns[0],
        )

    async def _in_prompt(self, heard: str) -> tuple[str, ...]:
        """A report counts memories and does not name them; recalled again for the same words they are the same."""
        recalled = await self._memory.request(Recall(text=heard, limit=config.load().dialog.recall_limit))
        assert isinstance(recalled, Recalled)
        return tuple(memory.text for memory in recalled.memories)


class OldStack:
    """The three services over HTTP, which end with it."""

    def __init__(self, house: OldHouse) -> None:
        self.engines = house.engines
        self._house = house

    async def remember(self, texts: Sequence[str]) -> None:
        for text in texts:
            await asyncio.to_thread(self._house.remember, new_rid().hex(), text)

    async def ask(self, pcm: bytes) -> Outcome:
        reply = await asyncio.to_thread(self._house.listen, new_rid().hex(), silence(BEFORE_MS) + pcm)
        if (processed := reply.processed) is None:
            return Outcome(reply.heard, "", False, None)
        rows = stages.of_old(reply)
        return Outcome(
            heard=reply.heard,
            said=processed.said,
            answered=rows is not None,
            stages_ms=rows,
            memories=tuple(processed.memories),
            prompt_tokens=processed.prompt_tokens,
            cached_tokens=processed.cached_tokens,
        )


@asynccontextmanager
async def _timmy() -> AsyncIterator[Stack]:
    reports = (await ask_all()).values()
    engines = [f"{report['engine']} {report['model']} {report['device']}" for report in reports if report["model"]]
    async with Client("memory", "bench") as memory:
        await memory.wait_connected()
        yield TimmyStack(memory, engines)


@asynccontextmanager
async def _old(name: str, pooled: bool) -> AsyncIterator[Stack]:
    from tools.bench.old.house import OldHouse  # here, because it needs the requests package

    house = OldHouse(name, pooled)
    try:
        await asyncio.to_thread(house.start)
        yield OldStack(house)
    finally:
        await asyncio.to_thread(house.close)


STACKS: dict[str, Callable[[], AbstractAsyncContextManager[Stack]]] = {
    "timmy": _timmy,
    "http-pooled": lambda: _old("http-pooled", pooled=True),
    "http-new": lambda: _old("http-new", pooled=False),
}
"""By name: what runs it while it is entered. For timmy the daemons have to run before."""
