"""What an answer sounds like where its clauses meet: silences that nobody asked for, late frames, clicks. Pure.

A player is supposed that has no patience: it plays each frame when it is due, when it is there and when what came
before has sounded, whichever is last. While nothing is there to play, it plays zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemons.engines.pcm import AUDIBLE, DECAY_MS, ONSET_MS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.int16]

GAP_MS = 20
"""Silence that lasts this much longer than was asked for is a gap."""

PAUSES_MS = {".": 150, "!": 150, "?": 150, "…": 150, ":": 120, ";": 120, ",": 80}
PAUSE_PLAIN_MS = 60
"""Silence that the voice is to leave after a clause, by how it ends. Stated here anew: a figure that asked the daemon
what it had meant to do would agree with any mistake in it."""

PAUSE_INSIDE_MS = 150
"""The same between two sentences of one clause."""

_CLOSING = "\"'”’)]» \n"

KEPT_MS = ONSET_MS + DECAY_MS
"""Of the speech around a pause so much is too low to be heard, and kept so that no word is cut."""

SILENT_MS = 10
"""Zeros for so long were put there: the voice itself gives a few in a row at most."""

AROUND_MS = (1, 5)
"""A step is compared with the steps between these times on its sounding side: a click of a few samples has more than
one."""

CLICK_TIMES = 2
"""A click is a step at the edge of a silence at least so many times the highest around it ..."""

CLICK_LEAST = 104
"""... and at least so high (of 32,767): -50 dB. Faded speech ends in steps of 1 to 3."""

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Frame:
    """`due_ns`, `arrived_ns`: when its first sample is to sound and when it came, by one clock. `pcm`: 16-bit mono."""

    due_ns: int
    arrived_ns: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class Silence:
    """A stretch without a sample of speech. `asked_ms`: the pause that it should be; None when there should be none.
    `silent_ms` are zeros, `quiet_ms` with what is too low to be heard around them; for `waited_ms` of it the player
    had nothing to play. `click`: the speech does not fade at its edges."""

    at_s: float
    asked_ms: int | None
    silent_ms: float
    quiet_ms: float
    waited_ms: float
    click: bool

    @property
    def unasked_ms(self) -> float:
        """How much longer it is than asked for; less than 0: it is shorter. What trimming should have taken away
        counts too."""
        if self.asked_ms is None:
            return self.silent_ms
        return max(self.silent_ms, self.quiet_ms - KEPT_MS) - self.asked_ms

    @property
    def gap(self) -> bool:
        return self.unasked_ms > GAP_MS


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer as it sounded. `late_ms`: of each frame, how long after it was due it came (less than 0: before).
    `pauses`: how many there should be."""

    samples: Samples
    silences: list[Silence]
    late_ms: list[float]
    pauses: int


def pause_after(clause: str) -> int:
    """Milliseconds of silence that are to follow `clause`."""
    return PAUSES_MS.get(clause.rstrip(_CLOSING)[-1:], PAUSE_PLAIN_MS)


def listen(frames: Sequence[Frame], rate: int, clauses: Sequence[str]) -> Heard:
    """Plays the frames of an answer that has these clauses. Frames are those that have samples, in their order."""
    samples, waited = _played(frames, rate)
    pauses = [pause_after(clause) for clause in clauses[:-1]]
    found = _silences(samples, waited, rate)
    asked = _asked(found, pauses)
    silences = [_silence(samples, one, rate, ms) for one, ms in zip(found, asked, strict=True)]
    late_ms = [(frame.arrived_ns - frame.due_ns) / 1e6 for frame in frames]
    return Heard(samples, silences, late_ms, len(pauses))


def _played(frames: Sequence[Frame], rate: int) -> tuple[Samples, NDArray[np.bool_]]:
    """What sounds, and in which samples of it the player had nothing to play."""
    import numpy as np

    parts: list[Samples] = []
    nothing: list[NDArray[np.bool_]] = []
    begun_ns = max(frames[0].due_ns, frames[0].arrived_ns)
    length = 0
    for frame in frames:
        due = (max(frame.due_ns, frame.arrived_ns) - begun_ns) * rate
        missing = max(0, round(due / _NS) - length)
        pcm = np.frombuffer(frame.pcm, "<i2")
        parts += [np.zeros(missing, np.int16), pcm]
        nothing += [np.ones(missing, np.bool_), np.zeros(len(pcm), np.bool_)]
        length += missing + len(pcm)
    return np.concatenate(parts), np.concatenate(nothing)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Zeros from `first` until before `end`, in samples. For `waited_ms` of it there was nothing to play."""

    first: int
    end: int
    ms: float
    waited_ms: float

    @property
    def put_there(self) -> bool:
        """Whether some of it was sent as silence; else it is a mere hole."""
        return self.ms - self.waited_ms >= SILENT_MS


def _silences(samples: Samples, waited: NDArray[np.bool_], rate: int) -> list[_Stretch]:
    """Those inside the speech that were put there, and those in which there was nothing to play, however short."""
    stretches = []
    for first, end in _runs(samples == 0):
        waited_ms = int(waited[first:end].sum()) * 1000 / rate
        ms = (end - first) * 1000 / rate
        if first > 0 and end < len(samples) and (waited_ms or ms >= SILENT_MS):
            stretches.append(_Stretch(first, end, ms, waited_ms))
    return stretches


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def _asked(found: Sequence[_Stretch], pauses: Sequence[int]) -> list[int | None]:
    """Which pause each stretch is: as many as there are, in their order, and so that they differ least. Of the others
    those that were put there part the sentences of a clause."""
    best: list[tuple[int, float, list[int | None]]] = [(0, 0.0, [])] * (len(pauses) + 1)  # with the first pauses
    for stretch in found:
        other = PAUSE_INSIDE_MS if stretch.put_there else None
        fresh = [(matched, differ, [*before, other]) for matched, differ, before in best]
        for place, pause in enumerate(pauses, 1):
            matched, differ, before = best[place - 1]
            as_it = (matched - 1, differ + _unlike(stretch, pause), [*before, pause])
            fresh[place] = min(fresh[place], fresh[place - 1], as_it, key=lambda way: way[:2])
        best = fresh
    return best[-1][2]


def _unlike(stretch: _Stretch, pause: int) -> float:
    """A mere hole is a pause only when the clause came so late that nothing of it was left to send."""
    return abs(stretch.ms - pause) + (0 if stretch.put_there else pause)


def _silence(samples: Samples, stretch: _Stretch, rate: int, asked_ms: int | None) -> Silence:
    import numpy as np

    audible = np.abs(samples.astype(np.int32)) >= AUDIBLE
    before, after = np.flatnonzero(audible[: stretch.first]), np.flatnonzero(audible[stretch.end :])
    first = int(before[-1]) + 1 if len(before) else 0
    end = stretch.end + int(after[0]) if len(after) else len(samples)
    return Silence(
        at_s=stretch.first / rate,
        asked_ms=asked_ms,
        silent_ms=stretch.ms,
        quiet_ms=(end - first) * 1000 / rate,
        waited_ms=stretch.waited_ms,
        click=_clicks(samples[: stretch.first][::-1], rate) or _clicks(samples[stretch.end :], rate),
    )


def _clicks(speech: Samples, rate: int) -> bool:
    """Whether `speech`, which begins at the edge of a silence, begins with a click."""
    import numpy as np

    begin, end = (rate * ms // 1000 for ms in AROUND_MS)
    step = abs(int(speech[0]))
    around = np.abs(np.diff(speech[begin:end].astype(np.int32))).max(initial=0)
    return bool(step >= max(CLICK_LEAST, CLICK_TIMES * around))
