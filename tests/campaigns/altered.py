"""A daemon of the harness that has a bug: python -m tests.campaigns.altered BUG NAME ORDERS

It is `daemons.NAME.faked`, altered before it starts by a function of `tests.campaigns.bugs`.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
from array import array
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager

from daemons.engines.fakes_tts import FakeSynthesizer
from daemons.orders import Orders
from tests.campaigns import bugs
from tools.harness import Daemon, Place

SOUND = ""
"""No bug at all."""


class AlteredPlace(Place):
    """A Place whose daemons, or `only` one of them, are started by `program` with a bug: this one, or one like it."""

    def __init__(self, bug: str, program: str = "tests.campaigns.altered", only: str = "") -> None:
        super().__init__()
        self._bug, self._program, self._only = bug, program, only

    def command(self, name: str, limits: Mapping[str, int]) -> list[str]:
        command = super().command(name, limits)
        if self._only not in ("", name):
            return command
        at = command.index(f"daemons.{name}.faked")
        return [*command[:at], self._program, self._bug or "none", name, *command[at + 1 :]]


@contextmanager
def altered(bug: str, name: str, orders: Orders | None = None) -> Iterator[Daemon]:
    """Such a daemon, ready; with SOUND one that is as it should be."""
    with AlteredPlace(bug) as place, Daemon(name, place=place, orders=orders) as daemon:
        yield daemon


LEVEL_FIRST = 400
LEVEL_STEP = 3
SPOKEN_MS = 300


def level(number: int) -> int:
    """The one amplitude of the samples of an utterance whose clauses are this number; over what counts as silence."""
    return LEVEL_FIRST + LEVEL_STEP * (number % 10_000)


def _speak_in_levels() -> None:
    """A clause that is a number is spoken in samples that tell it."""
    usual = FakeSynthesizer.synthesize

    async def synthesize(self: FakeSynthesizer, text: str) -> AsyncGenerator[bytes, None]:
        if not text.isdigit():
            async for piece in usual(self, text):
                yield piece
            return
        await asyncio.sleep(0)
        yield array("h", [level(int(text))] * (self.sample_rate * SPOKEN_MS // 1000)).tobytes()
        yield b""

    FakeSynthesizer.synthesize = synthesize  # type: ignore[method-assign]


def start(name: str) -> None:
    """The daemon itself, in this process. Its orders follow bug and name on the command line."""
    sys.argv = [f"daemons.{name}.faked", *sys.argv[3:]]
    runpy.run_module(f"daemons.{name}.faked", run_name="__main__")


def main(bug: str, name: str) -> None:
    _speak_in_levels()
    if bug != "none":
        bugs.BUGS[bug]()
    start(name)


if __name__ == "__main__":
    main(*sys.argv[1:3])
