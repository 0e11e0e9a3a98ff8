"""dialog or memory killed between the promise and the store: what was heard is remembered, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ipc.client import Client, Stream
from ipc.messages import Ask, ListMemories, Memory, MemoryPage, Status, StatusReport
from tests.support.eventually import eventually
from tests.support.suite import house, kill, running, until_back
from tools.recorded import open_talk

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where dialog keeps what it has promised. The daemons run."""
    state = tmp_path_factory.mktemp("state")
    with house(state), running():
        yield state / "dialog" / "to-remember.jsonl"


def test_dialog_killed_while_the_answer_sounds(journal: Path) -> None:
    async def scene(asked: Stream) -> None:
        await until_back("dialog", await kill("dialog"))

    told = asyncio.run(promised(journal, "the blue ladder is in the attic", scene))
    assert len(told) == 1


def test_memory_killed_between_the_promise_and_the_store(journal: Path) -> None:
    async def scene(asked: Stream) -> None:
        old = await kill("memory")
        await asked.result()
        await until_back("memory", old)

    told = asyncio.run(promised(journal, "the red bicycle has a flat tyre", scene))
    assert len(told) == 1


def test_dialog_killed_after_the_memory_took_it_and_before_the_journal_knew(journal: Path) -> None:
    """A folder in the place of the next version keeps the disk at what it was when the promise was made."""
    first: list[Memory] = []

    async def scene(asked: Stream) -> None:
        in_the_way = journal.with_suffix(".new")
        in_the_way.mkdir()
        await asked.result()
        await eventually(removal_has_failed)
        first.extend(await remembered("the green umbrella"))
        assert waits(journal, "the green umbrella")
        old = await kill("dialog")
        in_the_way.rmdir()
        await until_back("dialog", old)

    told = asyncio.run(promised(journal, "the green umbrella is in the car", scene))
    assert [memory.id for memory in told] == [memory.id for memory in first]
    assert told[0].created_s > first[0].created_s, "it was not offered again: nothing was tried"


async def promised(journal: Path, fact: str, scene: Callable[[Stream], Awaitable[None]]) -> list[Memory]:
    """Plays the scene from the moment at which what was heard is on disk, while the answer sounds and nothing is
    stored. Returns what is remembered of it once the journal is empty."""
    async with AsyncExitStack() as stack:
        talk = await open_talk(stack, None)
        dialog = await stack.enter_async_context(Client("dialog", "test"))
        await dialog.wait_connected()
        asked = dialog.open(Ask(conversation=talk.name, text=f"Please remember that {fact}.", speak=True))
        await eventually(lambda: waits(journal, fact))
        assert await remembered(fact) == []
        await scene(asked)
        await eventually(lambda: journal.read_bytes() == b"")
        return await remembered(fact)


def waits(journal: Path, fact: str) -> bool:
    return journal.exists() and fact in journal.read_text("utf-8")


async def remembered(fact: str) -> list[Memory]:
    async with Client("memory", "test") as memory:
        page = await memory.request(ListMemories())
    assert isinstance(page, MemoryPage)
    return [each for each in page.memories if each.text.startswith(fact)]


async def removal_has_failed() -> bool:
    async with Client("dialog", "test") as dialog:
        report = await dialog.request(Status())
    assert isinstance(report, StatusReport)
    return "cannot be written" in report.detail
