"""Judges a trace in Chrome's JSON format by the format's own rules, knowing nothing of how it was made."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any, NamedTuple

from tools.latency.stages import NAMES

STAGES = {*NAMES, "utterance", "transcription", "speaking", "storing"}
MOMENTS = {"muted", "resumed", "revoked", "cancelled"}
KNOWN = {
    "X": STAGES | {"turn"},
    "i": MOMENTS,
    "s": {"hop"},
    "f": {"hop"},
    "M": {"process_name", "process_sort_index", "thread_name", "thread_sort_index"},
}


class Track(NamedTuple):
    """A thread of a process: what readers draw as one row of nested slices."""

    pid: int
    tid: int


class Slice(NamedTuple):
    """ns since the origin; `end_ns` is not in it."""

    start_ns: int
    end_ns: int
    name: str
    rid: str


class Found(NamedTuple):
    """A trace that keeps the rules."""

    slices: dict[Track, list[Slice]]
    processes: dict[int, str]
    moments: list[str]
    arrows: list[tuple[str, str]]
    """Who sends and who receives."""
    origin: datetime
    losses: list[str]


def check(document: bytes) -> Found:
    """Raises AssertionError, saying where, for a trace that breaks a rule."""
    trace = json.loads(document)
    assert set(trace) == {"displayTimeUnit", "traceEvents", "otherData"}
    events = trace["traceEvents"]
    for event in events:
        assert event["name"] in KNOWN[event["ph"]], event
    processes = _named(events)
    _check_order(events)
    slices = _check_nesting(events)
    for event in events:
        if event["ph"] in "isf":
            assert _holds(slices, event), f"in no slice of its turn: {event}"
    return Found(
        slices,
        processes,
        [event["name"] for event in events if event["ph"] == "i"],
        _check_arrows(events, processes),
        datetime.fromisoformat(trace["otherData"]["origin"]),
        trace["otherData"]["losses"],
    )


def _track(event: dict[str, Any]) -> Track:
    return Track(event["pid"], event["tid"])


def _ns(event: dict[str, Any], key: str) -> int:
    return round(float(event[key]) * 1e3)


def _named(events: list[dict[str, Any]]) -> dict[int, str]:
    """Every process and thread has one name, before anything happens there."""
    processes: dict[int, str] = {}
    threads: dict[Track, str] = {}
    for event in events:
        if event["name"] == "process_name":
            assert event["pid"] not in processes
            processes[event["pid"]] = event["args"]["name"]
        elif event["name"] == "thread_name":
            assert _track(event) not in threads
            threads[_track(event)] = event["args"]["name"]
        elif event["ph"] != "M":
            assert event["pid"] in processes, event
            assert _track(event) in threads, event
    assert len(set(processes.values())) == len(processes)
    return processes


def _check_order(events: list[dict[str, Any]]) -> None:
    last: dict[Track, float] = defaultdict(float)
    for event in events:
        if event["ph"] != "M":
            assert event["ts"] >= last[_track(event)], f"goes back in time: {event}"
            last[_track(event)] = event["ts"]


def _check_nesting(events: list[dict[str, Any]]) -> dict[Track, list[Slice]]:
    """Two slices of a track lie apart or one within the other, and within are only slices of the same turn."""
    slices: dict[Track, list[Slice]] = defaultdict(list)
    open_: dict[Track, list[Slice]] = defaultdict(list)
    for event in events:
        if event["ph"] != "X":
            continue
        track, start_ns = _track(event), _ns(event, "ts")
        new = Slice(start_ns, start_ns + _ns(event, "dur"), event["name"], event["args"]["rid"])
        assert new.end_ns > new.start_ns, event
        while open_[track] and open_[track][-1].end_ns <= new.start_ns:
            open_[track].pop()
        if open_[track]:
            assert new.end_ns <= open_[track][-1].end_ns, f"overlaps {open_[track][-1]}: {new}"
            assert new.rid == open_[track][-1].rid, f"within {open_[track][-1]}: {new}"
        open_[track].append(new)
        slices[track].append(new)
    return dict(slices)


def _holds(slices: dict[Track, list[Slice]], event: dict[str, Any]) -> bool:
    at_ns, rid = _ns(event, "ts"), event["args"]["rid"]
    return any(each.start_ns <= at_ns < each.end_ns and each.rid == rid for each in slices[_track(event)])


def _check_arrows(events: list[dict[str, Any]], processes: dict[int, str]) -> list[tuple[str, str]]:
    starts = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    assert set(starts) == set(ends), "an arrow without its other end"
    assert set(Counter((event["ph"], event["id"]) for event in events if "id" in event).values()) <= {1}
    arrows = []
    for key, start in starts.items():
        end = ends[key]
        assert end["bp"] == "e", "it would end at the next slice"
        assert start["ts"] <= end["ts"], f"arrives before it leaves: {start}"
        assert start["args"]["rid"] == end["args"]["rid"]
        assert start["pid"] != end["pid"], "an arrow leads to another daemon"
        arrows.append((processes[start["pid"]], processes[end["pid"]]))
    return arrows
