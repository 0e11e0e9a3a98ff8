"""What came of a schedule: plain records of what was said, told, played, stored and reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from daemons.dialog import effects as d
from daemons.dialog.effects import Work
from daemons.dialog.turn import Phase
from ipc.messages import SpeechStarted, TurnCandidate, TurnDropped, TurnFinal, TurnResumed

MS = 1_000_000
START_NS = 1_000_000 * MS

SILENT_NS = 50 * MS
"""So soon after a revoke there must be silence."""


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
    """What happened. What `data` holds, by `kind`:

    - of stt, as dialog learns it: started (turn, t_ns, whether an answer sounded), candidate, final (turn, revision,
      text), resumed (turn, revision, t_ns), dropped (turn), lost;
    - of those who ask: typed, unwanted (turn);
    - of dialog: work (work, text), cancelled (work), muting (turn: it has learnt that its answer sounds), stored (turn,
      heard), report (turn, outcome, heard);
    - at stt: mute (from_ns, lease_ms), untold (from_ns: what was said from then until now had no transcript);
    - at tts: silenced (work: its request ended), stale (work: sound of it was handed over after that);
    - of fate: died, back (daemon), stalled (engine).
    """

    t_ns: int
    kind: str
    data: tuple[Any, ...] = ()


@dataclass
class Record:
    """All that came of one schedule. `hop_ns`: no message takes longer from one daemon to another."""

    seed: int
    words: list[Word] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    phase: Phase = Phase.IDLE
    hop_ns: int = 25 * MS
    start_ns: int = START_NS

    def of(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event.kind in kinds]

    def story(self) -> str:
        """One line an event, for a person."""
        lines = [(word.from_ns, f"says {word.text}") for word in self.words]
        lines += [(s.from_ns, f"sounds until {self.ms(s.to_ns)}: {self._name(s.work)}") for s in self.sounds]
        lines += [(event.t_ns, f"{event.kind} {' '.join(map(self._name, event.data))}") for event in self.events]
        return "\n".join([f"seed {self.seed}", *(f"{self.ms(t_ns):>7} {text}" for t_ns, text in sorted(lines))])

    def ms(self, t_ns: int) -> int:
        """Since the beginning of the schedule."""
        return (t_ns - self.start_ns) // MS

    def _name(self, value: Any) -> str:
        if isinstance(value, Work):
            return f"{self._name(value.turn)}.{value.revision}.{value.attempt}"
        if isinstance(value, bytes):
            return f"#{int.from_bytes(value, 'big') if value[:8] == bytes(8) else value.hex()[-6:]}"
        return str(self.ms(value)) if isinstance(value, int) and value > self.start_ns else str(value)


def note_effect(note: Callable[..., None], effect: d.Effect) -> None:
    """Notes what dialog decided, where the record has a kind for it."""
    match effect:
        case d.StartRecall(work, text):
            note("work", work, text)
        case d.CancelWork(work):
            note("cancelled", work)
        case d.Mute(turn, _, lease_ms) if lease_ms:
            note("muting", turn)
        case d.Store(turn, heard):
            note("stored", turn, heard)
        case d.Withdraw(promise):
            note("withdrawn", promise.turn, promise.heard)
        case d.Report(report):
            note("report", report.turn, report.outcome, report.heard)


def note_heard(note: Callable[..., None], item: Any, phase: Phase) -> None:
    """Notes what stt tells dialog, which is in `phase`."""
    match item:
        case SpeechStarted():
            note("started", item.turn, item.t_ns, phase is Phase.SOUNDING)
        case TurnCandidate():
            note("candidate", item.turn, item.revision, item.text)
        case TurnResumed():
            note("resumed", item.turn, item.revision, item.t_ns)
        case TurnFinal():
            note("final", item.turn, item.revision, item.text)
        case TurnDropped():
            note("dropped", item.turn)
