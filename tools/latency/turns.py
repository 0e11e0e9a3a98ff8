"""The marks of one request become a turn: pure, and whatever is missing, doubled or out of order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ipc.marks import OUTCOMES, Stage
from ipc.shares import divide
from tools.latency.stages import ENDPOINT, IPC, LEGS, NAMES, UNACCOUNTED, WAY, Point

UNFINISHED = "unfinished"
"""The outcome of a turn whose end is in no file: it is going on, or dialog died in it."""


class Seen(NamedTuple):
    """A mark and who made it; ordered by time, monotonic ns."""

    t_ns: int
    stage: Stage
    daemon: str
    arg: int


class Span(NamedTuple):
    """Something that took time in a turn, monotonic ns. `share_ns` is what it alone has of the time to first audio."""

    stage: str
    daemon: str
    start_ns: int
    end_ns: int
    share_ns: int = 0
    to_daemon: str = ""
    """Where it goes, for a hop."""


class Hop(NamedTuple):
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
    seen = [mark for mark, _ in itertools.groupby(sorted(marks))]
    if not any(mark.stage in TURN_MARKS for mark in seen):
        return None
    found = _Found(seen)
    spans = found.spans()
    if found.first_audio is not None:
        spans = _shared(spans, found.origin.t_ns, found.first_audio.t_ns)
    return Turn(
        rid=rid,
        host=host,
        begun_s=(found.origin.t_ns + clock_offset_ns) / 1e9,
        origin_ns=found.origin.t_ns,
        typed=found.typed,
        outcome=found.outcome,
        first_audio_ns=found.first_audio.t_ns if found.first_audio else None,
        spans=tuple(sorted([*spans, *found.around()], key=lambda span: (span.start_ns, span.end_ns))),
        missing=found.missing(),
        marks=tuple(seen),
        conversation=notes.get("conversation", ""),
        heard=notes.get("heard", ""),
        words=found.heard.arg if found.heard else None,
        memories=found.arg(Stage.RECALL_END, "dialog"),
        prompt_tokens=found.arg(Stage.PROMPT_TOKENS, "llm"),
        cached_tokens=found.arg(Stage.CACHED_TOKENS, "llm"),
    )


UTTERANCE, TRANSCRIPTION, SPEAKING, STORING = "utterance", "transcription", "speaking", "storing"
"""Spans around the way, without a share: what was said, its transcription after the candidate, the answer, storing."""


class _Found:
    """What the marks of one turn say, seen from its first sound."""

    def __init__(self, seen: Sequence[Seen]) -> None:
        self._by: dict[tuple[Stage, str], list[Seen]] = {}
        for mark in seen:
            _, stage, daemon, _ = mark
            if (same := self._by.get((stage, daemon))) is None:
                self._by[stage, daemon] = [mark]
            else:
                same.append(mark)
        started = self.all(Stage.PLAYBACK_STARTED, "tts")
        self.first_audio = started[0] if started else None
        self._limit_ns = self.first_audio.t_ns if self.first_audio else seen[-1].t_ns
        self.way = self._way_back()
        self.voiced = self.last(Stage.LAST_VOICED, "stt")
        self.confirmed = self.last(Stage.ENDPOINT_CONFIRMED, "stt")
        self.heard = self.way.get(Point(Stage.HEARD, "dialog")) or self.last(Stage.HEARD, "dialog")
        self.origin = self.voiced or self.heard or seen[0]
        self.typed = self.voiced is None and not self.all(Stage.SPEECH_STARTED, "stt")
        ended = self.all(Stage.ENDED, "dialog")
        known = ended and 0 <= ended[-1].arg < len(OUTCOMES)
        self.outcome = OUTCOMES[ended[-1].arg] if known else UNFINISHED

    def all(self, stage: Stage, daemon: str) -> Sequence[Seen]:
        return self._by.get((stage, daemon), ())

    def last(self, stage: Stage, daemon: str, limit_ns: int | None = None) -> Seen | None:
        """The last such mark not after the limit, by default the first sound."""
        limit_ns = self._limit_ns if limit_ns is None else limit_ns
        for mark in reversed(self._by.get((stage, daemon), ())):
            if mark.t_ns <= limit_ns:
                return mark
        return None

    def arg(self, stage: Stage, daemon: str) -> int | None:
        mark = self.last(stage, daemon)
        return mark.arg if mark else None

    def _way_back(self) -> dict[Point, Seen]:
        """From the first sound backwards: of each point the last mark not after what came of it, and none of an attempt
        that was revoked."""
        way: dict[Point, Seen] = {}
        limit_ns = self._limit_ns
        revoked = self.last(Stage.REVOKED, "dialog")
        for point in reversed(WAY):
            mark = self.last(point.stage, point.daemon, limit_ns)
            if mark is not None and not (revoked and mark.t_ns < revoked.t_ns):
                way[point] = mark
                limit_ns = mark.t_ns
        return way

    def spans(self) -> list[Span]:
        """The stages; of those that overlap the first has the share."""
        spans = []
        if self.voiced and self.confirmed:
            spans.append(Span(ENDPOINT, "stt", self.voiced.t_ns, self.confirmed.t_ns))
            transcript = self.last(Stage.TRANSCRIPT, "stt")
            if transcript is not None and transcript.t_ns > self.confirmed.t_ns:
                spans.append(Span("stt", "stt", self.confirmed.t_ns, transcript.t_ns))
        for (start, end), name in LEGS.items():
            if start in self.way and end in self.way:
                daemon = "llm" if name == "llm_first_clause" else start.daemon
                to = end.daemon if name == IPC else ""
                spans.append(Span(name, daemon, self.way[start].t_ns, self.way[end].t_ns, to_daemon=to))
        released = self.last(Stage.RELEASED, "tts")
        if released is not None:
            spans += self._release(released)
        made = self.way.get(Point(Stage.FIRST_AUDIO, "tts"))
        if made is not None and self.first_audio is not None:
            begin_ns = max(made.t_ns, released.t_ns) if released else made.t_ns
            spans.append(Span("tts_playout", "tts", begin_ns, self.first_audio.t_ns))
        return spans

    def _release(self, released: Seen) -> list[Span]:
        """How the confirmation of the turn reached what was held."""
        heard = self.last(Stage.HEARD, "dialog", released.t_ns)
        sent = self.last(Stage.TEXT_SENT, "stt", heard.t_ns) if heard else None
        spans = []
        if heard and sent and self.confirmed and sent.t_ns >= self.confirmed.t_ns:
            spans.append(Span(IPC, "stt", sent.t_ns, heard.t_ns, to_daemon="dialog"))
        if heard:
            spans.append(Span(IPC, "dialog", heard.t_ns, released.t_ns, to_daemon="tts"))
        return spans

    def around(self) -> list[Span]:
        """What lies around the way."""
        pairs = (
            (UTTERANCE, "stt", Stage.SPEECH_STARTED, self.voiced),
            (TRANSCRIPTION, "stt", Stage.ENDPOINT_CANDIDATE, self.last(Stage.TRANSCRIPT, "stt")),
            (SPEAKING, "tts", Stage.PLAYBACK_STARTED, _latest(self.all(Stage.PLAYBACK_DRAINED, "tts"))),
            (STORING, "memory", Stage.RECEIVED, _latest(self.all(Stage.MEMORY_STORED, "memory"))),
        )
        spans = []
        for name, daemon, first, end in pairs:
            start = self.last(first, daemon, end.t_ns) if end else None
            if start and end and end.t_ns > start.t_ns:
                spans.append(Span(name, daemon, start.t_ns, end.t_ns))
        return spans

    def missing(self) -> tuple[str, ...]:
        """What of the way nobody marked."""
        points = [point for point in WAY if point not in self.way]
        if self.typed:
            points = [point for point in points if point.daemon != "stt"]
        else:
            ear = (Stage.LAST_VOICED, Stage.ENDPOINT_CONFIRMED, Stage.TRANSCRIPT)
            points = [*(Point(stage, "stt") for stage in ear if not self.last(stage, "stt")), *points]
        return tuple(f"{point.daemon}:{point.stage.name.lower()}" for point in points)


def _latest(marks: Sequence[Seen]) -> Seen | None:
    return marks[-1] if marks else None


def _shared(spans: Sequence[Span], origin_ns: int, first_audio_ns: int) -> list[Span]:
    """The same spans with their shares, and the gaps between them as spans of their own."""
    pieces = divide([(span.start_ns, span.end_ns) for span in spans], origin_ns, first_audio_ns)
    shares = [0] * len(spans)
    gaps = []
    for piece in pieces:
        if piece.leg is None:
            gaps.append(Span(UNACCOUNTED, "", piece.start, piece.end, piece.end - piece.start))
        else:
            shares[piece.leg] += piece.end - piece.start
    return [
        *(span._replace(share_ns=share) if share else span for span, share in zip(spans, shares, strict=True)),
        *gaps,
    ]


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
