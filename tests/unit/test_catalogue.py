"""Which model is which file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemons import catalogue, config
from daemons.catalogue import EMBEDDED, MANIFEST, MODELS, ModelKind, resolve
from daemons.engines.base import EngineError
from ipc.errors import Code


def _sparse(path: Path, size: int) -> None:
    """A file that claims its size and takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.truncate(size)


def _install(name: str, cache: Path) -> Path:
    folder = cache / "models" / name
    for file in MODELS[name].files:
        _sparse(folder / file.name, file.size)
    return folder


def _fault(kind: ModelKind, name: str, cache: Path) -> tuple[Code, str]:
    with pytest.raises(EngineError) as caught:
        resolve(kind, name, cache)
    assert "\n" not in str(caught.value)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("stt", "tiny.en", "models/tiny.en"),
        ("stt", "base", "models/base"),
        ("llm", "smollm2-135m", "models/smollm2-135m/SmolLM2-135M-Instruct.Q8_0.gguf"),
        ("tts", "joe", "models/joe/en_US-joe-medium.onnx"),
        ("embedding", "minilm", "models/minilm"),
    ],
)
def test_models_of_the_catalogue(tmp_path: Path, kind: ModelKind, name: str, path: str) -> None:
    code, text = _fault(kind, name, tmp_path)
    assert code is Code.MODEL_MISSING
    assert text.endswith(f"timmy models pull {name}")
    _install(name, tmp_path)
    assert resolve(kind, name, tmp_path) == tmp_path / path


def test_a_partial_model(tmp_path: Path) -> None:
    folder = _install("tiny.en", tmp_path)
    _sparse(folder / "model.bin", 1000)
    assert _fault("stt", "tiny.en", tmp_path) == (
        Code.MODEL_DAMAGED,
        "model 'tiny.en': model.bin has 1000 of 75537502 bytes; fetch it again: timmy models pull tiny.en",
    )
    (folder / "model.bin").unlink()
    code, text = _fault("stt", "tiny.en", tmp_path)
    assert (code, "model.bin is missing" in text) == (Code.MODEL_DAMAGED, True)


def test_sums_are_checked_when_asked(tmp_path: Path) -> None:
    _install("joe", tmp_path)
    assert catalogue.faults("joe", tmp_path) == []
    found = catalogue.faults("joe", tmp_path, sums=True)
    assert found == [f"{file.name} is not what was published (SHA-256)" for file in MODELS["joe"].files]


@pytest.mark.parametrize(("kind", "name"), [(MODELS[name].kind, name) for name in EMBEDDED])
def test_a_damaged_model_of_the_right_size(tmp_path: Path, kind: ModelKind, name: str) -> None:
    _install(name, tmp_path)
    with pytest.raises(EngineError, match=rf"SHA-256\); fetch it again: timmy models pull {name}$") as caught:
        resolve(kind, name, tmp_path, sums=True)
    assert caught.value.code is Code.MODEL_DAMAGED


@pytest.mark.models
@pytest.mark.parametrize("name", EMBEDDED)
def test_the_fetched_models_are_what_the_catalogue_says(name: str) -> None:
    assert catalogue.faults(name, sums=True) == []


def test_the_default_configuration_needs_the_embedded_models() -> None:
    default = config.Config()
    assert (default.stt.model, default.llm.model, default.tts.voice, default.memory.embedder) == EMBEDDED


def test_every_model_is_complete() -> None:
    for name, model in MODELS.items():
        assert name == model.name
        assert model.size == sum(file.size for file in model.files)
        assert not model.main or model.main in [file.name for file in model.files]
        for file in model.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert file.size > 0
            assert (file.source or file).parts


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = _install("tiny.en", tmp_path)
    assert resolve("stt", str(folder), tmp_path / "elsewhere") == folder
    voice = _install("joe", tmp_path) / "en_US-joe-medium.onnx"
    assert resolve("tts", str(voice), tmp_path / "elsewhere") == voice
    model = tmp_path / "mine.gguf"
    model.touch()
    assert resolve("llm", str(model), tmp_path / "elsewhere") == model


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("stt", "a folder with model.bin and config.json"),
        ("embedding", "a folder with model.onnx and tokenizer.json"),
        ("tts", "a file NAME.onnx with NAME.onnx.json beside it"),
        ("llm", "a .gguf file"),
    ],
)
def test_a_path_to_something_else(tmp_path: Path, kind: ModelKind, wanted: str) -> None:
    assert _fault(kind, str(tmp_path), tmp_path) == (Code.MODEL_DAMAGED, f"{tmp_path} is not {wanted}")


@pytest.mark.parametrize(
    ("kind", "name", "folder", "file"),
    [
        ("stt", "small.en", "small.en", "model.bin"),
        ("stt", "Systran/faster-whisper-small", "Systran--faster-whisper-small", "model.bin"),
        ("tts", "en_US-lessac-medium", "en_US-lessac-medium", "en_US-lessac-medium.onnx"),
        ("llm", "owner/repo-GGUF/model.Q4_0.gguf", "owner--repo-GGUF", "model.Q4_0.gguf"),
    ],
)
def test_models_by_their_usual_id(tmp_path: Path, kind: ModelKind, name: str, folder: str, file: str) -> None:
    code, text = _fault(kind, name, tmp_path)
    assert code is Code.MODEL_MISSING
    assert text.endswith(f"timmy models pull {name}")
    home = tmp_path / "models" / folder
    names = {file, "config.json"} if kind == "stt" else {file, f"{file}.json"}
    for each in names:
        _sparse(home / each, 10)
    assert _fault(kind, name, tmp_path)[0] is Code.MODEL_DAMAGED  # nothing says that it is complete
    listed = ",".join(f'{{"name":"{each}","size":10,"sha256":""}}' for each in sorted(names))
    (home / MANIFEST).write_text(f"[{listed}]")
    assert resolve(kind, name, tmp_path) == (home if kind == "stt" else home / file)
    _sparse(home / file, 9)
    assert f"{file} has 9 of 10 bytes" in _fault(kind, name, tmp_path)[1]


def test_a_model_of_another_kind(tmp_path: Path) -> None:
    assert _fault("tts", "tiny.en", tmp_path) == (
        Code.MODEL_MISSING,
        "'tiny.en' is no tts model: Whisper tiny.en, English speech to text",
    )


def test_a_misspelt_name(tmp_path: Path) -> None:
    assert _fault("stt", "tiny.em", tmp_path) == (
        Code.MODEL_MISSING,
        "model 'tiny.em' is not here: did you mean 'tiny.en'?",
    )


@pytest.mark.parametrize("name", ["../../nowhere", "/nonexistent/x", "a//b", "", "-rf", "a b"])
def test_what_cannot_be_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError, match="neither an existing file nor a possible model name"):
        catalogue.model_folder(name, tmp_path)
