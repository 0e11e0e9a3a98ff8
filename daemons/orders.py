"""What a harness orders the fake engines of a daemon to do, in a file that they read before each piece of work.

Only the programs `daemons.NAME.faked` know it; no setting of a user leads there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ipc.errors import ConfigError

Fault = Literal[
    "none", "error", "exception", "hang", "die", "block", "empty", "huge", "bad_utf8", "endless", "nan", "odd"
]

_ENGINE: tuple[Fault, ...] = ("none", "error", "exception", "hang", "die", "block")
FAULTS: Mapping[str, tuple[Fault, ...]] = {
    "stt": (*_ENGINE, "empty", "huge", "bad_utf8"),
    "dialog": ("none", "block"),
    "llm": (*_ENGINE, "empty", "huge", "bad_utf8", "endless"),
    "memory": (*_ENGINE, "nan"),
    "tts": (*_ENGINE, "empty", "nan", "odd", "endless"),
}
"""What each daemon can be ordered to suffer. docs/harness.md says what each of them does."""


class Orders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`fault` begins after `after` pieces of an answer (tokens, parts of a sentence's sound) and goes on until other
    orders come. `slow_ms`: how much longer each piece takes. `text`: what stt hears or llm answers, empty: the usual.
    `wall_clock_s`: how far the wall clock is off; the monotonic one never is. `die_at`: the process is killed when it
    next marks that stage (`ipc.marks.Stage`), once."""

    fault: Fault = "none"
    after: Annotated[int, Meta(ge=0)] = 0
    slow_ms: Annotated[float, Meta(ge=0)] = 0.0
    text: str = ""
    wall_clock_s: float = 0.0
    die_at: str = ""


class OrderBook:
    """The file of one daemon's orders."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = (0, 0)
        self._orders = Orders()

    def give(self, orders: Orders) -> None:
        """In force when this returns."""
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(orders))
        fresh.rename(self._path)

    def now(self) -> Orders:
        """The orders in force. Raises ConfigError when the file cannot be used."""
        try:
            info = self._path.stat()
            if (info.st_ino, info.st_mtime_ns) != self._read:
                self._orders = msgspec.json.decode(self._path.read_bytes(), type=Orders)
                self._read = (info.st_ino, info.st_mtime_ns)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"orders {self._path}: {error}") from None
        return self._orders
