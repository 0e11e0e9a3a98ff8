"""One request to each daemon as a caller makes it, and an account of how requests end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

from daemons.engines.fakes_tts import tone
from ipc.audio import silence
from ipc.client import Client, Stream
from ipc.codec import decode
from ipc.ids import new_rid
from ipc.messages import (
    HOME,
    Audio,
    ChatMessage,
    Clause,
    Down,
    Fed,
    Feed,
    Generate,
    Generated,
    Kind,
    Listen,
    Recall,
    Recalled,
    Remember,
    Remembered,
    Result,
    Speak,
    Spoken,
    Token,
    TurnDropped,
    TurnFinal,
)
from ipc.session import TERMINALS
from tests.support.eventually import eventually


class Accountant(Client):
    """Keeps an account of how its requests ended: what comes after an end it would drop without a word."""

    def __init__(self, daemon: str, name: str, folder: Path) -> None:
        super().__init__(daemon, name, folder=folder)
        self._ends: Counter[tuple[bytes, int]] = Counter()
        self._after: list[str] = []

    def _arrived(self, frames: list[bytes]) -> None:
        message = decode(frames)
        request = (message.rid, message.epoch)
        if self._ends[request] and message.body.KIND is not Kind.CREDIT:
            self._after.append(message.body.type_name())
        self._ends[request] += message.body.KIND in TERMINALS
        super()._arrived(frames)

    def check(self) -> int:
        """How many requests have ended. Raises AssertionError when something came after an end."""
        assert not self._after, f"after their end requests were sent {self._after}"
        return sum(self._ends.values())


async def generate(client: Client, ttl_ms: int) -> Result:
    request = Generate(messages=[ChatMessage(role="user", content="Where is it?")], max_tokens=100)
    stream = client.open(request, ttl_ms=ttl_ms)
    size = 0
    async for item, _ in stream:
        assert isinstance(item, Token)
        size += len(item.text)
    assert size <= 10_000, f"{size} characters of an answer passed"
    return await _only(stream, Generated)


async def speak(client: Client, ttl_ms: int) -> Result:
    stream = client.open(Speak(conversation=HOME), ttl_ms=ttl_ms)
    await stream.send(Clause(text="It is noon."))
    stream.end()
    async for _ in stream:
        pass
    return await _only(stream, Spoken)


async def recall(client: Client, ttl_ms: int) -> Result:
    return await _of(client.request(Recall(text="Where is the key?", limit=3), ttl_ms=ttl_ms), Recalled)


async def remember(client: Client, ttl_ms: int) -> Result:
    told = Remember(heard=f"The key number {time.time_ns()} is under the mat.")
    return await _of(client.request(told, ttl_ms=ttl_ms), Remembered)


async def feed(client: Client, ttl_ms: int) -> Result:
    """Says something into a microphone of its own. Its turn has one end, which a listener is told."""
    name, ends = f"c{new_rid().hex()}", list[Down]()
    events = client.open(Listen())

    async def listen() -> None:
        async for event, _ in events:
            if isinstance(event, TurnFinal | TurnDropped) and event.conversation == name:
                ends.append(event)

    listening = asyncio.create_task(listen())
    try:
        stream = client.open(Feed(conversation=name), ttl_ms=ttl_ms)
        pcm, began = tone(400, 16_000) + silence(1500), time.monotonic_ns()
        for start in range(0, len(pcm), 640):
            await stream.send(Audio(t_ns=began + start // 2 * 62_500), pcm[start : start + 640])
        stream.end()
        result = await _only(stream, Fed)
        await eventually(lambda: bool(ends))
        assert len(ends) == 1, f"the turn has the ends {ends}"
        return result
    finally:
        events.cancel()
        listening.cancel()


async def _only(stream: Stream, kind: type[Result]) -> Result:
    return await _of(stream.result(), kind)


async def _of(waited: Awaitable[Result], kind: type[Result]) -> Result:
    result = await waited
    assert isinstance(result, kind), f"the answer is {result}"
    return result
