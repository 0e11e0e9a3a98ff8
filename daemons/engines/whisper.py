"""The transcriber: Whisper on CTranslate2, with a context as short as the speech."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemons.catalogue import resolve
from daemons.config import Device
from daemons.engines.base import STT_RATE, EngineError, EngineInfo, Superseded, Transcript, never
from ipc.errors import Code, ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FRAMES_PER_S = 100  # of the spectrogram
FULL_CONTEXT_S = 30
SHORT_CONTEXT_S = 12  # with much less the decoder repeats itself (docs/adr/006-hearing.md)
_ROOM_S = 2  # silence that the decoder needs after the speech
_TOKENS_PER_S = 8  # fast speech has six
_MAX_TOKENS = 224  # half of the model's text context, as in the original
_PIECE_S = (20, 28)  # longer audio is cut at its quietest point between these

_CPU = "cpu int8"
_SMALL_BYTES = 200_000_000  # base has 145 MB; what a second copy would bring a larger model was not measured

_DOUBTFUL_SCORE = -0.7
_NO_SPEECH = 0.6
_NO_SPEECH_SCORE = -0.5
_ANNOTATION = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|[♩♪♫♬]+")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the decoder made of a piece. `score`: mean log probability of its tokens."""

    text: str
    score: float
    no_speech: float
    capped: bool

    @property
    def doubtful(self) -> bool:
        return self.capped or self.score < _DOUBTFUL_SCORE or self.no_speech > _NO_SPEECH or repeats(self.text)


class WhisperTranscriber:
    """A Transcriber. Raises EngineError(MODEL_MISSING | MODEL_DAMAGED | ENGINE_FAILED) when it cannot be made.

    Whisper pads all audio to 30 s, which on a CPU is nearly all of its time. Here speech gets its own length
    and 2 s, at least `context_s`; where the result is doubtful it is done again in full.
    """

    def __init__(
        self,
        model: str,
        device: Device = "auto",
        threads: int = 0,
        language: str = "en",
        context_s: int = SHORT_CONTEXT_S,
    ) -> None:
        path = resolve("stt", model, sums=True)
        self._model, on = _load(path, device, threads)
        self.info = EngineInfo("faster-whisper", model, on)
        self.second_readings = 0
        """How often a doubtful result was done again."""
        self._context_s = context_s
        self._prompt = self._start_tokens(language, model)
        self._decoder = _one_thread(path) if on == _CPU and threads != 1 and _is_small(path) else self._model.model
        self._said: dict[bytes, _Reading] = {}  # pieces of a long turn that were read before

    def transcribe(self, pcm: bytes, draft: bool = False, superseded: Superseded = never) -> Transcript:
        import numpy as np

        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
        readings = []
        while len(samples) > _PIECE_S[1] * STT_RATE:
            cut = _quietest(samples)
            readings.append(self._read_once(samples[:cut]))
            samples = samples[cut:]
        self._said = dict(list(self._said.items())[-3:])
        readings.append(self._read(samples, draft, superseded))
        text = " ".join(reading.text for reading in readings if reading.text)
        return Transcript(text, min(reading.no_speech for reading in readings))

    def _read_once(self, samples: NDArray[np.float32]) -> _Reading:
        key = samples.tobytes()
        if key not in self._said:
            self._said[key] = self._read(samples)
        return self._said[key]

    def _read(self, samples: NDArray[np.float32], draft: bool = False, superseded: Superseded = never) -> _Reading:
        """The words of up to 28 s, none if it is not speech. A draft is not read a second time."""
        length_s = len(samples) / STT_RATE
        if not length_s:
            return _Reading("", 0.0, 1.0, False)
        features = self._model.feature_extractor(samples)
        reading = self._decode(features, length_s, min(max(self._context_s, length_s + _ROOM_S), FULL_CONTEXT_S))
        if reading.doubtful and not draft:
            if superseded():
                return _Reading("", reading.score, reading.no_speech, reading.capped)
            self.second_readings += 1
            reading = self._decode(features, length_s, FULL_CONTEXT_S, annotations=True)
        text = spoken(reading.text)
        invented = reading.no_speech > _NO_SPEECH and (draft or reading.score < _NO_SPEECH_SCORE)
        if invented or (draft and reading.doubtful and repeats(text)):
            text = ""
        return _Reading(text, reading.score, reading.no_speech, reading.capped)

    def _decode(
        self, features: NDArray[np.float32], length_s: float, context_s: float, annotations: bool = False
    ) -> _Reading:
        """`annotations`: the model may say "(wind)", which is its honest word for what is not speech."""
        import numpy as np

        frames = math.ceil(context_s * _FRAMES_PER_S)
        padded = np.zeros((features.shape[0], frames), np.float32)
        given = features[:, :frames]
        padded[:, : given.shape[1]] = given
        room = min(_MAX_TOKENS, 16 + math.ceil(length_s * _TOKENS_PER_S))
        try:
            result = self._decoder.generate(
                self._model.encode(padded),
                [self._prompt],
                beam_size=1,
                max_length=len(self._prompt) + room,
                return_scores=True,
                return_no_speech_prob=True,
                suppress_tokens=[] if annotations else [-1],
            )[0]
        except ValueError as error:
            detail = f"the vocabulary of model {self.info.model!r} is damaged ({_first_line(error)}); fetch it again"
            raise EngineError(Code.MODEL_DAMAGED, detail) from None
        tokens = result.sequences_ids[0]
        score = result.scores[0] * len(tokens) / (len(tokens) + 1)  # the end token counts, too
        text = self._model.hf_tokenizer.decode(tokens).strip()
        return _Reading(text, score, result.no_speech_prob, len(tokens) >= room)

    def _start_tokens(self, language: str, model: str) -> list[int]:
        from faster_whisper.tokenizer import Tokenizer

        multilingual = self._model.model.is_multilingual
        if not multilingual and language != "en":
            raise ConfigError(f"model {model!r} knows English only, not {language!r}: set stt.language or stt.model")
        try:
            tokenizer = Tokenizer(self._model.hf_tokenizer, multilingual, "transcribe", language)
        except ValueError:
            raise ConfigError(
                f"Whisper knows no language {language!r}: set stt.language, for instance to 'en'"
            ) from None
        return [*tokenizer.sot_sequence, tokenizer.no_timestamps]


