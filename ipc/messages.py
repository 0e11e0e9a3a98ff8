"""Every message of the wire, defined once: frozen structs with bounds on every field.

A message is the `body` of a header; its class name in snake case is the header's `type`, and its `KIND`
says what it may do to a request (see session.py). Old readers ignore fields they do not know; a new field
therefore needs a default. Times (`*_ns`) are time.monotonic_ns() of the host that sent them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from ipc import limits
from ipc.errors import Code


class Kind(StrEnum):
    """What a message does to its request."""

    REQUEST = "request"  # client: opens
    UP = "up"  # client: one item of the upward stream, costs one credit
    END = "end"  # client: the upward stream is complete
    CANCEL = "cancel"  # client: the result is no longer wanted
    DOWN = "down"  # server: one item of the downward stream, costs one credit
    CREDIT = "credit"  # either: the receiver allows more items
    DONE = "done"  # server, terminal: carried out
    ERROR = "error"  # server, terminal: not carried out
    CANCELLED = "cancelled"  # server, terminal: given up as asked


Rid = Annotated[bytes, Meta(min_length=limits.RID_BYTES, max_length=limits.RID_BYTES)]
Text = Annotated[str, Meta(max_length=limits.TEXT_MAX_CHARS)]
Name = Annotated[str, Meta(max_length=limits.NAME_MAX_CHARS)]
ModelName = Annotated[str, Meta(max_length=limits.PATH_MAX_CHARS)]
Conversation = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9_.-]{0,63}\Z", max_length=limits.NAME_MAX_CHARS)]
Count = Annotated[int, Meta(ge=0, le=limits.SEQ_MAX)]
Nanos = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Millis = Annotated[float, Meta(ge=-1e9, le=1e9)]
Credit = Annotated[int, Meta(ge=1, le=limits.CREDIT_MAX)]

FEATURES = ["credit", "epoch", "payload", "record", "rest"]
"""What this code knows to do, for `hello` and `welcome`."""

HOME: Conversation = "home"
"""The conversation of the machine's own microphone and speaker."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all messages. `CREDIT` is what each side may send before the first grant of a request. `UPKEEP`: it
    is about the daemon and its connection, no part of anybody's turn, so no trace tells of it."""

    KIND: ClassVar[Kind]
    CREDIT: ClassVar[int] = limits.CREDIT_EVENTS
    UPKEEP: ClassVar[bool] = False

    @classmethod
    def type_name(cls) -> str:
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class Request(Body, frozen=True):
    KIND = Kind.REQUEST


class Up(Body, frozen=True):
    KIND = Kind.UP


class Down(Body, frozen=True):
    KIND = Kind.DOWN


class Result(Body, frozen=True):
    KIND = Kind.DONE


# --- every daemon ---------------------------------------------------------------------------------


class Hello(Request, frozen=True):
    """First on every connection."""

    UPKEEP = True
    name: Name
    proto_min: Annotated[int, Meta(ge=1, le=255)]
    proto_max: Annotated[int, Meta(ge=1, le=255)]
    features: Annotated[list[Name], Meta(max_length=limits.FEATURES_MAX)]
    boot_id: Rid
    pid: Count


class Welcome(Result, frozen=True):
    """Answers `hello`. A `boot_id` other than last time: the daemon restarted."""

    daemon: Name
    proto: Annotated[int, Meta(ge=1, le=255)]
    features: Annotated[list[Name], Meta(max_length=limits.FEATURES_MAX)]
    boot_id: Rid
    pid: Count
    guest: Name = ""  # over a network: the name of the caller's key


class Ping(Request, frozen=True):
    """Answered by the work loop, so it proves more than the process."""

    UPKEEP = True


class Pong(Result, frozen=True):
    t_ns: Nanos


class Status(Request, frozen=True):
    """Asks what the daemon is doing."""

    UPKEEP = True


class StatusReport(Result, frozen=True):
    daemon: Name
    state: Annotated[str, Meta(pattern=r"\A(loading|ready|degraded|stopping)\Z")]
    detail: Text
    engine: Name
    model: ModelName
    device: Name
    pid: Count
    uptime_s: Annotated[float, Meta(ge=0, le=1e12)]
    rss_bytes: Count
    requests_open: Count
    last_error: Text


class Record(Request, frozen=True):
    """Asks for everything that comes to the daemon and leaves it, words and sound, in `passed` items until `end`. What
    belongs to a `record` is left out."""

    UPKEEP = True


class Passed(Down, frozen=True):
    """The payload is one frame of a message. `under_way`: a request that had come before the recording began."""

    t_ns: Nanos  # when the message came or left
    peer: Count  # number of the connection in the life of the daemon
    caller: Name  # as its `hello` named it
    incoming: bool  # from the caller to the daemon
    more: bool  # the message's next frame follows
    under_way: bool = False


class Done(Result, frozen=True):
    """Carried out; there is nothing to tell."""


