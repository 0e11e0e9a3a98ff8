"""One transcriber for all conversations."""

from __future__ import annotations

import asyncio
import threading

from daemons.engines.base import Superseded, Transcript, never
from daemons.engines.fakes_stt import FakeTranscriber
from daemons.stt.core import Transcribe
from daemons.stt.worker import TranscriptWorker


class Echo(FakeTranscriber):
    """Says what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()

    def transcribe(self, pcm: bytes, draft: bool = False, superseded: Superseded = never) -> Transcript:
        self.began.set()
        super().transcribe(pcm, draft, superseded)
        return Transcript(f"{pcm.decode()}{' (draft)' if draft else ''}", 0.0)


async def answers(*wanted: tuple[str, bool]) -> list[str | None]:
    """The texts in the order in which they come, when all are asked for while the first is under way."""
    transcriber, worker, said = Echo(), TranscriptWorker(), list[str | None]()
    await worker.use(lambda: transcriber)
    transcriber.go.clear()
    done = asyncio.Event()

    def answer(text: str | None) -> None:
        said.append(text)
        if len(said) == len(wanted):
            done.set()

    for pcm, draft in wanted:
        worker.ask(Transcribe(pcm.encode(), draft, never), answer)
    transcriber.go.set()
    await asyncio.wait_for(done.wait(), 30)
    worker.close()
    return said


def test_drafts_wait_for_what_matters() -> None:
    order = asyncio.run(answers(("a", True), ("b", True), ("c", False), ("d", False)))
    assert order == ["a (draft)", "c", "d", "b (draft)"]


def test_what_waits_at_the_end_is_given_up() -> None:
    async def task() -> None:
        transcriber, worker, said = Echo(), TranscriptWorker(), list[str | None]()
        await worker.use(lambda: transcriber)
        transcriber.go.clear()
        worker.ask(Transcribe(b"a", False, never), said.append)
        queued = asyncio.get_running_loop().run_in_executor(worker._thread, lambda: None)
        await asyncio.to_thread(transcriber.began.wait, 30)
        worker.close()
        await asyncio.wait([queued])
        assert queued.cancelled()
        transcriber.go.set()

    asyncio.run(task())


def test_nothing_is_transcribed_after_the_end() -> None:
    """A microphone that goes away at the end asks for the last words of its turn."""

    async def task() -> None:
        transcriber, worker, said = Echo(), TranscriptWorker(), list[str | None]()
        await worker.use(lambda: transcriber)
        worker.close()
        worker.ask(Transcribe(b"a", False, never), said.append)
        assert said == []

    asyncio.run(task())
