"""`python -m daemons.tts.faked ORDERS`: the tts daemon with a fake voice, for tools/harness."""

from __future__ import annotations

import sys
from functools import partial

from daemons.engines.fakes_tts import OrderedSynthesizer
from daemons.faked import run
from daemons.orders import OrderBook
from daemons.runtime import Make
from daemons.tts.service import TtsService


def _make(book: OrderBook) -> Make:
    return partial(TtsService, synthesizer=lambda: OrderedSynthesizer(book))


if __name__ == "__main__":
    sys.exit(run("tts", _make))
