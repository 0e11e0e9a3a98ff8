"""A daemon with fakes and a fault that no plan knows of: python -m tests.support.planted_daemon FAULT NAME ORDERS

To try whether what watches daemons sees it. The fault shows at the fourth answer of the daemon's model.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ipc.call import Call
from ipc.codec import Message
from ipc.errors import EXIT_CONFIG
from ipc.messages import Body, Generate

AT = 4
GROWTH_BYTES = 120_000_000


class _Fault:
    def __init__(self, name: str, orders: Path) -> None:
        self.name, self.answers = name, 0
        self.held = b""
        again = orders.with_suffix(".again")
        if name == "stays dead" and again.exists():
            sys.exit(EXIT_CONFIG)
        again.touch()

    def finish(self, honest: Callable[[Call, Body], None], call: Call, terminal: Body) -> None:
        if not isinstance(call.body, Generate) or not call.body.max_tokens:
            honest(call, terminal)
            return
        self.answers += 1
        if self.answers != AT:
            honest(call, terminal)
            return
        if self.name == "dies":
            os._exit(3)
        if self.name == "blocks":
            time.sleep(1.6)
        if self.name == "grows":
            self.held = b"x" * GROWTH_BYTES
        if self.name != "no end":
            honest(call, terminal)
        if self.name == "two ends":
            call._transmit(Message(call.rid, 99, call.epoch, 0, terminal))


def main(fault: str, daemon: str, orders: str) -> None:
    planted, honest = _Fault(fault, Path(orders)), Call.finish

    def finish(call: Call, terminal: Body) -> None:
        planted.finish(honest, call, terminal)

    vars_of_call = {"finish": finish}
    for name, value in vars_of_call.items():
        setattr(Call, name, value)
    sys.argv = [daemon, orders]
    runpy.run_module(f"daemons.{daemon}.faked", run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
