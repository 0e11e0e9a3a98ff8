"""The one transcriber, shared by all conversations: one transcript at a time, drafts last."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from daemons.engines.base import EngineError, Transcriber, Transcript
from daemons.stt.core import Transcribe

log = logging.getLogger(__name__)

Answer = Callable[[str | None], None]
T = TypeVar("T")


class TranscriptWorker:
    """Lives on the event loop; the transcriber works in a thread of its own."""

    def __init__(self) -> None:
        self.trouble = ""
        """Why the last transcript failed, until one succeeds."""
        self._thread = ThreadPoolExecutor(1, "transcriber")
        self._transcriber: Transcriber | None = None
        self._waiting: dict[bool, deque[tuple[Transcribe, Answer]]] = {False: deque(), True: deque()}  # by draft
        self._busy = self._closed = False

    async def use(self, make: Callable[[], Transcriber]) -> Transcriber:
        """Makes the transcriber in the thread that it will work in."""
        self._transcriber = await self.run(make)
        return self._transcriber

    async def run(self, task: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, task)

    def ask(self, job: Transcribe, answer: Answer) -> None:
        """`answer` gets the text, None when the transcriber failed; on the event loop."""
        self._waiting[job.draft].append((job, answer))
        self._next()

    def _next(self) -> None:
        draft = not self._waiting[False]
        if self._closed or self._busy or not self._waiting[draft]:
            return
        assert self._transcriber is not None
        self._busy = True
        job, answer = self._waiting[draft].popleft()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, self._transcriber.transcribe, job.pcm, draft, job.superseded)
        future.add_done_callback(lambda done: self._done(done, answer))

    def _done(self, done: asyncio.Future[Transcript], answer: Answer) -> None:
        self._busy = False
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self.trouble = ""
            answer(_encodable(done.result().text))
        else:
            self.trouble = f"the transcriber failed: {error}"
            log.error("%s", self.trouble, exc_info=None if isinstance(error, EngineError) else error)
            answer(None)
        self._next()

    def close(self) -> None:
        """What waits, or is asked for later, gets no answer any more."""
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)


def _encodable(text: str) -> str:
    """Without half characters, which no message can carry."""
    return text.encode("utf-8", "ignore").decode()
