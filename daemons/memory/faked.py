"""`python -m daemons.memory.faked ORDERS`: the memory daemon with fake engines, for tools/harness."""

from __future__ import annotations

import sys
from functools import partial

from daemons.engines.fakes_memory import FakeClassifier, OrderedEmbedder
from daemons.faked import run
from daemons.memory.service import MemoryService
from daemons.orders import OrderBook
from daemons.runtime import Make


def _make(book: OrderBook) -> Make:
    return partial(MemoryService, embedder=lambda: OrderedEmbedder(book), classifier=lambda embedder: FakeClassifier())


if __name__ == "__main__":
    sys.exit(run("memory", _make))
