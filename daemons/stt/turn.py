"""What the core knows of one turn. Pure, as the core is."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from ipc.audio import FRAME_MS, FRAME_NS
from ipc.limits import TEXT_MAX_CHARS

START_WINDOW = 5
START_VOICED = 3
SEGMENT_FRAMES = 60_000 // FRAME_MS
CUT_FRAMES = 5_000 // FRAME_MS
"""A segment that is too long is cut at the last pause within this."""
UNMUTE_FRAMES = 1_000 // FRAME_MS
"""The end of a mute is told a little after it: so much is kept to be heard after all."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame and the voice detector's verdict. `voice_ns`: from its beginning to its last voiced sample."""

    t_ns: int
    voiced: bool
    pcm: bytes
    voice_ns: int = FRAME_NS

    @property
    def end_ns(self) -> int:
        return self.t_ns + FRAME_NS


@dataclass(slots=True)
class Turn:
    """A turn is made of segments. Speech that goes on before the final belongs to the same segment and is
    transcribed again with it; after a final the words are kept and what follows is a new segment."""

    rid: bytes
    revision: int = 1
    frames: list[Heard] = field(default_factory=list)  # of this segment; a new list makes old transcripts stale
    last_voiced_ns: int = 0
    text: str = ""  # the latest words of this segment
    covers_ns: int = 0  # `last_voiced_ns` when `text` was asked for
    transcript_ns: int = 0
    shown: str = ""  # the last partial
    kept: str = ""  # the words of the segments before, and their last voiced sample
    kept_ns: int = 0
    endpoint_ns: int = 0  # when the silence was long enough for a candidate; 0: it is not
    confirm_ns: int = 0  # the silence that its words and its sound ask for; 0: they are not all there
    confirmed_ns: int = 0
    told: bool = False  # a candidate of this revision was sent
    final: bool = False  # over, until it is joined
    rest: list[Heard] | None = None  # it takes no more: what has come since

    @property
    def settled(self) -> bool:
        """All that was said is in `text`."""
        return self.covers_ns == self.last_voiced_ns

    @property
    def voice_end_ns(self) -> int:
        """Capture time of the last voiced sample; `last_voiced_ns` is the end of its frame."""
        last = (heard for heard in reversed(self.frames) if heard.end_ns == self.last_voiced_ns)
        ends = (heard.t_ns + heard.voice_ns for heard in last)
        return next(ends, self.last_voiced_ns)

    def whole_frames(self, silence_ns: int) -> int:
        """A silence after the last voiced sample, counted from the end of its frame: the nearest number of frames."""
        frames = (silence_ns - (self.last_voiced_ns - self.voice_end_ns)) / FRAME_NS
        return math.ceil(frames - 0.5) * FRAME_NS

    def words(self, text: str) -> str:
        return f"{self.kept} {text}".strip()[-TEXT_MAX_CHARS:]

    def begin(self, frames: list[Heard]) -> None:
        self.frames, self.final = frames, False
        self.extend_to(frames[-1].end_ns)

    def extend_to(self, last_voiced_ns: int) -> None:
        self.last_voiced_ns = last_voiced_ns
        self.endpoint_ns = self.confirm_ns = self.confirmed_ns = 0

    def complete(self, now_ns: int) -> None:
        """Nothing more can be said in it."""
        self.endpoint_ns = self.endpoint_ns or now_ns
        self.confirmed_ns = self.confirmed_ns or now_ns
        self.rest = self.rest or []

    def keep(self) -> None:
        """Its words are told as final."""
        self.kept, self.kept_ns = self.words(self.text), self.last_voiced_ns
        self.text, self.shown, self.final = "", "", True

    def split(self, now_ns: int) -> None:
        """Ends a segment that is too long, in its last pause if there is one."""
        at = len(self.frames)
        pauses = (n for n in range(at - 1, at - CUT_FRAMES, -1) if not self.frames[n].voiced)
        at = next(pauses, at)
        rest = self.frames[at:]
        self.frames = self.frames[:at]
        self.last_voiced_ns = self.last_voice()
        self.complete(now_ns)
        self.rest = rest

    def without(self, from_ns: int) -> list[Heard]:
        """Takes out, and returns, what was captured at or after `from_ns`."""
        waiting = self.rest or []
        gone = [heard for heard in self.frames + waiting if heard.t_ns >= from_ns]
        if gone:
            self.frames = [heard for heard in self.frames if heard.t_ns < from_ns]
            self.rest = [heard for heard in waiting if heard.t_ns < from_ns]
        return gone

    def last_voice(self) -> int:
        """Where the speech in `frames` ends, 0 if there is none. Blips after it do not count."""
        ends = (heard.end_ns for heard in reversed(self.frames) if heard.voiced)
        return next((end_ns for end_ns in ends if end_ns <= self.last_voiced_ns), 0)


@dataclass(slots=True)
class MuteLease:
    """What was captured in `from_ns`..`until_ns` is not listened to."""

    from_ns: int
    until_ns: int
    dropped: int = 0  # voiced frames
    latest: deque[Heard] = field(default_factory=lambda: deque(maxlen=UNMUTE_FRAMES))

    def drop(self, frames: list[Heard]) -> None:
        self.dropped += sum(heard.voiced for heard in frames)
        self.latest.extend(frames)

    def end(self, until_ns: int) -> list[Heard]:
        """Moves the end forward. Returns what was dropped and is to be heard after all."""
        self.until_ns = min(self.until_ns, until_ns)
        again = [heard for heard in self.latest if heard.t_ns >= self.until_ns]
        self.dropped -= sum(heard.voiced for heard in again)
        return again


def speech_start(frames: list[Heard]) -> int | None:
    """Capture time of the first voiced sample, when the latest frames are speech and no mere blip."""
    voiced = [heard.t_ns for heard in frames[-START_WINDOW:] if heard.voiced]
    return voiced[0] if len(voiced) >= START_VOICED else None
