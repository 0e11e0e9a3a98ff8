"""The five daemons as processes of their own, with fake engines, up in some tens of milliseconds each. A file names the
fault that an engine has at present, and what the model says."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from daemons import runtime
from daemons.dialog.service import DialogService
from daemons.engines.base import EngineError, Prompt, Superseded, Transcript, Usage, never
from daemons.engines.fakes_llm import FakeModel
from daemons.engines.fakes_memory import FakeClassifier, FakeEmbedder
from daemons.engines.fakes_stt import FakeDetector, FakeTranscriber
from daemons.engines.fakes_tts import FakeOut, FakeSynthesizer, tone
from daemons.llm.service import LlmService
from daemons.memory.service import MemoryService
from daemons.stt.service import SttService
from daemons.tts.service import KNOWN_TEXT, TtsService
from ipc import ids
from ipc.errors import Code
from tests.support.forked import Forked

ANSWER = "Paris it is, at noon."
HUGE = 1_000_000
"""Characters of an engine that does not know when to stop."""


class Orders:
    """What a test wants of an engine, by files in a folder that both know."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def give(self, what: str, text: str = "") -> None:
        """`what` is "fault-DAEMON" or "answer"; an empty text takes it back."""
        fresh = self._folder / f"{what}.new"
        fresh.write_text(text, "utf-8", errors="surrogatepass")
        fresh.replace(self._folder / what)

    def read(self, what: str) -> str:
        path = self._folder / what
        return path.read_text("utf-8", errors="surrogatepass") if path.exists() else ""

    def tell(self, what: str, text: str) -> None:
        """Adds a line for the test to read: what an engine was given."""
        with (self._folder / what).open("a", encoding="utf-8", errors="surrogatepass") as file:
            file.write(repr(text) + "\n")


def fail(daemon: str, fault: str) -> None:
    """Raises what an engine raises that has this fault, if it is one that raises."""
    if fault == "exception":
        raise RuntimeError("the engine has lost its mind")
    if fault == "engine error":
        raise EngineError(Code.ENGINE_FAILED, f"the engine of {daemon} has lost its mind: restart it")
    if fault.startswith("says "):
        raise EngineError(Code.ENGINE_FAILED, fault.removeprefix("says "))


class Model(FakeModel):
    def __init__(self, orders: Orders) -> None:
        super().__init__()
        self._orders = orders

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str | Usage, None]:
        fault = self._orders.read("fault-llm")
        self._orders.tell("prompts", repr(list(prompt.messages)))
        fail("llm", fault)
        while fault == "hang":  # until the test takes it back
            await asyncio.sleep(0.01)
            fault = self._orders.read("fault-llm")
        if piece := {"huge": "x" * HUGE, "bad UTF-8": "caf\udce9 \ud800"}.get(fault):
            yield piece
        self.reply = "" if fault == "empty" else self._orders.read("answer") or ANSWER
        async for item in super().generate(prompt):
            yield item


class Voice(FakeSynthesizer):
    def __init__(self, orders: Orders) -> None:
        super().__init__()
        self._orders = orders

    async def synthesize(self, text: str) -> AsyncGenerator[bytes, None]:
        fault = self._orders.read("fault-tts")
        self._orders.tell("spoken", text)
        fail("tts", fault)
        while fault == "hang":
            await asyncio.sleep(0.01)
            fault = self._orders.read("fault-tts")
        odd = {"empty": b"", "half a sample": b"\x01", "no audio": None}.get(fault, tone(60, self.sample_rate))
        if odd is not None:
            yield tone(1000, self.sample_rate) if text == KNOWN_TEXT else odd


class AtOnce(FakeOut):
    """A speaker that has played what it is given as soon as it has it."""

    def mark_end(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self.on_started, time.monotonic_ns())
        loop.call_soon(self.on_drained, time.monotonic_ns())


