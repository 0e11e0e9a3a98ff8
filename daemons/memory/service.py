"""The remembering daemon: recalls what is relevant, keeps what is important, forgets for good."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from daemons import config
from daemons.engines.base import Classifier, Embedder, EngineError, EngineInfo
from daemons.memory import core
from daemons.memory.faults import StoreError
from daemons.memory.store import Store
from daemons.memory.worker import Urgency, Worker
from ipc.call import Call, Handler
from ipc.errors import Code
from ipc.marks import NO_MARKS, Marker, Stage
from ipc.messages import (
    Body,
    Forget,
    Forgotten,
    ListMemories,
    MemoryPage,
    Recall,
    Recalled,
    Remember,
    Remembered,
    Result,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


def store_path() -> Path:
    """Where the memories lie."""
    return config.state_dir() / "memory" / "memory.db"


class MemoryService:
    """Meets daemons.runtime.Service. Engines given here replace the real ones.

    Engines and searches share one thread, in which whoever waits for an answer goes first; writes have another.
    """

    def __init__(
        self,
        settings: config.Config,
        embedder: Callable[[], Embedder] | None = None,
        classifier: Callable[[Embedder], Classifier] | None = None,
        *,
        marks: Marker = NO_MARKS,
    ) -> None:
        self._settings = settings.memory
        self._marks = marks
        self._make_embedder = embedder or self._minilm
        self._make_classifier = classifier or _importance
        self._store: Store | None = None
        self._engines = Worker("engines")
        self._writer = Worker("writer")
        self._faults: dict[Worker, str] = {}
        self.info = EngineInfo("onnxruntime", self._settings.embedder, "")

    @property
    def trouble(self) -> str:
        return next(iter(self._faults.values()), "")

    def handlers(self) -> Mapping[type[Body], Handler]:
        return {
            Recall: self._recall,
            Remember: self._remember,
            ListMemories: self._list,
            Forget: self._forget,
        }

    async def load(self) -> None:
        """Opens the store first: a fault there is the likelier one, and told at once."""
        self._store = await self._writer.run(Urgency.ANSWER, lambda: Store(store_path()))
        self._embedder = await self._engines.run(Urgency.ANSWER, self._make_embedder)
        self._classifier = await self._engines.run(Urgency.ANSWER, lambda: self._make_classifier(self._embedder))
        self.info = self._embedder.info
        renewed = await self._writer.run(Urgency.ANSWER, self._adopt_embedder)
        if renewed:
            log.info("%d memories were embedded anew for %s", renewed, self.info.model)

    live = frozenset({"relevance", "keep_importance"})

    def adopt(self, settings: config.Config) -> None:
        fresh = settings.memory
        self._settings = msgspec.structs.replace(
            self._settings, relevance=fresh.relevance, keep_importance=fresh.keep_importance
        )

    async def beat(self) -> None:
        """Through both threads, behind what they do."""
        await self._engines.run(Urgency.ANSWER, lambda: None)
        await self._writer.run(Urgency.ANSWER, lambda: None)

    async def close(self) -> None:
        idle = [await self._engines.close(), await self._writer.close()]
        if self._store is not None and all(idle):  # else the database is left as after a crash: whole
            self._store.close()

    # --- engines ---

    def _minilm(self) -> Embedder:
        from daemons.engines.minilm import MiniLm

        return MiniLm(self._settings.embedder, self._settings.threads)

    def _adopt_embedder(self) -> int:
        return self._opened.use_embedder(self.info.model, self._embedder.dimensions, self._vectors)

    def _embed(self, text: str) -> list[float]:
        return self._vectors([text])[0]

    def _vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """Raises EngineError for what cannot be compared with other vectors: it must not be stored."""
        vectors = self._embedder.embed(texts)
        if not all(core.is_vector(vector, self._embedder.dimensions) for vector in vectors):
            raise EngineError(
                Code.ENGINE_FAILED,
                f"the embedder {self.info.model!r} gave no {self._embedder.dimensions} numbers for a text: "
                "timmy models verify, then restart the memory daemon",
            )
        return vectors

    def _graded(self, heard: str) -> int:
        importance = self._classifier.importance(heard)
        if importance not in core.IMPORTANCES:
            raise EngineError(
                Code.ENGINE_FAILED,
                f"the classifier gave importance {importance}, not 0 to 5: restart the memory daemon",
            )
        return importance

    # --- requests ---

    async def _recall(self, call: Call) -> Result:
        body: Recall = call.body
        words = core.telling_words(body.text)
        hits: list[core.Hit] = []
        if core.has_word(body.text):
            hits = await self._run(
                self._engines,
                Urgency.ANSWER,
                lambda: self._opened.search(self._embed(body.text), words, body.limit),
            )
        return Recalled(
            memories=core.relevant(hits, len(words), self._settings.relevance, body.limit),
            received_ns=call.received_ns,
            finished_ns=time.monotonic_ns(),
        )

    async def _remember(self, call: Call) -> Result:
        """In small steps, so that a question that comes meanwhile waits for one of them at most."""
        body: Remember = call.body
        fact = core.fact(body.heard)
        importance = await self._run(self._engines, Urgency.KEEP, lambda: core.grade(fact, self._graded(body.heard)))
        if not core.keeps(fact, importance, self._settings.keep_importance, body.always):
            self._marks.mark(call.rid, Stage.MEMORY_STORED)
            return Remembered(kept=False, id=0, importance=importance, text=fact.text)
        vector = await self._run(self._engines, Urgency.KEEP, lambda: self._embed(fact.text))
        key = core.same_key(fact.text)
        id_ = await self._run(
            self._writer, Urgency.KEEP, lambda: self._opened.store(fact.text, key, importance, time.time(), vector)
        )
        self._marks.mark(call.rid, Stage.MEMORY_STORED, arg=id_)
        return Remembered(kept=True, id=id_, importance=importance, text=fact.text)

    async def _list(self, call: Call) -> Result:
        body: ListMemories = call.body
        memories, total = await self._run(
            self._engines, Urgency.ANSWER, lambda: self._opened.page(body.after_id, body.limit)
        )
        return MemoryPage(memories=core.fitting(memories), total=total)

    async def _forget(self, call: Call) -> Result:
        body: Forget = call.body
        count = await self._run(self._writer, Urgency.ANSWER, lambda: self._opened.forget(body.ids))
        return Forgotten(count=count)

    async def _run(self, worker: Worker, urgency: Urgency, work: Callable[[], T]) -> T:
        """Runs it, and notes whether the store is well."""
        try:
            result = await worker.run(urgency, work)
        except StoreError as error:
            log.warning("%s", error)
            self._faults[worker] = str(error)
            raise
        self._faults.pop(worker, None)
        return result

    @property
    def _opened(self) -> Store:
        assert self._store is not None, "requests come after load"
        return self._store


def _importance(embedder: Embedder) -> Classifier:
    from daemons.engines.importance import Importance

    return Importance(embedder)
