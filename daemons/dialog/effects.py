"""What the core asks of the world. The service carries these out and tells the core what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from ipc.messages import ChatMessage, TurnReport


class Work(NamedTuple):
    """What a result must bear to be still wanted: the turn and the revision that it was started for, and how often
    that was tried before."""

    turn: bytes
    revision: int
    attempt: int = 0


class StartRecall(Struct, frozen=True):
    work: Work
    text: str


class StartModel(Struct, frozen=True):
    """`stable_tokens`: so many at the start of the prompt the model has read before; 0: not known."""

    work: Work
    messages: Sequence[ChatMessage]
    stable_tokens: int


class Foresee(Struct, frozen=True):
    """What is being said is known in part: look already for memories that matter to it."""

    work: Work
    text: str


class ReadPrompt(Struct, frozen=True):
    """Have the model read this, so that what comes finds it in the cache. `stable`: every prompt to come begins so."""

    messages: Sequence[ChatMessage]
    stable: bool


class SpeakClause(Struct, frozen=True):
    """The first one of a work opens the utterance; with `held` nothing of it sounds before its Release."""

    work: Work
    text: str
    held: bool = False


class RestModel(Struct, frozen=True):
    """The model stands still for at most `ms`: what it has given keeps the voice busy. 0: it goes on."""

    work: Work
    ms: int


class Release(Struct, frozen=True):
    """The turn is confirmed: what was held may sound."""

    work: Work


class EndSpeech(Struct, frozen=True):
    work: Work


class CancelWork(Struct, frozen=True):
    """Recall, model and speech of this work stop now; nothing of it sounds any more."""

    work: Work


class CancelModel(Struct, frozen=True):
    """Only the model stops; what was said goes on sounding."""

    work: Work


class Mute(Struct, frozen=True):
    """The microphone hears nothing captured from `from_ns` on; `lease_ms` 0: it hears again from then on."""

    turn: bytes
    from_ns: int
    lease_ms: int


class Store(Struct, frozen=True):
    """Promised: what was heard goes to the memory, once the turn is over (docs/adr/013-remembering.md)."""

    turn: bytes
    heard: str


class Withdraw(Struct, frozen=True):
    """The answer that this was promised with is revoked: its words belong to what follows, and are promised with it."""

    promise: Store


class TellHeard(Struct, frozen=True):
    turn: bytes
    text: str
    final: bool


class TellSaid(Struct, frozen=True):
    turn: bytes
    text: str


class Report(Struct, frozen=True):
    """The turn is over: its one outcome."""

    report: TurnReport


Effect = (
    StartRecall
    | StartModel
    | Foresee
    | ReadPrompt
    | SpeakClause
    | RestModel
    | Release
    | EndSpeech
    | CancelWork
    | CancelModel
    | Mute
    | Store
    | Withdraw
    | TellHeard
    | TellSaid
    | Report
)