class Error(Body, frozen=True):
    KIND = Kind.ERROR
    code: Code
    detail: Text


class Cancel(Body, frozen=True):
    KIND = Kind.CANCEL
    reason: Name


class Cancelled(Body, frozen=True):
    KIND = Kind.CANCELLED
    reason: Name


class CreditGrant(Body, frozen=True):
    KIND = Kind.CREDIT
    n: Credit


class End(Body, frozen=True):
    KIND = Kind.END


# --- stt ------------------------------------------------------------------------------------------


class Listen(Request, frozen=True):
    """dialog subscribes to what is heard in all conversations. Lives as long as the peer."""


class SpeechStarted(Down, frozen=True):
    conversation: Conversation
    turn: Rid
    t_ns: Nanos  # capture time of the first voiced sample


class Partial(Down, frozen=True):
    """What has been understood so far; replaced by the next one."""

    conversation: Conversation
    turn: Rid
    revision: Count
    text: Text


class TurnCandidate(Down, frozen=True):
    """A short silence: the turn may be over. `text` is all of it."""

    conversation: Conversation
    turn: Rid
    revision: Count
    text: Text
    last_voiced_ns: Nanos  # capture time of the last voiced sample
    endpoint_ns: Nanos  # when the silence was long enough to be a candidate
    transcript_ns: Nanos  # when `text` was complete


class TurnResumed(Down, frozen=True):
    """The speaker went on: `revision` is void, its words come again in a later one."""

    conversation: Conversation
    turn: Rid
    revision: Count
    t_ns: Nanos  # capture time of the first voiced sample of what follows


class TurnFinal(Down, frozen=True):
    """The turn is over, until it is resumed before its answer sounds."""

    conversation: Conversation
    turn: Rid
    revision: Count
    text: Text
    last_voiced_ns: Nanos
    endpoint_ns: Nanos  # when the silence confirmed the end of the turn
    transcript_ns: Nanos  # when `text` was complete
    sent_ns: Nanos


class TurnDropped(Down, frozen=True):
    """The turn held no words (noise, a cough): it ends here, without an answer."""

    conversation: Conversation
    turn: Rid
    reason: Name


class Muted(Down, frozen=True):
    """A mute ended. `dropped_ms` of speech was not listened to."""

    conversation: Conversation
    dropped_ms: Count


class InputLost(Down, frozen=True):
    """A microphone went away (or came back: `detail` is empty)."""

    conversation: Conversation
    detail: Text


class Feed(Request, frozen=True):
    """A microphone over the wire: `audio` items follow, 16 kHz 16-bit mono."""

    CREDIT = limits.CREDIT_AUDIO
    conversation: Conversation


class Audio(Up, frozen=True):
    """The payload is PCM: signed 16-bit little-endian mono, at most PAYLOAD_MAX_BYTES."""

    t_ns: Nanos  # capture time of the first sample


class Fed(Result, frozen=True):
    frames: Count
    dropped_ms: Count


class Mute(Request, frozen=True):
    """Nothing captured at or after `from_ns` is heard until the lease ends. `lease_ms` 0 ends the mute: what
    is captured at or after `from_ns` is heard again. A mute also closes the turn: what is said later starts a
    new one. It ends soon after the connection that asked for it."""

    conversation: Conversation
    from_ns: Nanos
    lease_ms: Annotated[int, Meta(ge=0, le=limits.LEASE_MAX_MS)]


# --- llm ------------------------------------------------------------------------------------------


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: Annotated[str, Meta(pattern=r"\A(system|user|assistant)\Z")]
    content: Text


class Generate(Request, frozen=True):
    """`max_tokens` 0 reads the prompt into the cache and generates nothing."""

    messages: Annotated[list[ChatMessage], Meta(max_length=limits.MESSAGES_MAX)]
    max_tokens: Annotated[int, Meta(ge=0, le=4096)]
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0


class Rest(Up, frozen=True):
    """The model computes nothing for so long: another daemon needs the processor more. 0: it goes on."""

    ms: Annotated[int, Meta(ge=0, le=limits.REST_MAX_MS)]


class Token(Down, frozen=True):
    text: Text
    t_ns: Nanos  # when the model gave it


class Generated(Result, frozen=True):
    prompt_tokens: Count
    cached_tokens: Count
    completion_tokens: Count
    finish: Annotated[str, Meta(pattern=r"\A(stop|length)\Z")]
    received_ns: Nanos
    first_token_ns: Nanos  # 0: no token


# --- memory ---------------------------------------------------------------------------------------


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    id: Count
    text: Text
    importance: Annotated[int, Meta(ge=0, le=5)]
    created_s: Annotated[float, Meta(ge=0, le=1e12)]  # Unix time
    score: Annotated[float, Meta(ge=-1, le=1)] = 0.0  # relevance to the question; 0 in a plain list


Memories = Annotated[list[Memory], Meta(max_length=limits.LIST_MAX_ITEMS)]


