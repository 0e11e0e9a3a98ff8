"""Turns as a trace in Chrome's JSON format, which ui.perfetto.dev, chrome://tracing and speedscope open.

Each daemon is a process, with one thread as long as what it does nests; what would overlap goes to further
threads. A slice `turn` spans what a daemon had to do with a turn, its stages lie within, and arrows lead along
the hops. Readers expect slices of a thread to nest strictly, and an arrow to begin and end in a slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import IO, Any, NamedTuple

import msgspec

from tools.latency.exporting import MOMENTS, extents, owner, unix_ns, utc
from tools.latency.reading import Losses
from tools.latency.turns import Span, Turn, hops

ROOT = "turn"
HOP = "hop"
_DAEMONS = ("stt", "dialog", "memory", "llm", "tts")
"""From top to bottom, in the order in which a turn passes them."""

_MARGIN_NS = 1_000
"""A slice does not hold its own end, so that of a turn ends after the last arrow: by the format's unit of time."""

_LANES = 1_000
"""Numbers of threads that a process has to itself."""

Event = dict[str, Any]


def write(turns: Iterable[Turn], losses: Losses, file: IO[bytes]) -> int:
    """Writes the whole document and returns how many turns are in it. One turn is held at a time.

    Times are µs since `otherData.origin`: Unix time in µs has no room for ns in a reader's double."""
    trace = _Trace()
    count = 0
    file.write(b'{"displayTimeUnit":"ms","traceEvents":[')
    separator = b"\n"
    for turn in turns:
        count += 1
        for event in trace.events(turn):
            file.write(separator + msgspec.json.encode(event))
            separator = b",\n"
    about = {"origin": trace.origin.isoformat(), "turns": count, "losses": losses.lines()}
    file.write(b'\n],"otherData":' + msgspec.json.encode(about) + b"}\n")
    return count


class _Slice(NamedTuple):
    """A rectangle of a turn on a daemon's lane, monotonic ns."""

    daemon: str
    lane: int
    start_ns: int
    end_ns: int
    span: Span | None
    """None: the whole of what the daemon had to do with the turn."""


