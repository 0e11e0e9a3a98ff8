"""A language model without a model: known answers, known faults, and what the real ones report, counted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable

from daemons.engines.base import EngineError, EngineInfo, Prompt, Usage
from daemons.engines.ordered import HUGE, MANGLED, until_lifted
from daemons.orders import OrderBook

_PIECES = re.compile(r"\s*\S+|\s+")


class FakeModel:
    """A LanguageModel whose tokens are words.

    `reply` gives the answer to a prompt. After `fail_after` pieces it raises `error`; after `stall_after` it
    gives nothing more; with `babble` it repeats its answer until that many pieces are given, whatever was
    asked for. `prompts`, `given` and `stopped` tell what happened.
    """

    def __init__(
        self,
        reply: Callable[[Prompt], str] | str = "It is noon.",
        *,
        fail_after: int | None = None,
        error: EngineError | None = None,
        stall_after: int | None = None,
        babble: int = 0,
    ) -> None:
        self.info = EngineInfo("fake", "fake", "none")
        self.reply = reply
        self.fail_after = fail_after
        self.error = error
        self.stall_after = stall_after
        self.babble = babble
        self.prompts: list[Prompt] = []
        self.given = 0
        """Pieces given, over all prompts."""
        self.stopped = 0
        """Answers that were given up before their end."""
        self.rests: list[float] = []
        """What `rest` was called with."""
        self._cache: list[str] = []

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str | Usage, None]:
        self.prompts.append(prompt)
        read = [word for role, content in prompt.messages for word in (f"<{role}>", *content.split())]
        cached = _common(self._cache, read)
        self._cache = read
        pieces = self._pieces(prompt)
        whole = False
        try:
            for index, piece in enumerate(pieces):
                await self._fault(index)
                self.given += 1
                yield piece
            await self._fault(len(pieces))
            whole = True
        finally:
            self.stopped += not whole
        finish = "length" if len(pieces) == prompt.max_tokens else "stop"
        yield Usage(len(read), cached, len(pieces), finish)

    async def _fault(self, index: int) -> None:
        await asyncio.sleep(0)
        if self.error is not None and index == self.fail_after:
            raise self.error
        if index == self.stall_after:
            await asyncio.Event().wait()

    def _pieces(self, prompt: Prompt) -> list[str]:
        reply = self.reply if isinstance(self.reply, str) else self.reply(prompt)
        pieces = _PIECES.findall(reply)
        if self.babble and prompt.max_tokens:
            return (pieces * self.babble)[: self.babble]
        return pieces[: prompt.max_tokens]

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)

    async def close(self) -> None:
        """Nothing to free."""


def _common(old: list[str], new: list[str]) -> int:
    """How many words both begin with. The last is read again: it gives the first token."""
    same = 0
    for left, right in zip(old, new, strict=False):
        if left != right:
            break
        same += 1
    return min(same, max(len(new) - 1, 0))


class OrderedModel(FakeModel):
    """Obeys its orders while it works. What every model is asked at its start it answers, whatever text they give."""

    ANSWER = "Paris it is."

    def __init__(self, book: OrderBook) -> None:
        super().__init__()
        self._book = book

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str | Usage, None]:
        known = any("capital of France" in content for _, content in prompt.messages)
        self.reply = self.ANSWER if known else self._book.now().text or self.ANSWER
        self.prompts.clear()  # it works for hours
        given = 0
        async for piece in super().generate(prompt):
            await asyncio.sleep(self._book.now().slow_ms / 1000)
            orders = self._book.now()
            if given >= orders.after:
                await until_lifted(self._book)
                if orders.fault == "empty":
                    yield Usage(0, 0, given, "stop")
                    return
                while self._book.now().fault == "endless":
                    await asyncio.sleep(0)
                    yield " again"
                if orders.fault in ("huge", "bad_utf8"):
                    yield HUGE if orders.fault == "huge" else MANGLED
            given += 1
            yield piece
