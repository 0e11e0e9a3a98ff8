"""Stand-ins for the hearing engines: deterministic, and told to fail, stall or babble. For tests of faults."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from daemons.engines.base import EngineError, EngineInfo, Frame, Superseded, Transcript, never
from daemons.engines.ordered import HUGE, MANGLED, obey
from daemons.orders import OrderBook
from ipc.errors import Code


class FakeTranscriber:
    """Answers with `texts` in turn, the last one for ever; digital silence with nothing. Fails while `failure`
    is set, stalls while `go` is not."""

    info = EngineInfo("fake", "fake", "cpu")

    def __init__(self, *texts: str, failure: Exception | None = None) -> None:
        self.failure = failure
        self.go = threading.Event()
        self.go.set()
        self._texts = deque(texts or ["What is the capital of France?"])

    def transcribe(self, pcm: bytes, draft: bool = False, superseded: Superseded = never) -> Transcript:
        self.go.wait()
        if self.failure is not None:
            raise self.failure
        if not any(pcm):
            return Transcript("", 1.0)
        return Transcript(self._texts.popleft() if len(self._texts) > 1 else self._texts[0], 0.0)


class FakeDetector:
    """Calls voiced what is not digital silence."""

    def is_speech(self, pcm: bytes) -> bool:
        return any(pcm)


class FakeMicrophone:
    """An AudioIn that gives what `push` is given, cannot be opened while `failure` is set, and can be lost."""

    name = "fake"

    def __init__(self, failure: EngineError | None = None) -> None:
        self.failure = failure
        self.tried = threading.Semaphore(0)
        self.closed = 0

    def start(self, on_frame: Callable[[Frame], None], on_lost: Callable[[EngineError], None]) -> None:
        self.tried.release()
        if self.failure is not None:
            raise self.failure
        self.push, self._on_lost = on_frame, on_lost

    def lose(self) -> None:
        self._on_lost(EngineError(Code.DEVICE_LOST, "the microphone 'fake' went away: plug it in again"))

    def close(self) -> None:
        self.closed += 1


class OrderedTranscriber(FakeTranscriber):
    """Obeys its orders while it works; hears nothing in digital silence, whatever they say. What it is asked first
    is the known clip, in which it hears the usual, whatever text they give."""

    def __init__(self, book: OrderBook) -> None:
        super().__init__()
        self._book = book
        self._checked = False

    def transcribe(self, pcm: bytes, draft: bool = False, superseded: Superseded = never) -> Transcript:
        obey(self._book)
        heard, orders = super().transcribe(pcm, draft, superseded), self._book.now()
        texts = {"empty": "", "huge": HUGE, "bad_utf8": heard.text + MANGLED}
        text = texts.get(orders.fault, (self._checked and orders.text) or heard.text)
        self._checked = True
        return Transcript(text, heard.no_speech) if heard.text else heard
