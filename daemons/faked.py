"""What the programs `daemons.NAME.faked` share: a daemon whose engines are fakes that obey a harness."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from daemons import runtime
from daemons.config import Config
from daemons.orders import OrderBook
from daemons.runtime import Make, Service, main
from ipc.errors import EXIT_USAGE, ConfigError
from ipc.marks import Marker, Marks, Stage, Told

_LOOK_S = 0.02


def run(name: str, make: Callable[[OrderBook], Make]) -> int:
    """Runs the daemon until SIGTERM; its one argument is the file of its orders. Returns its exit status."""
    if len(sys.argv) != 2:
        print(f"usage: python -m daemons.{name}.faked ORDERS (started by tools/harness)", file=sys.stderr)
        return EXIT_USAGE
    book = OrderBook(Path(sys.argv[1]))
    try:
        book.now()
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_status
    _step_wall_clock(book)
    vars(runtime).update(Marks=partial(_DeadlyMarks, book))  # those of the server among them
    watching = []

    def made(config: Config, /, *, marks: Marker) -> Service:
        watching.append(asyncio.get_running_loop().create_task(_block_when_told(book)))
        return make(book)(config, marks=marks)

    return main(name, made)


class _DeadlyMarks(Marks):
    """Dies where it is ordered to. The order is carried out once, so that the process after this one lives."""

    def __init__(self, book: OrderBook, daemon: str, directory: Path, told: Told | None = None) -> None:
        super().__init__(daemon, directory, told)
        self._book = book

    def mark(self, rid: bytes, stage: Stage, t_ns: int | None = None, arg: int = 0) -> None:
        super().mark(rid, stage, t_ns, arg)
        orders = self._book.now()
        if orders.die_at == stage.name:
            self._book.give(msgspec.structs.replace(orders, die_at=""))
            os.kill(os.getpid(), signal.SIGKILL)


async def _block_when_told(book: OrderBook) -> None:
    while True:
        while book.now().fault == "block":
            time.sleep(_LOOK_S)  # noqa: ASYNC251 - a blocked loop is what is wanted
        await asyncio.sleep(_LOOK_S)


def _step_wall_clock(book: OrderBook) -> None:
    """From here on this process's wall clock is off by what the orders say."""
    real, localtime, gmtime, strftime = time.time, time.localtime, time.gmtime, time.strftime

    def stepped() -> float:
        return real() + book.now().wall_clock_s

    vars(time).update(
        time=stepped,
        time_ns=lambda: int(stepped() * 1e9),
        localtime=lambda seconds=None: localtime(stepped() if seconds is None else seconds),
        gmtime=lambda seconds=None: gmtime(stepped() if seconds is None else seconds),
        strftime=lambda form, at=None: strftime(form, localtime(stepped()) if at is None else at),
    )
