"""Three daemons that do as they are told, a conversation with them, and recordings of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ipc import messages as m
from ipc.call import Call, Handler
from ipc.client import Client, Stream
from ipc.errors import (
    CallError,
    Code,
)
from ipc.messages import Body, Result
from tools.recording.asked import Asked, Assembler, assembled
from tools.recording.file import Recording, Writer
from tools.recording.take import Take

ROOT = Path(__file__).parent.parent.parent
SOUND = b"\1\0" * 320


class Fakes:
    """What the daemons of this test say."""

    def __init__(self) -> None:
        self.answer = "It is noon."
        self.loses: set[str] = set()
        """Questions that fail."""
        self.hears_in_s = 0.0
        """How long it takes with each piece of sound."""
        self.followers: list[asyncio.Queue[Body]] = []
        self.heard: list[Body] = []
        self.conversations: list[str] = []

    def handlers(self) -> dict[type[Body], Handler]:
        return {m.Ask: self._ask, m.Follow: self._follow, m.Feed: self._feed, m.Speak: self._speak, m.Say: self._say}

    async def _ask(self, call: Call) -> Result:
        self.conversations.append(call.body.conversation)
        if call.body.text in self.loses:
            raise CallError(Code.ENGINE_FAILED, "the model fell over")
        if call.body.text == "for ever":
            await asyncio.Event().wait()
        for word in self.answer.split(" "):
            await call.send(m.Delta(text=f"{word} "))
        report = m.TurnReport(
            conversation=call.body.conversation, turn=call.rid, heard=call.body.text, said=self.answer,
            outcome="answered", detail="", first_audio_ms=120.0,
            stages=m.Stages(endpoint=100.0, stt=0.0, recall=0.0, llm_first_token=20.0, llm_first_clause=0.0,
            tts_first_audio=0.0, ipc=0.0, unaccounted=0.0),
            prompt_tokens=0, cached_tokens=0, completion_tokens=0, memories=0,
        )  # fmt: skip
        for follower in self.followers:
            follower.put_nowait(report)
        return m.Answered(said=self.answer, prompt_tokens=1, cached_tokens=0, completion_tokens=3, memories=0)

    async def _follow(self, call: Call) -> Result:
        queue: asyncio.Queue[Body] = asyncio.Queue()
        self.followers.append(queue)
        try:
            while True:
                await call.send(await queue.get())
        finally:
            self.followers.remove(queue)

    async def _feed(self, call: Call) -> Result:
        frames = 0
        async for item, payload in call:
            assert payload == SOUND
            await asyncio.sleep(self.hears_in_s)
            self.heard.append(item)
            frames += 1
        return m.Fed(frames=frames, dropped_ms=0)

    async def _speak(self, call: Call) -> Result:
        clauses = 0
        async for item, _ in call:
            if isinstance(item, m.Clause):
                await call.send(m.ClauseReady(index=clauses, received_ns=1, started_ns=1, ready_ns=1))
                clauses += 1
        return m.Spoken(clauses=clauses, audio_ms=0)

    def _say(self, call: Call) -> Result:
        self.conversations.append(call.body.conversation)
        return m.Done()


@asynccontextmanager
async def connected(daemon: str, name: str = "test") -> AsyncIterator[Client]:
    async with Client(daemon, name) as client:
        await client.wait_connected()
        yield client


async def ask(question: str = "What time is it?", conversation: str = "c") -> str:
    """Raises CallError."""
    async with connected("dialog") as dialog:
        result = await dialog.request(m.Ask(conversation=conversation, text=question))
    assert isinstance(result, m.Answered)
    return result.said


async def feed(frames: int = 30) -> None:
    """Twice as fast as somebody speaks."""
    async with connected("stt") as stt:
        stream = stt.open(m.Feed(conversation="c"))
        for _ in range(frames):
            await stream.send(m.Audio(t_ns=time.monotonic_ns()), SOUND)
            await asyncio.sleep(0.01)
        stream.end()
        await stream.result()


async def conversation() -> None:
    """Something of everything: answers, a failure, a cancel, sound, a listener."""
    async with connected("dialog") as dialog, connected("tts") as tts:
        following = dialog.open(m.Follow(conversation="c"))
        assert await ask() == "It is noon."
        assert isinstance((await anext(following))[0], m.TurnReport)
        stream = dialog.open(m.Ask(conversation="c", text="for ever"), ttl_ms=60_000)
        await feed()
        stream.cancel()
        speaking = tts.open(m.Speak(conversation="c"))
        for text in ("One.", "Two."):
            await speaking.send(m.Clause(text=text))
        speaking.end()
        await speaking.result()
        following.cancel()


async def read(stream: Stream, seen: list[Body]) -> None:
    """Raises what ends the stream."""
    async for item, _ in stream:
        seen.append(item)


def recorded(path: Path, scene: Callable[[], Any], daemons: Sequence[str] = ("stt", "dialog", "tts")) -> Path:
    """A recording of `scene`."""

    async def take() -> None:
        writer = Writer(path, daemons)
        async with Take(daemons, writer.write):
            await scene()
        writer.close()

    asyncio.run(take())
    return path


def whole(path: Path) -> Assembler:
    recording = Recording(path)
    assembler = assembled(recording)
    assert recording.damage == ""
    return assembler


def requests(path: Path) -> list[Asked]:
    return list(whole(path).asked.values())
