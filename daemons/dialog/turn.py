"""The turn in hand: how far it has come, and all that is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from daemons.dialog import stages
from daemons.dialog.clauses import ClauseCutter
from daemons.dialog.effects import Store, Work
from daemons.dialog.stages import Timeline
from ipc.messages import Generated, Memory, TurnReport


class Phase(Enum):
    """How far the turn in hand has come."""

    IDLE = auto()  # no turn
    HEARING = auto()  # somebody speaks, or a silence may end the turn
    RECALLING = auto()
    THINKING = auto()  # the model works; nothing has been handed to the voice
    SPEAKING = auto()  # clauses are with the voice; nothing has sounded
    SOUNDING = auto()  # from the first audible sample to drained


@dataclass(slots=True)
class Turn:
    """One turn. `held`: its end is not confirmed, so nothing of its answer may be heard or seen. `heard_before`: words
    of a turn that was given up for this one; `heard` begins with them. While hearing, `heard` is what a revision
    that was given up had understood, and no work bears `work` yet. `notes`: memories that the model has read, or
    shall; `foreseen`: the part of what is being said for which they were found. `typed`: nobody spoke for it."""

    work: Work
    phase: Phase
    aloud: bool
    held: bool = False
    heard: str = ""
    heard_before: str = ""
    said: list[str] = field(default_factory=list)
    cutter: ClauseCutter = field(default_factory=ClauseCutter)
    line: Timeline = field(default_factory=Timeline)
    notes: list[Memory] = field(default_factory=list)
    foreseeing: bool = False
    foreseen: str = ""
    typed: bool = False
    stable_tokens: int = 0
    usage: Generated | None = None
    model_over: bool = False
    failure: str = ""
    promised: Store | None = None
    progress_ns: int = 0

    @property
    def words(self) -> str:
        """Everything understood so far that still wants an answer."""
        return self.heard or self.heard_before

    def note(self, found: Sequence[Memory]) -> None:
        """These go into the prompt. Those that the model has read already stay where they were."""
        wanted = {memory.id for memory in found}
        kept = [memory for memory in self.notes if memory.id in wanted]
        known = {memory.id for memory in kept}
        self.notes = [*kept, *(memory for memory in found if memory.id not in known)]

    def listening(self, work: Work) -> Turn:
        """The turn that goes on being heard after work on it was given up."""
        return Turn(work, Phase.HEARING, True, heard=self.heard, heard_before=self.heard_before, notes=self.notes)

    def report(self, conversation: str, said: str, outcome: str, detail: str) -> TurnReport:
        """What is told of it when it is over."""
        usage = self.usage
        return TurnReport(
            conversation=conversation,
            turn=self.work.turn,
            heard=self.heard,
            said=said,
            outcome=outcome,
            detail=detail,
            first_audio_ms=stages.first_audio_ms(self.line),
            stages=stages.stages(self.line),
            prompt_tokens=usage.prompt_tokens if usage else 0,
            cached_tokens=usage.cached_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            memories=len(self.notes),
            stable_tokens=self.stable_tokens,
        )
