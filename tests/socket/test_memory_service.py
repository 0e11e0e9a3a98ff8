"""The remembering daemon on real sockets: what a caller sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest import mock

import apsw
import pytest

from daemons.config import Config
from daemons.config import Memory as MemorySettings
from daemons.engines.base import EngineError
from daemons.engines.fakes_memory import FakeClassifier, FakeEmbedder
from daemons.memory.service import MemoryService
from ipc.client import Client
from ipc.errors import CallError, Code
from ipc.ids import new_rid
from ipc.messages import (
    Forget,
    Forgotten,
    ListMemories,
    Memory,
    MemoryPage,
    Ping,
    Recall,
    Recalled,
    Remember,
    Remembered,
)
from tests.support.serving import serving

SLOW_MS = 60_000
"""Longer than a busy machine takes."""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIMMY_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def sockets(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder


def scene(memory: MemoryService, sockets: Path, play: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with serving("memory", memory, sockets) as client:
            await play(client)

    asyncio.run(run())


def fake(embedder: FakeEmbedder | None = None, grade: int = 3) -> MemoryService:
    return MemoryService(Config(), lambda: embedder or FakeEmbedder(), lambda _: FakeClassifier(grade))


async def remember(client: Client, heard: str, always: bool = False) -> Remembered:
    result = await client.request(Remember(heard=heard, always=always), ttl_ms=SLOW_MS)
    assert isinstance(result, Remembered)
    return result


async def recall(client: Client, text: str, limit: int = 3) -> list[Memory]:
    result = await client.request(Recall(text=text, limit=limit), ttl_ms=SLOW_MS)
    assert isinstance(result, Recalled)
    return result.memories


async def page(client: Client, after_id: int = 0, limit: int = 200) -> MemoryPage:
    result = await client.request(ListMemories(after_id=after_id, limit=limit), ttl_ms=SLOW_MS)
    assert isinstance(result, MemoryPage)
    return result


@pytest.mark.models
def test_it_remembers_what_matters_and_answers_with_it(sockets: Path) -> None:
    async def first(client: Client) -> None:
        kept = await remember(client, "Remember that the plumber comes on Tuesday at nine.")
        assert (kept.kept, kept.text) == (True, "the plumber comes on Tuesday at nine.")
        assert kept.importance >= 4
        await remember(client, "My sister's birthday is on the fourth of March.")
        for small in ("When does the plumber come?", "when does the plumber come", "Good morning.", "Thank you."):
            assert not (await remember(client, small)).kept
        assert (await remember(client, "Good morning.", always=True)).kept

    async def after_a_restart(client: Client) -> None:
        [memory] = await recall(client, "When does the plumber come?")
        assert memory.text == "the plumber comes on Tuesday at nine."
        assert 0.5 <= memory.score <= 1
        assert await recall(client, "What is the capital of France?") == []
        assert (await page(client)).total == 3

    scene(MemoryService(Config()), sockets, first)
    scene(MemoryService(Config()), sockets, after_a_restart)


def test_times_are_those_of_the_daemon(sockets: Path) -> None:
    async def play(client: Client) -> None:
        before = time.monotonic_ns()
        result = await client.request(Recall(text="anything", limit=1), ttl_ms=SLOW_MS)
        assert isinstance(result, Recalled)
        assert before < result.received_ns < result.finished_ns < time.monotonic_ns()

    scene(fake(), sockets, play)


def test_the_same_fact_is_kept_once(sockets: Path) -> None:
    async def play(client: Client) -> None:
        first = await remember(client, "Remember that the bell rings at nine.")
        again = await remember(client, "the bell rings at 9")
        assert first.id == again.id
        [memory] = (await page(client)).memories
        assert memory.text == "the bell rings at 9"
        assert memory.created_s == pytest.approx(time.time(), abs=600)

    scene(fake(), sockets, play)


def test_what_is_offered_again_under_its_id_is_kept_once(sockets: Path) -> None:
    """dialog gives up an offer when somebody speaks, and repeats one whose end it did not live to note down."""

    async def play(client: Client) -> None:
        turn, offer = new_rid(), Remember(heard="Remember that the bell rings twice.")
        client.open(offer, rid=turn).cancel("somebody speaks")
        ids = [await client.request(offer, rid=turn, ttl_ms=SLOW_MS) for _ in range(2)]
        assert [each.id for each in ids if isinstance(each, Remembered) and each.kept] == [1, 1]
        assert (await page(client)).total == 1

    scene(fake(), sockets, play)


def test_questions_and_empty_words_are_not_kept(sockets: Path) -> None:
    async def play(client: Client) -> None:
        assert await remember(client, "Is it late?") == Remembered(kept=False, id=0, importance=0, text="Is it late?")
        for empty in ("", "...", "🎉"):
            assert not (await remember(client, empty, always=True)).kept
            assert await recall(client, empty) == []
        assert (await page(client)).total == 0

    scene(fake(grade=5), sockets, play)


def test_a_list_comes_in_pages_that_fit_the_wire(sockets: Path) -> None:
    """Also with the widest characters there are."""

    async def play(client: Client) -> None:
        wide = "".join(chr(0x20000 + n) for n in range(300))
        for n in range(60):
            assert (await remember(client, f"{wide} {n}")).kept
        longest = await remember(client, "\U0001f511 key " + "x" * 8000, always=True)
        seen: list[Memory] = []
        while len(seen) < 61:
            result = await page(client, seen[-1].id if seen else 0)
            assert result.total == 61
            assert result.memories
            seen += result.memories
        assert [memory.id for memory in seen] == sorted({memory.id for memory in seen})
        assert seen[-1].id == longest.id
        assert len((await page(client, limit=2)).memories) == 2
        assert len(await recall(client, wide, 50)) > 20

    scene(fake(), sockets, play)


def test_what_is_forgotten_is_not_recalled(sockets: Path, state: Path) -> None:
    async def play(client: Client) -> None:
        kept = await remember(client, "Zebulon rings the bell")
        assert [memory.id for memory in await recall(client, "Who rings the bell?")] == [kept.id]
        assert await client.request(Forget(ids=[kept.id, 77]), ttl_ms=SLOW_MS) == Forgotten(count=1)
        assert await recall(client, "Who rings the bell?") == []
        assert not any(b"Zebulon" in file.read_bytes() for file in (state / "memory").iterdir())

    scene(fake(), sockets, play)


def test_remembering_never_delays_a_recall(sockets: Path) -> None:
    """Twenty things to keep wait; the question that comes last is worked on next."""
    embedder = FakeEmbedder()

    async def play(client: Client) -> None:
        await remember(client, "the bell rings")
        embedder.hold.clear()
        keeping = [asyncio.ensure_future(remember(client, f"the note number {n}")) for n in range(20)]
        asking = asyncio.ensure_future(recall(client, "Where is the bell?"))
        for _ in range(3):  # what was sent before a ping has arrived when it is answered
            await client.request(Ping(), ttl_ms=SLOW_MS)
        embedder.embedded.clear()
        embedder.hold.set()
        await asyncio.gather(asking, *keeping)
        assert embedder.embedded.index("Where is the bell?") <= 1

    scene(fake(embedder), sockets, play)


def test_an_engine_that_fails_fails_the_request_alone(sockets: Path) -> None:
    embedder = FakeEmbedder()

    async def play(client: Client) -> None:
        embedder.error = EngineError(Code.ENGINE_FAILED, "the embedder is out of order")
        for request in (Recall(text="the bell", limit=1), Remember(heard="the bell rings")):
            with pytest.raises(CallError, match="out of order") as caught:
                await client.request(request, ttl_ms=SLOW_MS)
            assert caught.value.code is Code.ENGINE_FAILED
        embedder.error = None
        assert (await remember(client, "the bell rings")).kept

    scene(fake(embedder), sockets, play)


def test_a_store_that_cannot_be_written_is_shown_until_it_can(sockets: Path, state: Path) -> None:
    memory = fake()

    async def play(client: Client) -> None:
        await remember(client, "the bell rings")
        holder = apsw.Connection(str(state / "memory" / "memory.db"))
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(CallError, match="in use by another program") as caught:
            await remember(client, "the gate is locked")
        assert caught.value.code is Code.STORE_LOCKED
        assert "in use by another program" in memory.trouble
        assert await recall(client, "Who rings the bell?"), "reading goes on"
        assert memory.trouble
        holder.close()
        assert (await remember(client, "the gate is locked")).kept
        assert memory.trouble == ""

    scene(memory, sockets, play)


def test_another_embedder_finds_what_the_first_one_kept(sockets: Path) -> None:
    async def keep(client: Client) -> None:
        await remember(client, "the bell rings")

    async def find(client: Client) -> None:
        assert [memory.text for memory in await recall(client, "Who rings the bell?")] == ["the bell rings"]

    scene(fake(), sockets, keep)
    scene(fake(FakeEmbedder("wider", 96)), sockets, find)


def test_a_damaged_store_is_not_served(state: Path) -> None:
    (state / "memory").mkdir(parents=True, mode=0o700)
    (state / "memory" / "memory.db").write_bytes(b"noise " * 2000)
    memory = fake()

    async def load() -> None:
        try:
            with pytest.raises(CallError, match="is damaged") as caught:
                await memory.load()
            assert caught.value.code is Code.STORE_DAMAGED
        finally:
            await memory.close()

    asyncio.run(load())


def test_a_missing_model_is_told() -> None:
    memory = MemoryService(Config(memory=MemorySettings(embedder="nothing-here")))

    async def load() -> None:
        try:
            with pytest.raises(CallError, match="timmy models pull") as caught:
                await memory.load()
            assert caught.value.code is Code.MODEL_MISSING
        finally:
            await memory.close()

    asyncio.run(load())


@pytest.mark.parametrize("vector", [[float("nan")] * 64, [1.0], [float("inf")] + [0.0] * 63])
def test_what_is_no_vector_is_neither_stored_nor_looked_for(sockets: Path, vector: list[float]) -> None:
    embedder = FakeEmbedder()

    async def play(client: Client) -> None:
        with mock.patch.object(embedder, "embed", lambda texts: [vector] * len(texts)):
            for request in (Remember(heard="The key is here."), Recall(text="Where is the key?", limit=3)):
                with pytest.raises(CallError, match="gave no 64 numbers") as caught:
                    await client.request(request, ttl_ms=SLOW_MS)
                assert caught.value.code is Code.ENGINE_FAILED
        reply = await client.request(ListMemories(), ttl_ms=SLOW_MS)
        assert isinstance(reply, MemoryPage)
        assert reply.total == 0

    scene(fake(embedder), sockets, play)


def test_a_grade_that_is_none_is_told(sockets: Path) -> None:
    async def play(client: Client) -> None:
        with pytest.raises(CallError, match="importance 99, not 0 to 5"):
            await client.request(Remember(heard="The key is here."), ttl_ms=SLOW_MS)

    scene(fake(grade=99), sockets, play)
