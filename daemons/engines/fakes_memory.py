"""An embedder without a model, and a classifier of known grades; both can fail or stall when told to."""

from __future__ import annotations

import math
import re
import threading
import zlib
from collections.abc import Sequence

from daemons.engines.base import EngineError, EngineInfo
from daemons.engines.ordered import obey
from daemons.orders import OrderBook


class FakeEmbedder:
    """An Embedder: texts are as near as the words they share. `hold` makes it wait until released."""

    def __init__(self, name: str = "fake", dimensions: int = 64) -> None:
        self.info = EngineInfo("fake", name, "none")
        self.dimensions = dimensions
        self.error: EngineError | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.embedded: list[str] = []
        """Every text, in the order of the work."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.hold.wait()
        if self.error is not None:
            raise self.error
        self.embedded += texts
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        vector = [1e-3] * self.dimensions
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % self.dimensions] += 1.0
        length = math.sqrt(sum(value * value for value in vector))
        return [value / length for value in vector]


class FakeClassifier:
    """A Classifier that gives `grade` to everything but questions."""

    def __init__(self, grade: int = 3) -> None:
        self.info = EngineInfo("fake", "fake", "none")
        self.grade = grade

    def importance(self, text: str) -> int:
        return 0 if text.endswith("?") else self.grade


class OrderedEmbedder(FakeEmbedder):
    """Obeys its orders while it works."""

    def __init__(self, book: OrderBook) -> None:
        super().__init__()
        self._book = book

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        obey(self._book)
        if self._book.now().fault == "nan":
            return [[math.nan] * self.dimensions for _ in texts]
        self.embedded.clear()  # it works for hours
        return super().embed(texts)
