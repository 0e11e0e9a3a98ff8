"""Carries out a plan, and records what comes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from ipc.endpoints import DAEMONS
from ipc.errors import TimmyError
from tools.chaos.faults import Hand
from tools.chaos.load import Questions
from tools.chaos.plan import BadHop, Cut, DiskFull, Plan, Step
from tools.chaos.record import Applied, Question, Record, due_s
from tools.chaos.watch import Ends, Watch, until
from tools.harness import HarnessError, House

DISK_BYTES = 64 << 20
_LOOK_S = 0.05
_SETTLE_S = 15.0
"""A daemon gives up a caller that is gone after 5 s, and looks every 2.5."""
FIRST_S = 60.0
READY_S = 5.0
"""Whoever is not ready so long after the first answer lacks something that no fault took, a microphone perhaps."""

Tell = Callable[[float, str], None]


def carry_out(plan: Plan, engines: str, tell: Tell = lambda s, line: None) -> Record:
    """`tell` hears what happens while it does. Raises HarnessError when the suite does not work even untroubled, or a
    fault cannot be had here."""
    hops = sorted({step.daemon for step in plan.fault if isinstance(step, BadHop | Cut)})
    disk = DISK_BYTES if any(isinstance(step, DiskFull) for step in plan.fault) else 0
    with House(engines=engines, hops=hops, disk_bytes=disk) as house:
        return asyncio.run(_Run(plan, house, tell).go())


class _Run:
    def __init__(self, plan: Plan, house: House, tell: Tell) -> None:
        self._plan, self._house, self._tell = plan, house, tell
        self._record = Record()
        self._began = time.monotonic()
        self._told: list[Applied] = []
        self._must_be_ready: list[Watch] = []
        self._hand = Hand(house)
        self._ends = Ends(house, self._record)
        self._watches = [Watch(name, house, self._record, self._clock, self._ends.died) for name in DAEMONS]

    def _clock(self) -> float:
        return time.monotonic() - self._began

    async def go(self) -> Record:
        async with AsyncExitStack() as stack:
            questions = Questions(self._plan.load, self._house.place.run, self._clock, self._record.questions.append)
            await stack.enter_async_context(questions)
            watching = [asyncio.create_task(work) for work in (self._ends.run(), *(w.run() for w in self._watches))]
            stack.push_async_callback(_end, watching)
            await self._untroubled(questions)
            open_before = {watch.name: watch.requests_open for watch in self._watches}
            self._must_be_ready = [watch for watch in self._watches if watch.well_s is not None]
            self._record.questions.clear()
            self._began = time.monotonic()
            asking = asyncio.create_task(questions.run())
            troubling = [asyncio.create_task(self._trouble(step)) for step in self._plan.fault]
            stack.push_async_callback(_end, [asking, *troubling])
            await self._until_over(watching)
            asking.cancel()
            self._record.seconds = round(self._clock(), 3)
            await questions.ended()
            await self._settle(open_before)
        return self._record

    async def _untroubled(self, questions: Questions) -> None:
        """One answer before anything happens."""
        deadline = time.monotonic() + FIRST_S
        while not any(question.outcome == "done" for question in self._record.questions):
            if time.monotonic() > deadline:
                last = self._record.questions[-1].detail
                raise HarnessError(f"the suite does not answer even before the first fault: {last}")
            await questions.one("Which city is it?")
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                await until(lambda: all(watch.well_s is not None for watch in self._watches))
        for watch in self._watches:
            if watch.report is None:
                raise HarnessError(f"{watch.name} does not tell its status even before the first fault")

    async def _trouble(self, step: Step) -> None:
        await asyncio.sleep(step.at - self._clock())
        applied = Applied(step, round(self._clock(), 3))
        self._tell(self._clock(), step.words())
        try:
            undo = await asyncio.to_thread(self._hand.bring_about, step)
        except (OSError, TimmyError) as error:
            applied.trouble = f"could not be brought about: {error}"
            applied.ended_s = applied.began_s
            self._record.applied.append(applied)
            return
        self._record.applied.append(applied)
        try:
            await asyncio.sleep(step.at + step.seconds - self._clock() if step.LASTS else 0)
        finally:
            undo()
        applied.ended_s = round(self._clock(), 3)
        if step.LASTS:
            self._tell(self._clock(), f"{step.words()}: over")

    async def _until_over(self, watching: list[asyncio.Task[None]]) -> None:
        while self._clock() < self._plan.seconds or not self._settled_or_due():
            for task in watching:
                if task.done():
                    task.result()
            for applied in self._record.applied:
                self._look_at(applied)
            await asyncio.sleep(_LOOK_S)

    def _settled_or_due(self) -> bool:
        done = len(self._record.applied) == len(self._plan.fault)
        return done and all(
            each.trouble
            or each.recovered_s is not None
            or self._clock() > due_s(each, self._record.applied, self._plan.recover_s)
            for each in self._record.applied
        )

    def _look_at(self, applied: Applied) -> None:
        if applied.ended_s > self._clock() or applied.trouble:
            return
        if applied.ready_s is None and all((w.well_s or -1.0) >= applied.ended_s for w in self._must_be_ready):
            applied.ready_s = round(self._clock(), 3)
        if applied.answered_s is None:
            after = [q.ended_s for q in self._record.questions if _answered_after(q, applied.ended_s)]
            applied.answered_s = round(min(after), 3) if after else None
        if applied.recovered_s is not None and applied not in self._told:
            self._told.append(applied)
            self._tell(self._clock(), f"{applied.step.words()}: all well again")

    async def _settle(self, open_before: dict[str, int]) -> None:
        """Waits for what should end, and takes stock."""
        deadline = time.monotonic() + _SETTLE_S
        while True:
            left = {watch.name: watch.requests_open - open_before[watch.name] for watch in self._watches}
            if (
                not (any(count > 0 for count in left.values()) or self._ends.unended(1.0))
                or time.monotonic() > deadline
            ):
                break
            await asyncio.sleep(_LOOK_S)
        self._record.applied.sort(key=lambda applied: (applied.step.at, self._plan.fault.index(applied.step)))
        self._record.left_open = left
        self._record.unseen = self._ends.lost
        self._record.unended = [] if self._ends.lost else self._ends.unended(1.0)
        self._record.grown = {watch.name: watch.grown_bytes() for watch in self._watches}


def _answered_after(question: Question, ended_s: float) -> bool:
    return question.outcome == "done" and question.asked_s >= ended_s


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
