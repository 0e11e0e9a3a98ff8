"""The turn in hand: how far it has come, and all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from daemons.dialog.clauses import ClauseCutter
from daemons.dialog.effects import Work
from daemons.dialog.stages import Timeline
from ipc.messages import Generated


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
    that was given up had understood, and no work bears `work` yet."""

    work: Work
    phase: Phase
    aloud: bool
    held: bool = False
    heard: str = ""
    heard_before: str = ""
    said: list[str] = field(default_factory=list)
    cutter: ClauseCutter = field(default_factory=ClauseCutter)
    line: Timeline = field(default_factory=Timeline)
    memories: int = 0
    usage: Generated | None = None
    model_over: bool = False
    failure: str = ""
    progress_ns: int = 0

    @property
    def words(self) -> str:
        """Everything understood so far that still wants an answer."""
        return self.heard or self.heard_before