class Embedder(FakeEmbedder):
    def __init__(self, orders: Orders) -> None:
        super().__init__()
        self._orders = orders

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        while (fault := self._orders.read("fault-memory")) == "hang":
            time.sleep(0.01)
        fail("memory", fault)
        vectors = super().embed(texts)
        spoilt = {"NaN": [float("nan")] * self.dimensions, "short": [1.0], "empty": list[float]()}.get(fault)
        return vectors if spoilt is None else [spoilt for _ in texts]


class Classifier(FakeClassifier):
    def __init__(self, orders: Orders, embedder: Any) -> None:
        super().__init__()
        self._orders = orders

    def importance(self, text: str) -> int:
        fault = self._orders.read("fault-memory")
        if fault == "classifier":
            raise RuntimeError("the classifier has lost its mind")
        return 99 if fault == "no grade" else super().importance(text)


class Transcriber(FakeTranscriber):
    def __init__(self, orders: Orders) -> None:
        super().__init__()
        self._orders = orders

    def transcribe(self, pcm: bytes, draft: bool = False, superseded: Superseded = never) -> Transcript:
        while (fault := self._orders.read("fault-stt")) == "hang":
            time.sleep(0.01)
        fail("stt", fault)
        said = {"empty": "", "huge": "word " * (HUGE // 5), "bad UTF-8": "caf\udce9 \ud800 is open"}.get(fault)
        return super().transcribe(pcm, draft, superseded) if said is None else Transcript(said, 0.0)


MAKERS: dict[str, Callable[[Orders], runtime.Make]] = {
    "stt": lambda orders: partial(
        SttService, transcriber=partial(Transcriber, orders), detector=FakeDetector, microphone=None
    ),
    "dialog": lambda orders: DialogService,
    "llm": lambda orders: partial(LlmService, model=Model(orders)),
    "memory": lambda orders: partial(
        MemoryService, embedder=partial(Embedder, orders), classifier=partial(Classifier, orders)
    ),
    "tts": lambda orders: partial(
        TtsService, synthesizer=partial(Voice, orders), output=lambda name, rate: AtOnce(rate)
    ),
}


def places(folder: Path) -> dict[str, str]:
    """The environment of the house in `folder`."""
    return {
        "TIMMY_RUNTIME": str(folder / "run"),
        "TIMMY_STATE": str(folder / "state"),
        "TIMMY_STT_INPUT": "none",
        "TIMMY_LLM_ENGINE": "llama",
        "XDG_CONFIG_HOME": str(folder),
    }


Plant = Callable[[], object]


def serve(
    pipe: Connection, daemon: str, folder: Path, environ: dict[str, str], real_model: bool, plant: Plant | None
) -> None:
    """Such a daemon, with its log in FOLDER/DAEMON.log, as its `__main__` would run it."""
    if plant is not None:
        plant()
    os.environ.pop("NOTIFY_SOCKET", None)
    os.environ.update(places(folder) | environ)
    log = os.open(folder / f"{daemon}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    fresh = os.urandom(len(ids.BOOT_ID))  # one that all forked processes share names none of them
    for module in [module for module in list(sys.modules.values()) if hasattr(module, "BOOT_ID")]:
        module.BOOT_ID = fresh  # type: ignore[attr-defined]
    make = LlmService if real_model else MAKERS[daemon](Orders(folder))
    sys.exit(runtime.main(daemon, make))


def start(
    daemon: str,
    folder: Path,
    environ: dict[str, str] | None = None,
    real_model: bool = False,
    plant: Plant | None = None,
) -> Forked:
    """The daemon in the house of `folder`; a context manager. Serves soon, or ends. `real_model`: the llm daemon with
    the engine of its settings. `plant` is called in the process before anything else: it may spoil the program."""
    return Forked(serve, daemon, folder, environ or {}, real_model, plant)


def log_of(daemon: str, folder: Path) -> str:
    path = folder / f"{daemon}.log"
    return path.read_text("utf-8") if path.exists() else ""
