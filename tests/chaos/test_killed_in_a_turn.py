"""A daemon killed in the middle of a turn: the turn ends in words, and the next one works."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from ipc.audio import read_wav
from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.messages import Follow, TurnHeard
from tests.support.suite import EXAMPLES, house, kill, running, until_back
from tools.recorded import Talk, TurnResult, open_talk

pytestmark = pytest.mark.models

MOST_WORDS = 4
"""Of "What is the capital of France?"."""


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with house(tmp_path_factory.mktemp("state")), running():
        yield


async def play(talk: Talk, pcm: bytes) -> list[TurnResult]:
    return [result async for result in talk.play(pcm)]


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_killed_in_a_turn_ends_it_in_words(daemons: None, daemon: str) -> None:
    question = read_wav(EXAMPLES / "2-capital.wav")

    async def converse() -> tuple[list[TurnResult], list[TurnResult]]:
        async with AsyncExitStack() as stack:
            talk = await open_talk(stack, None)
            await play(talk, question)
            playing = asyncio.create_task(play(talk, question))
            # stt while it still hears, the others once they have work in hand.
            await heard(talk.name, final=daemon != "stt")
            old = await kill(daemon)
            hit = await playing
            await until_back(daemon, old)
            return hit, await play(talk, question)

    hit, following = asyncio.run(converse())
    assert hit
    assert all(result.report.said for result in hit), [result.report for result in hit]
    assert [result.report.outcome for result in following] == ["answered"]
    assert "Paris" in following[0].report.said


async def heard(conversation: str, final: bool) -> None:
    """Until dialog tells most words of the turn, so that a new stt has none left to hear, or all of them."""
    async with Client("dialog", "test") as dialog:
        await dialog.wait_connected()
        async for item, _ in dialog.open(Follow(conversation=conversation)):
            if isinstance(item, TurnHeard) and item.final >= final and len(item.text.split()) >= MOST_WORDS:
                return
