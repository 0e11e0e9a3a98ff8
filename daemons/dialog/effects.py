"""What the core asks of the world. The service carries these out and tells the core what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ipc.messages import ChatMessage, TurnReport


class Work(NamedTuple):
    """What a result must bear to be still wanted: the turn and the revision that it was started for, and how often
    that was tried before."""

    turn: bytes
    revision: int
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class StartRecall:
    work: Work
    text: str


@dataclass(frozen=True, slots=True)
class StartModel:
    """`stable_tokens`: so many at the start of the prompt the model has read before; 0: not known."""

    work: Work
    messages: Sequence[ChatMessage]
    stable_tokens: int


@dataclass(frozen=True, slots=True)
class Foresee:
    """What is being said is known in part: look already for memories that matter to it."""

    work: Work
    text: str


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """Have the model read this, so that what comes finds it in the cache. `stable`: every prompt to come begins so."""

    messages: Sequence[ChatMessage]
    stable: bool


@dataclass(frozen=True, slots=True)
class SpeakClause:
    """The first one of a work opens the utterance; with `held` nothing of it sounds before its Release."""

    work: Work
    text: str
    held: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """The turn is confirmed: what was held may sound."""

    work: Work


@dataclass(frozen=True, slots=True)
class EndSpeech:
    work: Work


@dataclass(frozen=True, slots=True)
class CancelWork:
    """Recall, model and speech of this work stop now; nothing of it sounds any more."""

    work: Work


@dataclass(frozen=True, slots=True)
class CancelModel:
    """Only the model stops; what was said goes on sounding."""

    work: Work


@dataclass(frozen=True, slots=True)
class Mute:
    """The microphone hears nothing captured from `from_ns` on; `lease_ms` 0: it hears again from then on."""

    turn: bytes
    from_ns: int
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Store:
    """Offer this to the memory; not before the answer has sounded."""

    turn: bytes
    heard: str


@dataclass(frozen=True, slots=True)
class TellHeard:
    turn: bytes
    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class TellSaid:
    turn: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """The turn is over: its one outcome."""

    report: TurnReport


Effect = (
    StartRecall
    | StartModel
    | Foresee
    | ReadPrompt
    | SpeakClause
    | Release
    | EndSpeech
    | CancelWork
    | CancelModel
    | Mute
    | Store
    | TellHeard
    | TellSaid
    | Report
)
