"""The figures that the README shows: where each is found in the JSON of its benchmark, and what it should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Keys = tuple[str, ...]
"""The way to a number in a document of nested maps."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: the number at `of` times `scale`, divided by that at `by`. At most one limit is given."""

    what: str
    bench: str
    of: Keys
    n: Keys
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    by: Keys | None = None
    scale: float = 1
    digits: int = 0

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"at most {self._text(self.at_most)}"
        return f"at least {self._text(self.at_least)}" if self.at_least is not None else ""

    def measured(self, found: Mapping[str, Any]) -> str:
        """The figure; what misses its limit says so. Raises KeyError when the benchmark does not report it."""
        value = _at(found, self.of) * self.scale / (_at(found, self.by) if self.by else 1)
        over = self.at_most is not None and value > self.at_most
        under = self.at_least is not None and value < self.at_least
        return self._text(value) + (", **not reached**" if over or under else "")

    def count(self, found: Mapping[str, Any]) -> str:
        """Of how many measurements it is made."""
        return f"{_at(found, self.n):.0f}"

    def _text(self, value: float) -> str:
        return f"{value:.{self.digits}f} {self.unit}"


def _at(found: Mapping[str, Any], keys: Keys) -> float:
    value: Any = found
    for key in keys:
        value = value[key]
    return float(value)


_TO_SOUND = ("stacks", "timmy", "speech_end_to_first_audio_ms")

FIGURES = (
    Figure(
        "last voiced sample to first audible sample, median", "turn", (*_TO_SOUND, "p50"), ("n",), "ms", at_most=1500
    ),
    Figure("the same, 90th percentile", "turn", (*_TO_SOUND, "p90"), ("n",), "ms"),
    Figure(
        "the old architecture, connections kept: times as long",
        "turn",
        ("ratios", "http-pooled/timmy", "ratio"),
        ("n",),
        "x",
        digits=1,
    ),
    Figure(
        "the old architecture, a connection a request: times as long",
        "turn",
        ("ratios", "http-new/timmy", "ratio"),
        ("n",),
        "x",
        digits=1,
    ),
    Figure(
        "a request, against the same sockets bare",
        "ipc",
        ("request", "p50_us"),
        ("request", "n"),
        "x",
        at_most=1.5,
        by=("bare_pyzmq", "p50_us"),
        digits=2,
    ),
    Figure(
        "a request over HTTP, its connection kept, against it",
        "ipc",
        ("http_pooled", "p50_us"),
        ("request", "n"),
        "x",
        at_least=12,
        by=("request", "p50_us"),
        digits=1,
    ),
    Figure("listening in silence, of one core", "idle", ("all", "core_percent"), ("n",), "%", at_most=4, digits=1),
    Figure("memory of all daemons", "idle", ("all", "rss_bytes"), ("n",), "MB", at_most=1200, scale=1e-6),
    Figure("timmy --help", "start", ("timmy --help", "p50_ms"), ("timmy --help", "n"), "ms", at_most=150),
    Figure("import ipc, with Python itself", "start", ("import ipc", "p50_ms"), ("import ipc", "n"), "ms", at_most=60),
    Figure(
        "five daemons ready",
        "start",
        ("five daemons ready", "p50_ms"),
        ("five daemons ready", "n"),
        "ms",
        at_most=10_000,
    ),
)
