"""`python -m daemons.llm.faked ORDERS`: the llm daemon with a fake model, for tools/harness."""

from __future__ import annotations

import sys
from functools import partial

from daemons.engines.fakes_llm import OrderedModel
from daemons.faked import run
from daemons.llm.service import LlmService
from daemons.orders import OrderBook
from daemons.runtime import Make


def _make(book: OrderBook) -> Make:
    return partial(LlmService, model=OrderedModel(book))


if __name__ == "__main__":
    sys.exit(run("llm", _make))