class _Trace:
    """The events of one turn after the other. Its memory is what is busy, not what was."""

    def __init__(self) -> None:
        self.origin = datetime.now(UTC)
        self._origin_ns: int | None = None
        self._lanes: dict[str, list[_Lane]] = {}
        self._pids = {daemon: number for number, daemon in enumerate(_DAEMONS, 1)}
        self._flows = 0

    def events(self, turn: Turn) -> list[Event]:
        """Each thread in the order of time, outer slices before inner ones; the names of new threads come first."""
        if self._origin_ns is None:
            self._begin(turn)
        known = {daemon: len(lanes) for daemon, lanes in self._lanes.items()}
        slices = [placed for daemon, extent in extents(turn).items() for placed in self._placed(turn, daemon, extent)]
        names = [
            each
            for daemon, lanes in self._lanes.items()
            for lane in range(known.get(daemon, 0), len(lanes))
            for each in self._names(daemon, lane)
        ]
        roots = {each.daemon: each.lane for each in slices if each.span is None}
        about = _about(turn)
        made = [
            *(self._slice(turn, each, about) for each in slices),
            *self._moments(turn, roots),
            *self._arrows(turn, roots),
        ]
        made.sort(key=lambda event: (event["ts"], -event.get("dur", 0.0)))
        return names + made

    def _begin(self, turn: Turn) -> None:
        # A day of room: a clock that is set back must not lead to times below 0, which readers drop.
        self.origin = utc(turn).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        self._origin_ns = round(self.origin.timestamp()) * 10**9

    def _placed(self, turn: Turn, daemon: str, extent: tuple[int, int]) -> Iterator[_Slice]:
        """The turn's slices of one daemon and the lane of each, outer ones first."""
        lanes = self._lanes.setdefault(daemon, [])
        inner = [(span.start_ns, span.end_ns, span) for span in turn.spans if owner(span) == daemon]
        inner.sort(key=lambda each: (each[0], -each[1]))
        for start_ns, end_ns, span in ((extent[0], extent[1] + _MARGIN_NS, None), *inner):
            if end_ns <= start_ns:
                continue
            start, end = unix_ns(turn, start_ns), unix_ns(turn, end_ns)
            lane = next((lane for lane, each in enumerate(lanes) if each.takes(turn.rid, start, end)), len(lanes))
            if lane == len(lanes):
                lanes.append(_Lane())
            lanes[lane].put(turn.rid, start, end)
            yield _Slice(daemon, lane, start_ns, end_ns, span)

    def _names(self, daemon: str, lane: int) -> Iterator[Event]:
        place = self._place(daemon, lane)
        if lane == 0:
            yield {"ph": "M", "name": "process_name", **place, "args": {"name": daemon}}
            yield {"ph": "M", "name": "process_sort_index", **place, "args": {"sort_index": place["pid"]}}
        yield {"ph": "M", "name": "thread_name", **place, "args": {"name": daemon if lane == 0 else f"{lane + 1}"}}
        yield {"ph": "M", "name": "thread_sort_index", **place, "args": {"sort_index": lane}}

    def _slice(self, turn: Turn, each: _Slice, about: Event) -> Event:
        if each.span is None:
            name, category, arguments = ROOT, ROOT, about
        else:
            name, category = each.span.stage, "stage"
            arguments = {"rid": about["rid"], "share_ms": each.span.share_ns / 1e6}
            if each.span.to_daemon:
                arguments["to"] = each.span.to_daemon
        ts, dur = self._ts(turn, each.start_ns), (each.end_ns - each.start_ns) / 1e3
        place = self._place(each.daemon, each.lane)
        return {"ph": "X", "name": name, "cat": category, "ts": ts, "dur": dur, **place, "args": arguments}

    def _moments(self, turn: Turn, roots: dict[str, int]) -> Iterator[Event]:
        for mark in turn.marks:
            if mark.stage not in MOMENTS:
                continue
            arguments: Event = {"rid": turn.rid.hex()}
            if key := MOMENTS[mark.stage]:
                arguments[key] = mark.arg
            event = {"ph": "i", "s": "t", "name": mark.stage.name.lower(), "cat": "moment"}
            place = self._place(mark.daemon, roots[mark.daemon])
            yield {**event, "ts": self._ts(turn, mark.t_ns), **place, "args": arguments}

    def _arrows(self, turn: Turn, roots: dict[str, int]) -> Iterator[Event]:
        for hop in hops(turn):
            self._flows += 1
            both = {"name": HOP, "cat": HOP, "id": self._flows, "args": {"rid": turn.rid.hex()}}
            sent, received = self._ts(turn, hop.sent_ns), self._ts(turn, hop.received_ns)
            yield {"ph": "s", **both, "ts": sent, **self._place(hop.sender, roots[hop.sender])}
            # Without `bp` an arrow ends at the next slice, not in this one.
            yield {"ph": "f", "bp": "e", **both, "ts": received, **self._place(hop.receiver, roots[hop.receiver])}

    def _ts(self, turn: Turn, t_ns: int) -> float:
        assert self._origin_ns is not None
        return (unix_ns(turn, t_ns) - self._origin_ns) / 1e3

    def _place(self, daemon: str, lane: int) -> Event:
        pid = self._pids.setdefault(daemon, len(self._pids) + 1)
        return {"pid": pid, "tid": pid * _LANES + lane}


class _Lane:
    """A thread of a daemon: what is open on it, Unix ns."""

    def __init__(self) -> None:
        self._rid = b""
        self._started_ns = 0
        self._ends_ns: list[int] = []
        """Of slices within each other, outermost first."""

    def takes(self, rid: bytes, start_ns: int, end_ns: int) -> bool:
        """Whether the slice lies after all that is here, or within the innermost open slice of its own turn."""
        if start_ns < self._started_ns:
            return False
        open_ns = [end for end in self._ends_ns if end > start_ns]
        return not open_ns or (rid == self._rid and end_ns <= open_ns[-1])

    def put(self, rid: bytes, start_ns: int, end_ns: int) -> None:
        self._rid = rid
        self._started_ns = start_ns
        self._ends_ns = [end for end in self._ends_ns if end > start_ns] + [end_ns]


def _about(turn: Turn) -> Event:
    """What is known of the turn; no words."""
    return {
        "rid": turn.rid.hex(),
        "conversation": turn.conversation,
        "outcome": turn.outcome,
        "first_audio_ms": turn.first_audio_ms,
        "memories": turn.memories,
        "prompt_tokens": turn.prompt_tokens,
        "cached_tokens": turn.cached_tokens,
    }
