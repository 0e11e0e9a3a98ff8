"""What the exports of traces have in common: wall time, whose track a span lies on, and what has no length."""

from __future__ import annotations

from datetime import UTC, datetime

from ipc.marks import Stage
from tools.latency.turns import Span, Turn

LEADER = "dialog"
"""The daemon that leads a turn: the turn as a whole is its own."""

MOMENTS = {
    Stage.MUTED: "lease_ms",
    Stage.RESUMED: "revision",
    Stage.REVOKED: "revision",
    Stage.CANCELLED: "",
}
"""Marks that are neither end of a span, and what their `arg` is."""


def unix_ns(turn: Turn, t_ns: int) -> int:
    """Unix time in ns of a monotonic time of the turn's host."""
    return round(turn.begun_s * 1e9) + t_ns - turn.origin_ns


def utc(turn: Turn) -> datetime:
    """When it began; of a clock that was never set the nearest time that can be told."""
    try:
        return datetime.fromtimestamp(turn.begun_s, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def owner(span: Span) -> str:
    """The daemon on whose track it is shown."""
    return span.daemon or LEADER


def extents(turn: Turn) -> dict[str, tuple[int, int]]:
    """From when to when each daemon had to do with the turn, monotonic ns."""
    times: dict[str, list[int]] = {}
    for mark in turn.marks:
        times.setdefault(mark.daemon, []).append(mark.t_ns)
    for span in turn.spans:
        times.setdefault(owner(span), []).extend((span.start_ns, span.end_ns))
    return {daemon: (min(each), max(each)) for daemon, each in times.items()}
