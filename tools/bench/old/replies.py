"""What the services answer. Moments are monotonic ns, of one clock for all processes of the host."""

from __future__ import annotations

import msgspec


class Failure(msgspec.Struct, frozen=True):
    error: str


class Done(msgspec.Struct, frozen=True):
    """It was done."""


class Text(msgspec.Struct, frozen=True):
    """Words on their way from one service to the next."""

    text: str


class Spoken(msgspec.Struct, frozen=True):
    """From text to speech, when the answer has sounded. In the order of the moments: the listener was paused over
    HTTP, the fixed wait was over, the whole text synthesized, the output open, and the first sample due at it (0: there
    was nothing to pronounce)."""

    received_ns: int
    paused_ns: int
    waited_ns: int
    synthesized_ns: int
    opened_ns: int
    first_sample_ns: int


class Processed(msgspec.Struct, frozen=True):
    """From the preprocessor. `stored_ns`: what was said is on the disk; `recalled_ns`: the memories are there;
    `sent_ns`: the whole answer goes to text to speech. `spoken` is None when there was no word to say."""

    received_ns: int
    classified_ns: int
    stored_ns: int
    recalled_ns: int
    answered_ns: int
    sent_ns: int
    said: str
    memories: list[str]
    prompt_tokens: int
    cached_tokens: int
    spoken: Spoken | None


class Listened(msgspec.Struct, frozen=True):
    """From speech to text. `last_voiced_ns`: end of the last voiced frame; `endpoint_ns`: the silence after it was
    long enough; `sent_ns`: the text goes to the preprocessor. `processed` is None when no word was heard."""

    last_voiced_ns: int
    endpoint_ns: int
    transcribed_ns: int
    sent_ns: int
    heard: str
    processed: Processed | None
