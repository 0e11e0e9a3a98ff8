"""What a satellite decides: what time it is in the house, when it is deaf, and what of an answer sounds.

Pure. `here` is a time of this machine's monotonic clock, `there` one of the house's, both in ns.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

EXCHANGES_KEPT = 8
"""Of so many exchanges the one with the shortest round trip counts: clocks drift apart by some 0.05 ms a second."""

LEASE_NS = 3_000_000_000
"""The microphone hears again this long after the last piece of an answer came, whatever became of its end; as long as
the house's own lease."""

WINDOWS_KEPT = 4
"""Stretches of deafness that frames still on their way from the microphone can fall into."""

ROUNDING_NS = 1_000_000
"""Times of frames are rounded; what follows by less than this belongs together."""


class HouseClock:
    """The house's clock, as it is known from questions and answers."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque(maxlen=EXCHANGES_KEPT)

    @property
    def exchanges(self) -> int:
        return len(self._seen)

    def exchanged(self, asked_here: int, there: int, answered_here: int) -> None:
        """The house said `there` between two moments here. Half of that time is how wrong it may be."""
        self._seen.append((answered_here - asked_here, there - (asked_here + answered_here) // 2))

    def forget(self) -> None:
        """The house may be another machine run, or this one may have slept."""
        self._seen.clear()

    def there(self, here: int) -> int:
        """After one exchange at least. Never negative, as times on the wire are."""
        _, offset = min(self._seen)
        return max(0, here + offset)


class Deafness:
    """When nothing is heard because this room's own speaker sounds. Times are `here`."""

    def __init__(self) -> None:
        self._windows: deque[tuple[int, int | None]] = deque(maxlen=WINDOWS_KEPT)
        self._lease = 0

    def renew(self, now: int) -> None:
        """A piece of an answer has come."""
        self._lease = now + LEASE_NS

    def begin(self, here: int) -> None:
        """The first sample sounds."""
        self.end(here)
        self._windows.append((here, None))

    def end(self, here: int) -> None:
        """The last sample has sounded; or nothing more will."""
        if self._windows and self._windows[-1][1] is None:
            self._windows[-1] = (self._windows[-1][0], here)

    def covers(self, start: int, end: int) -> bool:
        """Whether any of what was captured in start..end is not to be heard."""
        return any(start < (self._lease if until is None else until) and begun < end for begun, until in self._windows)


@dataclass(frozen=True, slots=True)
class Play:
    pcm: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete: the rest of it sounds."""


@dataclass(frozen=True, slots=True)
class Void:
    """The answer is cut: nothing more of it sounds."""


Order = Play | End | Void


class Answers:
    """The sound of answers as it comes from the house, piece by piece."""

    def __init__(self) -> None:
        self._end_there: int | None = None
        """When what has come of the answer in hand ends; None: there is none."""

    @property
    def in_hand(self) -> bool:
        return self._end_there is not None

    def sound(self, there: int, sample_rate: int, last: bool, pcm: bytes) -> list[Order]:
        """A piece that is due at `there`. The last one makes void what is due after it."""
        end, self._end_there = self._end_there, there + len(pcm) // 2 * 1_000_000_000 // sample_rate
        if last:
            self._end_there = None
            if end is not None and there + ROUNDING_NS < end:
                return [Void()]
        orders: list[Order] = [Play(pcm)] if pcm else []
        return [*orders, End()] if last and (orders or end is not None) else orders

    def broken(self) -> list[Order]:
        """Nothing more comes of the answer in hand: what is here sounds to its end."""
        if self._end_there is None:
            return []
        self._end_there = None
        return [End()]
