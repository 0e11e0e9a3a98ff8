"""What the core of tts asks its service to do. `utterance` is the number of a `speak` request."""

from __future__ import annotations

from msgspec import Struct

from ipc.errors import Code
from ipc.messages import Down, Spoken


class Synthesize(Struct, frozen=True):
    utterance: int
    index: int
    text: str


class StopSynthesis(Struct, frozen=True):
    utterance: int


class Play(Struct, frozen=True):
    """`pcm` after `pause_ms` of silence."""

    conversation: str
    pause_ms: int
    pcm: bytes


class MarkEnd(Struct, frozen=True):
    conversation: str


class Flush(Struct, frozen=True):
    conversation: str


class Tell(Struct, frozen=True):
    utterance: int
    item: Down


class Finish(Struct, frozen=True):
    utterance: int
    result: Spoken


class Fail(Struct, frozen=True):
    utterance: int
    code: Code
    detail: str


class Supersede(Struct, frozen=True):
    """The request ends in `cancelled`: a newer one has its conversation."""

    utterance: int


class Wake(Struct, frozen=True):
    """`woken` is to be called at `at_ns`."""

    utterance: int
    at_ns: int


Effect = Synthesize | StopSynthesis | Play | MarkEnd | Flush | Tell | Finish | Fail | Supersede | Wake
