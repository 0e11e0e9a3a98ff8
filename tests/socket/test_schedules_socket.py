"""What a conversation promises holds through real sockets too, whatever comes between (docs/adr/011-schedules.md)."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from ipc.client import Client
from tests.support.eventually import eventually
from tests.support.schedules.book import Book
from tests.support.schedules.guest import Guest
from tests.support.schedules.house import House, house
from tests.support.schedules.monitor import faults, kinds
from tests.support.schedules.record import Record

COUNT = int(os.environ.get("SOCKET_SCHEDULES", "200"))
TOGETHER = 20
"""So many conversations are held in one house at a time: a machine of two cores has room for them."""

HANG_S = 120.0
"""No house takes this long; one that does hangs."""

DEATHS = 2
DAEMONS = ("stt", "dialog", "llm", "memory", "tts")


async def converse(seeds: range, state: Path) -> list[Record]:
    """One schedule a seed, all at once; the first decides for the house."""
    chance, book = random.Random(seeds[0]), Book()
    async with asyncio.timeout(HANG_S), house(book, chance, state) as daemons, AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(Client(name, "guests", folder=daemons.folder))
            for name in ("stt", "tts", "dialog")
        }
        for client in clients.values():
            await client.wait_connected()
        guests = [Guest(daemons, clients, place, seed) for place, seed in enumerate(seeds, 1)]
        fate = asyncio.create_task(_kill_some(daemons))
        records = await asyncio.gather(*(guest.run() for guest in guests))
        await fate
        promises = Counter(event.data for record in records for event in record.of("stored"))
        promises.subtract(event.data for record in records for event in record.of("withdrawn"))
        promised = set(+promises)
        await eventually(lambda: promised <= book.remembered)
        assert book.remembered <= promised, "the memory was offered what nobody had decided to store"
    return records


async def _kill_some(daemons: House) -> None:
    for _ in range(DEATHS):
        await asyncio.sleep(daemons.chance.uniform(0.5, 3.0))
        await daemons.kill(daemons.chance.choice(DAEMONS))


def test_schedules_through_real_sockets_keep_the_promises(tmp_path: Path) -> None:
    held: Counter[str] = Counter()
    for first in range(0, COUNT, TOGETHER):
        seeds = range(first, min(first + TOGETHER, COUNT))
        for record in asyncio.run(converse(seeds, tmp_path / str(first))):
            assert faults(record) == [], f"in a house of seed {first}\n{record.story()}"
            held += kinds(record)
    for kind in ("revoked at work", "joined after the end", "died", "stalled", "cut", "typed", "sound"):
        assert held[kind] > COUNT / 20, held
