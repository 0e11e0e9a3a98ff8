"""The marks of one request become a turn: pure, and whatever is missing, doubled or out of order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ipc.marks import OUTCOMES, Stage
from tools.latency.stages import ENDPOINT, IPC, LEGS, NAMES, UNACCOUNTED, WAY, Point

UNFINISHED = "unfinished"
"""The outcome of a turn whose end is in no file: it is going on, or dialog died in it."""


class Seen(NamedTuple):
    """A mark and who made it; ordered by time, monotonic ns."""

    t_ns: int
    stage: Stage
    daemon: str
    arg: int


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time in a turn, monotonic ns. `share_ns` is what it alone has of the time to first audio."""

    stage: str
    daemon: str
    start_ns: int
    end_ns: int
    share_ns: int = 0
    to_daemon: str = ""
    """Where it goes, for a hop."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A request, a terminal or an item from one daemon to another, monotonic ns."""

    sender: str
    receiver: str
    sent_ns: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer. Times are monotonic ns of its host, but for `begun_s` (Unix time)."""

    rid: bytes
    host: bytes
    begun_s: float
    origin_ns: int
    """The last voiced sample; of a typed question its arrival."""
    typed: bool
    outcome: str
    """One of OUTCOMES, or UNFINISHED."""
    first_audio_ns: int | None
    spans: tuple[Span, ...]
    """In the order of their start. Those with a share explain the time to first audio, gaps as UNACCOUNTED."""
    missing: tuple[str, ...]
    """Points of the way to the first sound that nobody marked, as `daemon:stage`."""
    marks: tuple[Seen, ...] = field(repr=False)
    conversation: str = ""
    heard: str = ""
    words: int | None = None
    memories: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None

    @property
    def first_audio_ms(self) -> float | None:
        """From the end of speech (or the typed question) to the first sound."""
        return None if self.first_audio_ns is None else (self.first_audio_ns - self.origin_ns) / 1e6

    @property
    def complete(self) -> bool:
        """It was spoken and answered aloud, and every moment of it is known: what statistics are made of."""
        return not self.typed and self.outcome == "answered" and self.first_audio_ns is not None and not self.missing

    def shares_ms(self) -> dict[str, float]:
        """Each of NAMES and its share of `first_audio_ms`; they add up to it. All 0 when nothing sounded."""
        shares = dict.fromkeys(NAMES, 0)
        for span in self.spans:
            if span.share_ns:
                shares[span.stage] += span.share_ns
        return {name: ns / 1e6 for name, ns in shares.items()}


TURN_MARKS = frozenset({Stage.SPEECH_STARTED, Stage.LAST_VOICED, Stage.HEARD, Stage.ENDED, Stage.RECALL_START})
"""A request that has none of these is no turn (a subscription, a reading of the prompt, a list)."""


def build(
    rid: bytes, host: bytes, marks: Iterable[Seen], notes: Mapping[str, str], clock_offset_ns: int
) -> Turn | None:
    """The turn that these marks tell of, in any order; None when they tell of none.

    `clock_offset_ns`: what is to be added to a monotonic time for Unix time."""
    seen = sorted(set(marks))
    by: dict[tuple[Stage, str], list[Seen]] = {}
    for mark in seen:
        by.setdefault((mark.stage, mark.daemon), []).append(mark)
    if not any(mark.stage in TURN_MARKS for mark in seen):
        return None
    started = by.get((Stage.PLAYBACK_STARTED, "tts"), [])
    first_audio = started[0] if started else None
    limit_ns = first_audio.t_ns if first_audio else seen[-1].t_ns
    voiced = _last(by, Stage.LAST_VOICED, "stt", limit_ns)
    way = _way_back(by, limit_ns)
    heard = way.get(Point(Stage.HEARD, "dialog")) or _last(by, Stage.HEARD, "dialog", limit_ns)
    origin_ns = (voiced or heard or seen[0]).t_ns
    spans = _spans(by, way, voiced, limit_ns)
    if first_audio is not None:
        spans = _shared(spans, origin_ns, first_audio.t_ns)
    ended = by.get((Stage.ENDED, "dialog"), [])
    return Turn(
        rid=rid,
        host=host,
        begun_s=(origin_ns + clock_offset_ns) / 1e9,
        origin_ns=origin_ns,
        typed=voiced is None and (Stage.SPEECH_STARTED, "stt") not in by,
        outcome=OUTCOMES[ended[-1].arg] if ended and 0 <= ended[-1].arg < len(OUTCOMES) else UNFINISHED,
        first_audio_ns=first_audio.t_ns if first_audio else None,
        spans=tuple(sorted([*spans, *_around(by, limit_ns)], key=lambda span: (span.start_ns, span.end_ns))),
        missing=_missing(by, way, voiced, limit_ns),
        marks=tuple(seen),
        conversation=notes.get("conversation", ""),
        heard=notes.get("heard", ""),
        words=heard.arg if heard else None,
        memories=_arg(by, Stage.RECALL_END, "dialog", limit_ns),
        prompt_tokens=_arg(by, Stage.PROMPT_TOKENS, "llm", limit_ns),
        cached_tokens=_arg(by, Stage.CACHED_TOKENS, "llm", limit_ns),
    )


_Marks = Mapping[tuple[Stage, str], list[Seen]]


def _last(by: _Marks, stage: Stage, daemon: str, limit_ns: int) -> Seen | None:
    """The last such mark not after the limit."""
    return next((mark for mark in reversed(by.get((stage, daemon), ())) if mark.t_ns <= limit_ns), None)


def _arg(by: _Marks, stage: Stage, daemon: str, limit_ns: int) -> int | None:
    mark = _last(by, stage, daemon, limit_ns)
    return mark.arg if mark else None


def _way_back(by: _Marks, limit_ns: int) -> dict[Point, Seen]:
    """From the first sound backwards: of each point the last mark not after what came of it."""
    way: dict[Point, Seen] = {}
    for point in reversed(WAY):
        mark = _last(by, point.stage, point.daemon, limit_ns)
        if mark is not None:
            way[point] = mark
            limit_ns = mark.t_ns
    return way


def _spans(by: _Marks, way: Mapping[Point, Seen], voiced: Seen | None, limit_ns: int) -> list[Span]:
    """The stages in the order in which they follow each other."""
    spans = []
    if voiced is not None:
        confirmed = _last(by, Stage.ENDPOINT_CONFIRMED, "stt", limit_ns)
        transcript = _last(by, Stage.TRANSCRIPT, "stt", limit_ns)
        if confirmed is not None:
            spans.append(Span(ENDPOINT, "stt", voiced.t_ns, confirmed.t_ns))
            if transcript is not None and transcript.t_ns > confirmed.t_ns:
                spans.append(Span("stt", "stt", confirmed.t_ns, transcript.t_ns))
    for (start, end), name in LEGS.items():
        if start in way and end in way:
            daemon = "llm" if name == "llm_first_clause" else start.daemon
            to = end.daemon if name == IPC else ""
            spans.append(Span(name, daemon, way[start].t_ns, way[end].t_ns, to_daemon=to))
    return spans


def _shared(spans: Iterable[Span], origin_ns: int, first_audio_ns: int) -> list[Span]:
    """The same spans with their shares, and the gaps between them as spans of their own."""
    result = []
    at = origin_ns
    for span in spans:
        start, end = max(span.start_ns, at), min(span.end_ns, first_audio_ns)
        if start > at and end > start:
            result.append(Span(UNACCOUNTED, "", at, start, start - at))
        share = max(0, end - start)
        result.append(Span(span.stage, span.daemon, span.start_ns, span.end_ns, share, span.to_daemon))
        at = end if share else at
    if first_audio_ns > at:
        result.append(Span(UNACCOUNTED, "", at, first_audio_ns, first_audio_ns - at))
    return result


UTTERANCE, TRANSCRIPTION, SPEAKING, STORING = "utterance", "transcription", "speaking", "storing"
"""Spans around the way, without a share: what was said, its transcription after the candidate, the answer, storing."""


def _around(by: _Marks, limit_ns: int) -> list[Span]:
    pairs = (
        (UTTERANCE, "stt", Stage.SPEECH_STARTED, Stage.LAST_VOICED),
        (TRANSCRIPTION, "stt", Stage.ENDPOINT_CANDIDATE, Stage.TRANSCRIPT),
        (SPEAKING, "tts", Stage.PLAYBACK_STARTED, Stage.PLAYBACK_DRAINED),
        (STORING, "memory", Stage.RECEIVED, Stage.MEMORY_STORED),
    )
    spans = []
    for name, daemon, first, second in pairs:
        ends = by.get((second, daemon), ())
        inner = name in (UTTERANCE, TRANSCRIPTION)
        end = _last(by, second, daemon, limit_ns) if inner else (ends[-1] if ends else None)
        start = _last(by, first, daemon, end.t_ns) if end else None
        if start and end and end.t_ns > start.t_ns:
            spans.append(Span(name, daemon, start.t_ns, end.t_ns))
    return spans


def _missing(by: _Marks, way: Mapping[Point, Seen], voiced: Seen | None, limit_ns: int) -> tuple[str, ...]:
    names = [f"{point.daemon}:{point.stage.name.lower()}" for point in WAY if point not in way]
    if voiced is None:
        return tuple(names)
    wanted = (Stage.ENDPOINT_CONFIRMED, Stage.TRANSCRIPT)
    return (*(f"stt:{stage.name.lower()}" for stage in wanted if not _last(by, stage, "stt", limit_ns)), *names)


def hops(turn: Turn) -> list[Hop]:
    """Every hop whose both ends are known, in the order of arrival.

    SENT and RECEIVED do not name the peer: a daemon's arrival belongs to the latest departure from dialog under
    the same epoch that is still free, and the other way round."""
    found = [
        Hop(span.daemon, span.to_daemon, span.start_ns, span.end_ns)
        for span in turn.spans
        if span.stage == IPC and _is_item(span)
    ]
    free = {
        key: list(marks)
        for key, marks in itertools.groupby(
            sorted((mark for mark in turn.marks if mark.stage is Stage.SENT), key=_peer_epoch), key=_peer_epoch
        )
    }
    for mark in turn.marks:
        if mark.stage is not Stage.RECEIVED:
            continue
        senders = [
            daemon for daemon, epoch in free if epoch == mark.arg and (daemon == "dialog") != (mark.daemon == "dialog")
        ]
        sent = [free[sender, mark.arg] for sender in senders]
        best = max(
            (each for one in sent for each in one if each.t_ns <= mark.t_ns), key=lambda each: each.t_ns, default=None
        )
        if best is not None:
            free[best.daemon, best.arg].remove(best)
            found.append(Hop(best.daemon, mark.daemon, best.t_ns, mark.t_ns))
    return sorted(found, key=lambda hop: hop.received_ns)


def _is_item(span: Span) -> bool:
    """Hops of items have stages of their own at both ends; those of requests and terminals are SENT and RECEIVED."""
    return (span.daemon, span.to_daemon) in {("stt", "dialog"), ("llm", "dialog"), ("dialog", "tts")}


def _peer_epoch(mark: Seen) -> tuple[str, int]:
    return mark.daemon, mark.arg
