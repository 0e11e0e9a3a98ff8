"""The worker thread: order, failures, and its end."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from daemons.memory import worker
from daemons.memory.worker import Urgency, Worker
from ipc.errors import CallError, Code


class Gate:
    """Work that says when it began and waits to be let go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> str:
        self.began.set()
        self.go.wait()
        return "through"


async def begun(gate: Gate) -> None:
    await asyncio.to_thread(gate.began.wait)


def test_the_most_urgent_goes_first_and_equals_in_their_order() -> None:
    async def scene() -> list[str]:
        thread, gate, order = Worker("test"), Gate(), list[str]()
        first = asyncio.ensure_future(thread.run(Urgency.KEEP, gate))
        await begun(gate)
        wanted = [("keep 1", Urgency.KEEP), ("keep 2", Urgency.KEEP), ("answer 1", Urgency.ANSWER)]
        rest = [asyncio.ensure_future(thread.run(urgency, partial(order.append, name))) for name, urgency in wanted]
        await asyncio.sleep(0)
        gate.go.set()
        await asyncio.gather(first, *rest)
        assert await thread.close()
        return order

    assert asyncio.run(scene()) == ["answer 1", "keep 1", "keep 2"]


def test_what_it_raises_reaches_the_caller() -> None:
    def fails() -> None:
        raise ValueError("no")

    async def scene() -> None:
        thread = Worker("test")
        with pytest.raises(ValueError, match="no"):
            await thread.run(Urgency.ANSWER, fails)
        assert await thread.run(Urgency.ANSWER, lambda: 7) == 7
        await thread.close()

    asyncio.run(scene())


def test_cancelled_work_is_left_out_if_it_has_not_begun() -> None:
    async def scene() -> list[str]:
        thread, gate, done = Worker("test"), Gate(), list[str]()
        running = asyncio.ensure_future(thread.run(Urgency.ANSWER, gate))
        await begun(gate)
        waiting = asyncio.ensure_future(thread.run(Urgency.ANSWER, lambda: done.append("waiting")))
        await asyncio.sleep(0)
        running.cancel()
        waiting.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        gate.go.set()
        await thread.run(Urgency.ANSWER, lambda: done.append("next"))
        await thread.close()
        return done

    assert asyncio.run(scene()) == ["next"]


def test_closing_ends_the_work_under_way_and_fails_the_rest() -> None:
    async def scene() -> None:
        thread, gate = Worker("test"), Gate()
        running = asyncio.ensure_future(thread.run(Urgency.KEEP, gate))
        await begun(gate)
        waiting = asyncio.ensure_future(thread.run(Urgency.ANSWER, lambda: "never"))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(thread.close())
        await asyncio.sleep(0)
        gate.go.set()
        assert await closing
        assert await running == "through"
        for late in (waiting, thread.run(Urgency.ANSWER, lambda: "never")):
            with pytest.raises(CallError, match="stopping") as caught:
                await late
            assert caught.value.code is Code.PEER_GONE

    asyncio.run(scene())


def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LAST_JOB_S", 0.05)

    async def scene() -> None:
        thread, gate = Worker("test"), Gate()
        running = asyncio.ensure_future(thread.run(Urgency.KEEP, gate))
        await begun(gate)
        assert not await thread.close()
        with pytest.raises(CallError, match="stopping"):
            await running
        gate.go.set()

    asyncio.run(scene())


def test_a_result_that_comes_after_the_end_of_all_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LAST_JOB_S", 0.05)
    gate, failed = Gate(), list[threading.ExceptHookArgs]()
    monkeypatch.setattr(threading, "excepthook", failed.append)

    async def scene() -> threading.Thread:
        thread = Worker("late")
        running = asyncio.ensure_future(thread.run(Urgency.KEEP, gate))
        await begun(gate)
        await thread.close()
        await asyncio.gather(running, return_exceptions=True)
        return next(each for each in threading.enumerate() if each.name == "late")

    late = asyncio.run(scene())
    gate.go.set()
    late.join(10)
    assert (late.is_alive(), failed) == (False, [])


def test_closing_one_that_never_worked() -> None:
    assert asyncio.run(Worker("test").close())
