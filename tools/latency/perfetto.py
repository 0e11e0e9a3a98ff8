"""Turns as a trace in Chrome's JSON format, which ui.perfetto.dev, chrome://tracing and speedscope open.

Each daemon is a process, with one thread as long as what it does nests; what would overlap goes to further
threads. A slice `turn` spans what a daemon had to do with a turn, its stages lie within, and arrows lead along
the hops. Readers expect slices of a thread to nest strictly, and an arrow to begin and end in a slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import IO, Any

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


class _Trace:
    """The events of one turn after the other, ns since `origin`. Its memory is what is busy, not what was."""

    def __init__(self) -> None:
        self.origin = datetime.now(UTC)
        self._origin_ns: int | None = None
        self._lanes: dict[str, list[_Lane]] = {}
        self._pids = {daemon: pid for pid, daemon in enumerate(_DAEMONS, 1)}
        self._flows = 0

    def events(self, turn: Turn) -> list[Event]:
        """Each thread in the order of time, outer slices before inner ones; the names of new threads come first."""
        if self._origin_ns is None:
            # A day of room: a clock that is set back must not lead to times below 0, which readers drop.
            self.origin = utc(turn).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
            self._origin_ns = round(self.origin.timestamp()) * 10**9
        shift_ns = unix_ns(turn, 0) - self._origin_ns
        names: list[Event] = []
        events: list[Event] = []
        places: dict[str, Event] = {}
        about = _about(turn)
        for daemon, (start_ns, end_ns) in extents(turn).items():
            start_ns, end_ns = start_ns + shift_ns, end_ns + shift_ns + _MARGIN_NS
            places[daemon] = self._place(daemon, turn.rid, start_ns, end_ns, names)
            events.append(_slice(ROOT, ROOT, start_ns, end_ns, places[daemon], about))
        for span in sorted(turn.spans, key=lambda span: (span.start_ns, -span.end_ns)):
            start_ns, end_ns = span.start_ns + shift_ns, span.end_ns + shift_ns
            if end_ns > start_ns:
                place = self._place(owner(span), turn.rid, start_ns, end_ns, names)
                events.append(_slice(span.stage, "stage", start_ns, end_ns, place, _details(turn, span)))
        events += _moments(turn, shift_ns, places)
        events += self._arrows(turn, shift_ns, places)
        events.sort(key=lambda event: (event["ts"], -event.get("dur", 0.0)))
        return names + events

    def _place(self, daemon: str, rid: bytes, start_ns: int, end_ns: int, names: list[Event]) -> Event:
        """A thread that has room for a slice. A new one's names are added to `names`."""
        lanes = self._lanes.setdefault(daemon, [])
        lane = next((lane for lane in lanes if lane.takes(rid, start_ns, end_ns)), None)
        if lane is None:
            pid = self._pids.setdefault(daemon, len(self._pids) + 1)
            lane = _Lane({"pid": pid, "tid": pid * _LANES + len(lanes)})
            names += _names(daemon, len(lanes), lane.place)
            lanes.append(lane)
        lane.put(rid, start_ns, end_ns)
        return lane.place

    def _arrows(self, turn: Turn, shift_ns: int, places: dict[str, Event]) -> Iterator[Event]:
        for hop in hops(turn):
            self._flows += 1
            both = {"name": HOP, "cat": HOP, "id": self._flows, "args": {"rid": turn.rid.hex()}}
            yield {"ph": "s", "ts": (hop.sent_ns + shift_ns) / 1e3, **both, **places[hop.sender]}
            # Without `bp` an arrow ends at the next slice, not in this one.
            yield {"ph": "f", "bp": "e", "ts": (hop.received_ns + shift_ns) / 1e3, **both, **places[hop.receiver]}


class _Lane:
    """A thread of a daemon: what is open on it, ns."""

    def __init__(self, place: Event) -> None:
        self.place = place
        self._rid = b""
        self._started_ns: int | None = None
        self._ends_ns: list[int] = []
        """Of slices within each other, outermost first."""

    def takes(self, rid: bytes, start_ns: int, end_ns: int) -> bool:
        """Whether the slice lies after all that is here, or within the innermost open slice of its own turn."""
        if self._started_ns is not None and start_ns < self._started_ns:
            return False
        open_ns = [end for end in self._ends_ns if end > start_ns]
        return not open_ns or (rid == self._rid and end_ns <= open_ns[-1])

    def put(self, rid: bytes, start_ns: int, end_ns: int) -> None:
        self._rid = rid
        self._started_ns = start_ns
        self._ends_ns = [end for end in self._ends_ns if end > start_ns] + [end_ns]


def _names(daemon: str, lane: int, place: Event) -> Iterator[Event]:
    if lane == 0:
        yield {"ph": "M", "name": "process_name", **place, "args": {"name": daemon}}
        yield {"ph": "M", "name": "process_sort_index", **place, "args": {"sort_index": place["pid"]}}
    yield {"ph": "M", "name": "thread_name", **place, "args": {"name": daemon if lane == 0 else f"{lane + 1}"}}
    yield {"ph": "M", "name": "thread_sort_index", **place, "args": {"sort_index": lane}}


def _slice(name: str, category: str, start_ns: int, end_ns: int, place: Event, arguments: Event) -> Event:
    ts, dur = start_ns / 1e3, (end_ns - start_ns) / 1e3
    return {"ph": "X", "name": name, "cat": category, "ts": ts, "dur": dur, **place, "args": arguments}


def _moments(turn: Turn, shift_ns: int, places: dict[str, Event]) -> Iterator[Event]:
    for mark in turn.marks:
        if mark.stage in MOMENTS:
            key = MOMENTS[mark.stage]
            arguments = {"rid": turn.rid.hex(), **({key: mark.arg} if key else {})}
            event = {"ph": "i", "s": "t", "name": mark.stage.name.lower(), "cat": "moment"}
            yield {**event, "ts": (mark.t_ns + shift_ns) / 1e3, **places[mark.daemon], "args": arguments}


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


def _details(turn: Turn, span: Span) -> Event:
    details: Event = {"rid": turn.rid.hex(), "share_ms": span.share_ns / 1e6}
    if span.to_daemon:
        details["to"] = span.to_daemon
    return details
