"""What came of a schedule: plain records of what was said, told, played, stored and reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from daemons.dialog.effects import Work
from daemons.dialog.turn import Phase

MS = 1_000_000
START_NS = 1_000_000 * MS


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    from_ns: int
    to_ns: int


@dataclass(slots=True)
class Sound:
    """What the device played of one piece; `to_ns` moves forward when it is cut."""

    work: Work
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` and `data` say what happened; see where each is written."""

    t_ns: int
    kind: str
    data: tuple[Any, ...] = ()


@dataclass
class Record:
    """All that came of one schedule. `transcripts`: none failed. `deaf`: when stt heard nothing."""

    seed: int
    words: list[Word] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    deaf: list[tuple[int, int]] = field(default_factory=list)
    transcripts: bool = True
    phase: Phase = Phase.IDLE

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def story(self) -> str:
        """One line an event, for a person."""
        lines = [(word.from_ns, f"says {word.text}") for word in self.words]
        lines += [(sound.from_ns, f"sounds until {ms(sound.to_ns)}: {_name(sound.work)}") for sound in self.sounds]
        lines += [(event.t_ns, f"{event.kind} {' '.join(map(_name, event.data))}") for event in self.events]
        return "\n".join([f"seed {self.seed}", *(f"{ms(t_ns):>7} {text}" for t_ns, text in sorted(lines))])


def ms(t_ns: int) -> int:
    """Since the beginning of the schedule."""
    return (t_ns - START_NS) // MS


def _name(value: Any) -> str:
    if isinstance(value, Work):
        return f"{_name(value.turn)}.{value.revision}.{value.attempt}"
    return f"#{int.from_bytes(value, 'big')}" if isinstance(value, bytes) else str(value)
