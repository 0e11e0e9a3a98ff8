"""What the core of tts asks its service to do. `utterance` is the number of a `speak` request."""

from __future__ import annotations

from dataclasses import dataclass

from ipc.errors import Code
from ipc.messages import Down, Spoken


@dataclass(frozen=True, slots=True)
class Synthesize:
    utterance: int
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class StopSynthesis:
    utterance: int


@dataclass(frozen=True, slots=True)
class Play:
    """`pcm` after `pause_ms` of silence."""

    conversation: str
    pause_ms: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class MarkEnd:
    conversation: str


@dataclass(frozen=True, slots=True)
class Flush:
    conversation: str


@dataclass(frozen=True, slots=True)
class Tell:
    utterance: int
    item: Down


@dataclass(frozen=True, slots=True)
class Finish:
    utterance: int
    result: Spoken


@dataclass(frozen=True, slots=True)
class Fail:
    utterance: int
    code: Code
    detail: str


@dataclass(frozen=True, slots=True)
class Supersede:
    """The request ends in `cancelled`: a newer one has its conversation."""

    utterance: int


@dataclass(frozen=True, slots=True)
class Wake:
    """`woken` is to be called at `at_ns`."""

    utterance: int
    at_ns: int


Effect = Synthesize | StopSynthesis | Play | MarkEnd | Flush | Tell | Finish | Fail | Supersede | Wake
