"""Several houses side by side, each with its share of what a campaign tries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tools.harness import House

T = TypeVar("T")


@asynccontextmanager
async def housed(make: Callable[[], House]) -> AsyncIterator[House]:
    """A house that is entered and left beside other work."""
    house = make()
    await asyncio.to_thread(house.__enter__)
    try:
        yield house
    finally:
        await asyncio.to_thread(house.__exit__)


def side_by_side(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Runs them all. Raises what the first one raises, when the others have been given up."""

    async def all_of_it() -> list[T]:
        tasks = [asyncio.create_task(each) for each in work]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(all_of_it())
