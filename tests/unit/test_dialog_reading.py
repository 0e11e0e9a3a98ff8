"""When the model had to read again what it should have known."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, cast

import pytest

from daemons.dialog.reading import TAIL_TOKENS, Reader, miss
from ipc.errors import CallCancelled
from ipc.messages import Generated, TurnReport


def told(prompt: int, cached: int, stable: int) -> TurnReport:
    return TurnReport(
        conversation="home", turn=b"t" * 16, heard="x", said="y", outcome="answered", detail="", first_audio_ms=None,
        stages=None, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=3, memories=0, stable_tokens=stable,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (told(prompt=200, cached=150, stable=150), ""),
        (told(prompt=200, cached=150 - TAIL_TOKENS, stable=150), ""),
        (told(prompt=200, cached=149 - TAIL_TOKENS, stable=150), "another prompt"),
        (told(prompt=200, cached=0, stable=150), "another run of llm"),
        (told(prompt=200, cached=150, stable=0), "not been read to its end"),
        (told(prompt=0, cached=0, stable=0), ""),
    ],
)
def test_a_miss_is_explained(report: TurnReport, reason: str) -> None:
    assert reason in miss(report)
    assert bool(reason) == bool(miss(report))


READ = Generated(
    prompt_tokens=7, cached_tokens=0, completion_tokens=0, finish="length", received_ns=0, first_token_ns=0
)


class _Stream:
    def __init__(self, end: Generated | CallCancelled) -> None:
        self._end = end

    async def result(self) -> Generated:
        await asyncio.sleep(0)
        if isinstance(self._end, CallCancelled):
            raise CallCancelled(str(self._end))
        return self._end


class _Room:
    """A model, and a conversation whose prompt it reads."""

    name = "room"

    def __init__(self, *ends: Generated | CallCancelled) -> None:
        self.client = self
        self.read: list[int] = []
        self.opened: list[weakref.ref[_Stream]] = []
        self._ends = list(ends)

    def open(self, body: object, ttl_ms: int) -> _Stream:
        stream = _Stream(self._ends.pop(0))
        self.opened.append(weakref.ref(stream))
        return stream

    def prompt_read(self, tokens: int) -> None:
        self.read.append(tokens)


@pytest.mark.parametrize(
    ("ends", "read"),
    [([READ], [7]), ([CallCancelled("gave way")], []), ([READ, READ], [7]), ([CallCancelled("gave way"), READ], [7])],
)
def test_what_was_read_is_told_of_the_newest_and_nothing_is_kept(
    ends: list[Generated | CallCancelled], read: list[int]
) -> None:
    """Conversations come and go for months: one that is over leaves nothing behind."""

    async def test() -> None:
        room = _Room(*ends)
        reader = Reader(cast(Any, room))
        for _ in ends:
            reader.read(cast(Any, room), [], stable=True)
        await asyncio.sleep(0.01)
        gc.collect()
        assert room.read == read
        assert [stream() for stream in room.opened] == [None] * len(ends)
        await reader.close()

    asyncio.run(test())
