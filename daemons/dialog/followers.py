"""Those who follow a conversation: each has a queue of its own, so that none can hold up a turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ipc.messages import Body, Notice

log = logging.getLogger(__name__)

QUEUE_MAX = 1000
"""Ten minutes of a lively conversation; a follower that reads less is told what it missed."""


class Followers:
    """Who is told what, by conversation."""

    def __init__(self) -> None:
        self._queues: dict[str, list[asyncio.Queue[Body]]] = {}

    @contextmanager
    def of(self, conversation: str) -> Iterator[asyncio.Queue[Body]]:
        """A queue that gets everything of the conversation while the context lasts."""
        queue: asyncio.Queue[Body] = asyncio.Queue()
        self._queues.setdefault(conversation, []).append(queue)
        try:
            yield queue
        finally:
            self._queues[conversation].remove(queue)
            if not self._queues[conversation]:
                del self._queues[conversation]

    def tell(self, conversation: str, item: Body) -> None:
        for queue in self._queues.get(conversation, ()):
            if queue.qsize() >= QUEUE_MAX:
                log.warning("a follower of %s does not read: starts over", conversation)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(Notice(text=f"{QUEUE_MAX} messages were not read in time and are lost"))
            queue.put_nowait(item)
