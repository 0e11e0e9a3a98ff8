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
        return f"{value:.{self.digits}f} {self.unit}".rstrip()


def _at(found: Mapping[str, Any], keys: Keys) -> float:
    value: Any = found
    for key in keys:
        value = value[key]
    return float(value)


_TO_SOUND = ("stacks", "timmy", "speech_end_to_first_audio_ms")

FIGURES = (
    Figure(
        "last voiced sample to first audible sample, median", "turn", (*_TO_SOUND, "p50"), ("n",), "ms", at_most=500
    ),
    Figure("the same, 90th percentile", "turn", (*_TO_SOUND, "p90"), ("n",), "ms"),
    *(
        Figure(
            f"of it after the turn is confirmed, {name}",
            "turn",
            ("timmy", "after_confirmation_ms", quantile),
            ("n",),
            "ms",
            at_most=limit,
        )
        for quantile, name, limit in (("p50", "median", 100), ("p90", "90th percentile", 300))
    ),
    Figure(
        "final transcript after the candidate, median",
        "turn",
        ("timmy", "transcript_after_candidate_ms", "p50"),
        ("timmy", "transcript_after_candidate_ms", "n"),
        "ms",
        at_most=120,
    ),
    Figure(
        "the first turn, against the same question at the end of a round",
        "turn",
        ("timmy", "first_turn", "ms"),
        ("timmy", "first_turn", "n"),
        "x",
        at_most=1.3,
        by=("timmy", "first_turn", "later_ms"),
        digits=2,
    ),
    Figure(
        "turns with the whole unchanging start of the prompt cached",
        "turn",
        ("timmy", "start_of_prompt_cached", "turns"),
        ("timmy", "start_of_prompt_cached", "of"),
        "%",
        at_least=95,
        by=("timmy", "start_of_prompt_cached", "of"),
        scale=100,
    ),
    *(
        Figure(
            f"the old architecture, {connections}: times as long",
            "turn",
            ("ratios", f"{stack}/timmy", "ratio"),
            ("n",),
            "x",
            at_least=12,
            digits=1,
        )
        for stack, connections in (("http-pooled", "connections kept"), ("http-new", "a connection a request"))
    ),
    *(
        Figure(
            f"turns cut off in a pause of 200 to 600 ms, `{setting}`",
            "endpoint",
            ("joe", setting, "cut_off", "count"),
            ("joe", setting, "cut_off", "of"),
            "%",
            at_most=limit,
            by=("joe", setting, "cut_off", "of"),
            scale=100,
            digits=1,
        )
        for setting, limit in (("quick", 5), ("calm", 1))
    ),
    Figure("gaps over 20 ms inside an answer", "speaking", ("gaps",), ("answers",), "", at_most=0),
    Figure("clicks at the seams of clauses", "speaking", ("clicks",), ("seams",), "", at_most=0),
    Figure(
        "trace against a recording, median difference",
        "truth",
        ("difference_ms", "p50"),
        ("compared",),
        "ms",
        at_most=5,
        digits=1,
    ),
    Figure("the same, 95th percentile", "truth", ("difference_ms", "p95"), ("compared",), "ms", at_most=20, digits=1),
    Figure("a mark in the trace", "trace", ("mark_us",), ("marks",), "µs", at_most=1, digits=2),
    Figure("tracing, of a turn", "trace", ("turn_percent",), ("turn_marks",), "%", at_most=0.1, digits=4),
    Figure(
        "a million marks read and summed up",
        "trace",
        ("reading", "timmy latency summary", "seconds"),
        ("marks",),
        "s",
        at_most=5,
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
    Figure(
        "word errors of the short context, more than with 30 s",
        "stt",
        ("more_word_errors_points", "points"),
        ("clips",),
        "points",
        at_most=0.3,
        digits=2,
    ),
    Figure(
        "clips of noise and silence with words in them",
        "stt",
        ("invented", "with_words"),
        ("invented", "clips"),
        "",
        at_most=0,
    ),
    Figure(
        "storing adds to the time to first audio, trimmed mean of pairs",
        "storing",
        ("added_ms", "mean"),
        ("pairs",),
        "ms",
        digits=1,
    ),
    *(
        Figure(what, "storing", ("added_ms", key), ("pairs",), "ms", at_most=limit, digits=1)
        for what, key, limit in (
            ("half the width of its 99 % interval", "half_width", 5),
            ("how far that interval is from 0", "from_zero", 0),
        )
    ),
    Figure("listening in silence, of one core", "idle", ("all", "core_percent"), ("n",), "%", at_most=2, digits=1),
    Figure(
        "the same, with microphone and speaker of a sound card",
        "idle",
        ("card", "all", "core_percent"),
        ("n",),
        "%",
        at_most=2,
        digits=1,
    ),
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
