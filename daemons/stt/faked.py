"""`python -m daemons.stt.faked ORDERS`: the stt daemon with fake engines, for tools/harness."""

from __future__ import annotations

import sys
from functools import partial

from daemons.engines.fakes_stt import FakeDetector, OrderedTranscriber
from daemons.faked import run
from daemons.orders import OrderBook
from daemons.runtime import Make
from daemons.stt.service import SttService


def _make(book: OrderBook) -> Make:
    return partial(SttService, transcriber=lambda: OrderedTranscriber(book), detector=FakeDetector)


if __name__ == "__main__":
    sys.exit(run("stt", _make))
