"""The transcriber with its real model: on speech, on what is no speech, on a minute."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from daemons import catalogue
from daemons.engines import whisper
from daemons.engines.base import EngineError
from daemons.engines.whisper import FULL_CONTEXT_S, SHORT_CONTEXT_S, WhisperTranscriber, repeats, spoken
from ipc.audio import STT_RATE, silence, to_pcm
from ipc.errors import Code, ConfigError
from tests.support.speech import speak, words

SENTENCE = "Remember that the plumber comes on Tuesday at nine."
STORY = """My sister lives in a small house near the sea, and she has two dogs who swim every morning.
On Monday the baker brings fresh bread, and on Friday the market opens at seven. My brother works at the
railway station, where he sells tickets to people who travel to the mountains. Last winter it snowed for three
weeks, and nobody could leave the village. The children built a castle of ice behind the school. In the evening
we cooked soup with carrots and potatoes. The doctor came on foot, because her car did not start. When the sun
returned, the river rose and the old bridge was closed. Now there is a new one, made of steel, and the bus runs
again. I would like to visit my uncle in spring, when the cherry trees are white. He keeps bees, and his honey
is the best in the country. Please remind me to buy a train ticket, a warm coat and a present for him. He likes
books about ships, maps of old cities, and black tea with lemon. Tomorrow I have to call the bank, water the
plants, and pay the electricity bill before noon. After that there is time for a long walk along the coast, and
perhaps for a cup of coffee with an old friend who came back from Canada last week."""


@pytest.fixture(scope="module")
def transcriber() -> WhisperTranscriber:
    return WhisperTranscriber("tiny.en", "cpu", 2)


@pytest.mark.models
@pytest.mark.parametrize("text", [SENTENCE, "What is the capital of France?", "Yes.", "Stop."])
def test_speech(transcriber: WhisperTranscriber, text: str) -> None:
    heard = transcriber.transcribe(silence(300) + speak(text) + silence(100))
    assert set(words(text)) - {"nine"} <= set(words(heard.text))  # "nine" may be written as a figure
    assert heard.no_speech < 0.7


@pytest.mark.models
def test_a_draft(transcriber: WhisperTranscriber) -> None:
    cut = speak(SENTENCE)[: STT_RATE * 3]
    assert words(transcriber.transcribe(cut, draft=True).text)[:4] == words(SENTENCE)[:4]


def _noises() -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    rng, t = np.random.default_rng(1), np.arange(2 * STT_RATE) / STT_RATE
    brown = np.cumsum(rng.normal(0, 1, len(t)))
    brown -= np.convolve(brown, np.ones(800) / 800, "same")
    burst = np.zeros(len(t))
    burst[8000:12000] = rng.normal(0, 0.3, 4000) * np.exp(-np.arange(4000) / 800)
    return {
        "silence": np.zeros(len(t)),
        "hiss": rng.normal(0, 0.01, len(t)),
        "loud hiss": rng.normal(0, 0.2, len(t)),
        "wind": brown / np.abs(brown).max() * (0.5 + 0.5 * np.sin(4 * t)) * 0.5,
        "hum": 0.1 * np.sin(2 * np.pi * 50 * t) + 0.05 * np.sin(2 * np.pi * 150 * t),
        "beep": 0.3 * np.sin(2 * np.pi * 440 * t),
        "chord": np.sum([0.1 * np.sin(2 * np.pi * f * t) for f in (261, 329, 392, 523)], axis=0),
        "cough": burst,
        "clicks": np.where(np.arange(len(t)) % 4000 == 0, 0.9, 0.0),
    }


@pytest.mark.models
@pytest.mark.parametrize("noise", _noises())
@pytest.mark.parametrize("draft", [False, True])
def test_what_is_no_speech_is_no_text(transcriber: WhisperTranscriber, noise: str, draft: bool) -> None:
    assert transcriber.transcribe(to_pcm(_noises()[noise].astype(np.float32)), draft).text == ""


@pytest.mark.models
def test_no_audio_at_all(transcriber: WhisperTranscriber) -> None:
    assert transcriber.transcribe(b"").text == ""


@pytest.mark.models
def test_a_minute(transcriber: WhisperTranscriber, monkeypatch: pytest.MonkeyPatch) -> None:
    minute = speak(STORY)[: 60 * STT_RATE * 2]
    assert len(minute) == 60 * STT_RATE * 2
    heard = words(transcriber.transcribe(minute).text)
    same = difflib.SequenceMatcher(None, words(STORY)[: len(heard)], heard, autojunk=False).ratio()
    assert same > 0.85
    read: list[float] = []
    full = WhisperTranscriber._read

    def counted(self: WhisperTranscriber, samples: np.ndarray, *args: object) -> object:
        read.append(len(samples) / STT_RATE)
        return full(self, samples, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(WhisperTranscriber, "_read", counted)
    assert words(transcriber.transcribe(minute).text) == heard
    assert len(read) == 1, "the pieces before the last are not read again"


@pytest.mark.models
def test_what_is_doubtful_is_read_again_in_full(
    transcriber: WhisperTranscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[float] = []
    decode = WhisperTranscriber._decode

    def noted(self: WhisperTranscriber, *args: object, **more: object) -> object:
        contexts.append(args[2])  # type: ignore[arg-type]
        return decode(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(WhisperTranscriber, "_decode", noted)
    transcriber.transcribe(speak(SENTENCE))
    assert contexts == [SHORT_CONTEXT_S]
    monkeypatch.setattr(whisper, "_DOUBTFUL_SCORE", 0.0)
    transcriber.transcribe(speak(SENTENCE), draft=True)
    assert contexts == [SHORT_CONTEXT_S] * 2, "a draft is not"
    transcriber.transcribe(speak(SENTENCE))
    assert contexts == [SHORT_CONTEXT_S] * 3 + [FULL_CONTEXT_S]
    contexts.clear()
    assert transcriber.transcribe(speak(SENTENCE), superseded=lambda: True).text == "", "nobody waits for it any more"
    assert contexts == [SHORT_CONTEXT_S]


@pytest.mark.parametrize(
    ("text", "words_left"),
    [
        ("[BLANK_AUDIO]", ""),
        ("(wind blowing)", ""),
        ("*coughs* [Music] ♪♪", ""),
        (". . .", ""),
        ("(laughs) Where is it? [door closes]", "Where is it?"),
        ("It costs 5 pounds.", "It costs 5 pounds."),
    ],
)
def test_annotations_are_not_spoken(text: str, words_left: str) -> None:
    assert spoken(text) == words_left


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("I am here. I am here. I am here.", True),
        ("Beep beep beep beep beep beep", True),
        ("no way no way, no way no way", True),
        ("No, no, no. I said nine nine nine.", False),
        ("one two three four five six seven eight nine ten", False),
        ("", False),
    ],
)
def test_a_decoder_in_a_loop(text: str, loops: bool) -> None:
    assert repeats(text) is loops


# --- models that cannot be used -------------------------------------------------------------------


def unusable(model: str, **settings: str) -> EngineError:
    with pytest.raises(EngineError) as caught:
        WhisperTranscriber(model, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_model_that_is_not_here() -> None:
    assert unusable("small.en").code is Code.MODEL_MISSING


@pytest.mark.models
@pytest.mark.parametrize("broken", ["model.bin", "config.json", "tokenizer.json", "no tokenizer"])
def test_a_damaged_model(tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(catalogue.resolve("stt", "tiny.en"), folder)
    if broken == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    else:
        whole = (folder / broken).read_bytes()
        (folder / broken).write_bytes(whole[: len(whole) // 2])
    assert unusable(str(folder)).code is Code.MODEL_DAMAGED


@pytest.mark.models
def test_a_damaged_vocabulary(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(catalogue.resolve("stt", "tiny.en"), folder)
    (folder / "vocabulary.txt").write_text((folder / "vocabulary.txt").read_text().replace("<|startof", "<|endof"))
    with pytest.raises(EngineError, match=r"the vocabulary of model .* is damaged") as caught:
        WhisperTranscriber(str(folder)).transcribe(silence(1000))
    assert caught.value.code is Code.MODEL_DAMAGED


@pytest.mark.models
def test_a_language_that_the_model_does_not_know() -> None:
    with pytest.raises(ConfigError, match="knows English only"):
        WhisperTranscriber("tiny.en", language="de")


@pytest.mark.models
def test_a_language_that_nobody_knows(transcriber: WhisperTranscriber, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = transcriber._model.hf_tokenizer
    many = SimpleNamespace(model=SimpleNamespace(is_multilingual=True), hf_tokenizer=tokenizer)
    monkeypatch.setattr(whisper, "_load", lambda *_: (many, "cpu int8"))
    with pytest.raises(ConfigError, match="no language 'xx'"):
        WhisperTranscriber("tiny.en", language="xx")


# --- devices --------------------------------------------------------------------------------------


@pytest.mark.models
def test_the_processor_is_named(transcriber: WhisperTranscriber) -> None:
    assert (transcriber.info.engine, transcriber.info.model) == ("faster-whisper", "tiny.en")
    assert transcriber.info.device == "cpu int8"


@pytest.mark.models
def test_numpy_keeps_no_core_busy(transcriber: WhisperTranscriber) -> None:
    """Its threads would spin on beside each transcript, after the product of matrices that makes the spectrogram."""
    assert {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"} == {1}


@pytest.mark.models
@pytest.mark.parametrize(
    ("threads", "limit", "once_more"), [(2, 200_000_000, True), (1, 200_000_000, False), (2, 1, False)]
)
def test_a_small_model_decodes_with_one_thread(
    threads: int, limit: int, once_more: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whisper, "_SMALL_BYTES", limit)
    made = WhisperTranscriber("tiny.en", "cpu", threads)
    assert (made._decoder is not made._model.model) == once_more
    assert "capital" in words(made.transcribe(speak("What is the capital of France?")).text)


@pytest.mark.models
def test_cuda_that_does_not_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a card, but without CUDA's libraries."""
    real = whisper._open

    def without_libraries(path: Path, device: str, compute_type: str, threads: int) -> object:
        if device == "cuda":
            raise RuntimeError("Library libcublas.so.12 is not found or cannot be loaded")
        return real(path, device, compute_type, threads)

    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 1)
    monkeypatch.setattr(whisper, "_open", without_libraries)
    assert WhisperTranscriber("tiny.en", "auto").info.device == "cpu int8"
    with pytest.raises(ConfigError, match=r"libcublas.so.12.*stt.device"):
        WhisperTranscriber("tiny.en", device="cuda")


@pytest.mark.models
def test_cuda_that_computes_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = whisper._open
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 1)
    monkeypatch.setattr(whisper, "_open", lambda path, device, kind, threads: real(path, "cpu", "int8", threads))
    assert WhisperTranscriber("tiny.en", "auto").info.device == "cuda float16"