def spoken(text: str) -> str:
    """`text` without annotations ("[BLANK_AUDIO]", "(wind)", notes); empty if no word is left."""
    words = _SPACE.sub(" ", _ANNOTATION.sub(" ", text)).strip()
    return words if any(char.isalnum() for char in words) else ""


def repeats(text: str) -> bool:
    """Whether the same three words stand three times in a row, or one word six times: a decoder in a loop."""
    words = re.findall(r"[\w.']+", text.lower())
    runs = ((3, 3), (2, 4), (1, 6))
    return any(
        words[at : at + size * times] == words[at : at + size] * times
        for size, times in runs
        for at in range(len(words) - size * times + 1)
    )


def _quietest(samples: NDArray[np.float32]) -> int:
    """Where to cut: the middle of the quietest 200 ms of what may end a piece."""
    import numpy as np

    first, last = (bound * STT_RATE for bound in _PIECE_S)
    width = STT_RATE // 5
    energy = np.cumsum(samples[first:last].astype(np.float64) ** 2)
    return first + int(np.argmin(energy[width:] - energy[:-width])) + width // 2


def _load(path: Path, device: Device, threads: int) -> tuple[Any, str]:
    """The model, and where it runs. CUDA counts only when a first computation works there."""
    import ctranslate2

    ctranslate2.set_log_level(logging.CRITICAL)  # what matters of its log is raised
    if device == "cuda" or (device == "auto" and ctranslate2.get_cuda_device_count()):
        try:
            return _open(path, "cuda", "float16", threads), "cuda float16"
        except (RuntimeError, ValueError) as error:
            if device == "cuda":
                detail = f"CUDA does not work here ({_first_line(error)}); set stt.device to 'auto' or 'cpu'"
                raise ConfigError(detail) from None
    try:
        return _open(path, "cpu", "int8", threads), _CPU
    except Exception as error:  # the libraries raise plain Exception for a file that they cannot parse
        detail = f"{path} is not a whole CTranslate2 Whisper model ({_first_line(error)}); fetch it again"
        raise EngineError(Code.MODEL_DAMAGED, detail) from None


def _open(path: Path, device: str, compute_type: str, threads: int) -> Any:
    import numpy as np
    from faster_whisper import WhisperModel
    from threadpoolctl import threadpool_limits

    # The spectrogram is one small product of matrices. numpy's threads spin for 0.1 s after it, on the cores that the
    # transcript wants (docs/adr/012-two-cores.md).
    threadpool_limits(1, user_api="blas")
    if not (path / "tokenizer.json").is_file():  # it would be looked for on a hub
        raise FileNotFoundError("no tokenizer.json")
    model = WhisperModel(
        str(path), device=device, compute_type=compute_type, cpu_threads=threads, local_files_only=True
    )
    model.encode(np.zeros((model.model.n_mels, SHORT_CONTEXT_S * _FRAMES_PER_S), np.float32))
    return model


def _is_small(path: Path) -> bool:
    return (path / "model.bin").stat().st_size < _SMALL_BYTES


def _one_thread(path: Path) -> Any:
    """The model once more, to decode with: a token of a small one is so little work that a second thread costs more
    than it does (docs/adr/012-two-cores.md), and a model has one number of threads for all that it does."""
    from ctranslate2.models import Whisper

    return Whisper(str(path), device="cpu", compute_type="int8", intra_threads=1)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
