"""What a daemon asks of its engine. Real engines and the fakes in fakes.py meet the same contracts.

An engine raises EngineError for everything that can be expected to go wrong, and ConfigError when it cannot be
made as it is configured. Nothing here imports a
machine-learning or audio package; the engines do, when they are made.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ipc.audio import FRAME_BYTES as FRAME_BYTES
from ipc.audio import FRAME_MS as FRAME_MS
from ipc.audio import STT_RATE as STT_RATE
from ipc.errors import CallError, Code


class EngineError(CallError):
    """An engine cannot do what it was asked. `code` says why, the text what to do about it."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What `timmy status` shows: e.g. ("faster-whisper", "tiny.en", "cpu int8")."""

    engine: str
    model: str
    device: str


@dataclass(frozen=True, slots=True)
class Frame:
    """FRAME_BYTES of audio. `t_ns` is the capture time of its first sample (monotonic)."""

    t_ns: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class Transcript:
    """`text` is empty when nothing was said: noise, music and invented text on silence are removed."""

    text: str
    no_speech: float  # 0..1, the model's own doubt


Superseded = Callable[[], bool]
"""Whether more has been said than what is being transcribed."""


def never() -> bool:
    return False


class Transcriber(Protocol):
    info: EngineInfo

    def transcribe(self, pcm: bytes, draft: bool = False, superseded: Superseded = never) -> Transcript:
        """Blocking; called from one worker thread. `pcm`: STT_RATE, 16-bit mono, any length up to 60 s. A
        draft may be wrong or empty where a second look would help: it is for text that is soon replaced.
        Where something else would need that look and is `superseded`, it may be empty."""


class VoiceDetector(Protocol):
    def is_speech(self, pcm: bytes) -> bool:
        """Whether one frame of 10, 20 or 30 ms at STT_RATE is voiced."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`messages` as (role, content), role one of system, user, assistant. `max_tokens` 0 only reads it."""

    messages: Sequence[tuple[str, str]]
    max_tokens: int
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Last item of a stream of tokens. `finish`: "stop" or "length"."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish: str


class LanguageModel(Protocol):
    info: EngineInfo

    def generate(self, prompt: Prompt) -> AsyncGenerator[str | Usage, None]:
        """Pieces of text as they come, then exactly one Usage. `aclose()` on the iterator, or cancelling
        the task that awaits it, stops the model within 100 ms. Called from the event loop, one at a time."""

    def rest(self, seconds: float) -> None:
        """What is being generated stands still that long, so that others have the processor; 0: it goes on. A model
        that computes elsewhere need not heed it."""

    async def close(self) -> None: ...


class Embedder(Protocol):
    info: EngineInfo
    dimensions: int

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Blocking; unit vectors, one a text."""


class Classifier(Protocol):
    info: EngineInfo

    def importance(self, text: str) -> int:
        """Blocking; 0 (small talk, a question) to 5 (must not be forgotten). 2 and more is worth keeping."""


class Synthesizer(Protocol):
    info: EngineInfo
    sample_rate: int

    async def load(self) -> None:
        """Makes it ready to speak at once. Raises EngineError(MODEL_DAMAGED | ENGINE_FAILED)."""

    def synthesize(self, text: str) -> AsyncGenerator[bytes, None]:
        """PCM, 16-bit mono at `sample_rate`, in pieces as they are made; an empty one where a phrase or sentence ends
        and another may follow; none for text that holds nothing to read aloud. `aclose()` or cancelling stops it.
        Raises EngineError(ENGINE_FAILED)."""

    async def close(self) -> None: ...


class AudioIn(Protocol):
    """A microphone. `start` opens it once; `on_frame` and `on_lost` are called from any thread."""

    name: str

    def start(self, on_frame: Callable[[Frame], None], on_lost: Callable[[EngineError], None]) -> None:
        """Raises EngineError(DEVICE_MISSING | DEVICE_BUSY)."""

    def close(self) -> None: ...


class AudioOut(Protocol):
    """A speaker, opened once and kept. Silence goes out while nothing is queued. An utterance is what is
    written until `mark_end` or `flush`."""

    name: str
    sample_rate: int

    def start(self, on_lost: Callable[[EngineError], None]) -> None:
        """Raises EngineError(DEVICE_MISSING | DEVICE_BUSY)."""

    def write(self, pcm: bytes) -> None:
        """Queues audio, 16-bit mono; never blocks."""

    def mark_end(self) -> None:
        """The utterance is complete: `on_drained` is due when its last sample has sounded."""

    def flush(self) -> None:
        """Forgets what has not sounded; silent within 100 ms. Once it returns, no callback comes of what was
        written before."""

    on_started: Callable[[int], None]
    """Called from any thread with the playout time (ns) of an utterance's first sample, as soon as it is known."""

    on_drained: Callable[[int], None]
    """Called from any thread when an utterance's last sample has sounded, with the time of its end (ns)."""

    def close(self) -> None: ...


# A reason to raise that every engine shares.
def model_missing(name: str, hint: str) -> EngineError:
    return EngineError(Code.MODEL_MISSING, f"model {name!r} is not here: {hint}")