class Recall(Request, frozen=True):
    """Only what is relevant to `text` comes back, best first."""

    text: Text
    limit: Annotated[int, Meta(ge=1, le=50)]


class Recalled(Result, frozen=True):
    memories: Memories
    received_ns: Nanos
    finished_ns: Nanos


class Remember(Request, frozen=True):
    """Offers what a person said. It is kept when it is important enough, or when `always`."""

    heard: Text
    always: bool = False


class Remembered(Result, frozen=True):
    kept: bool
    id: Count  # 0 when not kept
    importance: Annotated[int, Meta(ge=0, le=5)]
    text: Text  # what was stored


class ListMemories(Request, frozen=True):
    after_id: Count = 0
    limit: Annotated[int, Meta(ge=1, le=limits.LIST_MAX_ITEMS)] = 50


class MemoryPage(Result, frozen=True):
    memories: Memories
    total: Count


class Forget(Request, frozen=True):
    ids: Annotated[list[Count], Meta(max_length=limits.LIST_MAX_ITEMS)]


class Forgotten(Result, frozen=True):
    count: Count


# --- tts ------------------------------------------------------------------------------------------


class Speak(Request, frozen=True):
    """`clause` items follow, then `end`. Audio goes to the conversation's speaker, and is held until
    `release` when `hold`."""

    conversation: Conversation
    hold: bool = False


class Clause(Up, frozen=True):
    text: Text


class Release(Up, frozen=True):
    """The held audio may sound."""


class ClauseReady(Down, frozen=True):
    index: Count
    received_ns: Nanos
    started_ns: Nanos  # synthesis began
    ready_ns: Nanos  # first audio made


class PlaybackStarted(Down, frozen=True):
    t_ns: Nanos  # the first sample at the device


class PlaybackDrained(Down, frozen=True):
    t_ns: Nanos  # the last sample at the device


class Spoken(Result, frozen=True):
    clauses: Count
    audio_ms: Count


class Attach(Request, frozen=True):
    """A speaker over the wire: the conversation's answers come as `sound` items until cancelled."""

    CREDIT = limits.CREDIT_AUDIO
    conversation: Conversation


class Sound(Down, frozen=True):
    """The payload is PCM: signed 16-bit little-endian mono at `sample_rate`."""

    turn: Rid
    t_ns: Nanos  # playout time of the first sample
    sample_rate: Annotated[int, Meta(ge=8000, le=48000)]
    last: bool = False  # the answer ends with it, what is due later is void; the payload may be empty


# --- dialog ---------------------------------------------------------------------------------------


class Stages(msgspec.Struct, frozen=True, kw_only=True):
    """Where a turn's time went, in ms; the sum is `first_audio_ms` of the report."""

    endpoint: Millis
    stt: Millis
    recall: Millis
    llm_first_token: Millis
    llm_first_clause: Millis
    tts_first_audio: Millis
    ipc: Millis
    unaccounted: Millis


class Ask(Request, frozen=True):
    """A typed question; `delta` items, then `answered`. `speak`: also aloud in the conversation."""

    conversation: Conversation
    text: Text
    speak: bool = False


class Delta(Down, frozen=True):
    text: Text  # the answer is all of them joined as they are


class Say(Request, frozen=True):
    """Speaks `text` as it is."""

    conversation: Conversation
    text: Text


class TurnReport(Down, frozen=True):
    """One finished turn. `outcome`: answered, failed (an apology was given), dropped, cancelled."""

    conversation: Conversation
    turn: Rid
    heard: Text
    said: Text
    outcome: Annotated[str, Meta(pattern=r"\A(answered|failed|dropped|cancelled)\Z")]
    detail: Text
    first_audio_ms: Millis | None
    stages: Stages | None
    prompt_tokens: Count
    cached_tokens: Count
    completion_tokens: Count
    memories: Count
    stable_tokens: Count = 0  # the start of the prompt, which the model had read before; 0: not known


class Answered(Result, frozen=True):
    said: Text
    prompt_tokens: Count
    cached_tokens: Count
    completion_tokens: Count
    memories: Count


class Follow(Request, frozen=True):
    """What happens in a conversation: `turn_heard`, `turn_said`, `turn_report`, `notice` items."""

    conversation: Conversation


class TurnHeard(Down, frozen=True):
    turn: Rid
    text: Text
    final: bool


class TurnSaid(Down, frozen=True):
    turn: Rid
    text: Text  # the next clause


class Notice(Down, frozen=True):
    """Something a person should know: dropped speech, a daemon that went away."""

    text: Text


def _leaves(cls: type[Body]) -> list[type[Body]]:
    own = [cls] if hasattr(cls, "KIND") and cls not in (Request, Up, Down, Result) else []
    return own + [leaf for sub in cls.__subclasses__() for leaf in _leaves(sub)]


REGISTRY: dict[str, type[Body]] = {cls.type_name(): cls for cls in _leaves(Body)}
"""Header `type` to class: every message there is."""
