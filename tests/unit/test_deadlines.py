"""Many deadlines, one timer."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from ipc import limits
from ipc.deadlines import Deadlines
from ipc.session import Exchange, State

MS = 1_000_000


def _open() -> Exchange:
    return Exchange(bytes(16), 1, 0, 0, 0, State.OPEN)


def test_they_come_in_the_order_of_their_time_and_not_for_what_has_ended() -> None:
    async def test() -> None:
        deadlines, late, last = Deadlines(), list[int](), asyncio.Event()
        now_ns = time.monotonic_ns()
        exchanges = [_open() for _ in range(5)]
        for number in (3, 1, 4, 0, 2):
            deadlines.add(exchanges[number], now_ns + number * 20 * MS, partial(late.append, number))
        exchanges[1].state = exchanges[3].state = State.CLOSED
        deadlines.add(_open(), now_ns + 100 * MS, last.set)
        await last.wait()
        assert late == [0, 2, 4]

    asyncio.run(test())


def test_one_in_the_past_comes_on_the_next_turn_of_the_loop() -> None:
    async def test() -> None:
        deadlines, late = Deadlines(), asyncio.Event()
        deadlines.add(_open(), 0, late.set)
        assert not late.is_set()
        await late.wait()

    asyncio.run(test())


def test_what_has_ended_is_not_kept() -> None:
    async def test() -> None:
        deadlines = Deadlines()
        far_ns = time.monotonic_ns() + 3600 * 1000 * MS
        kept = _open()
        deadlines.add(kept, far_ns, lambda: None)
        for _ in range(5 * limits.REMEMBERED_RIDS):
            ended = _open()
            deadlines.add(ended, far_ns, lambda: None)
            ended.state = State.CLOSED
        assert len(deadlines._heap) <= limits.REMEMBERED_RIDS
        assert any(entry[2] is kept for entry in deadlines._heap)
        deadlines.close()

    asyncio.run(test())


def test_after_the_close_nothing_comes() -> None:
    async def test() -> None:
        deadlines, late = Deadlines(), list[int]()
        deadlines.add(_open(), time.monotonic_ns() + 10 * MS, partial(late.append, 1))
        deadlines.close()
        await asyncio.sleep(0.05)
        assert not late

    asyncio.run(test())
