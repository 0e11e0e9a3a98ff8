"""Models from Hugging Face by their usual ids: Whisper sizes and repositories, Piper voices, GGUF files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from daemons import catalogue
from daemons.catalogue import MANIFEST, PIPER_VOICE, WHISPER, ModelFile
from tools.wheels import FetchError

ANSWER_S = 20.0
_VOICES = "rhasspy/piper-voices"
_WHISPER_FILES = ("model.bin", "config.json", "preprocessor_config.json", "tokenizer.json", "vocabulary.*")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a name stands for: files of a repository, as patterns."""

    repository: str
    patterns: tuple[str, ...]


def wanted(name: str) -> Wanted | None:
    """None when the name is not of a kind that Hugging Face has."""
    if voice := PIPER_VOICE.fullmatch(name):
        locale = name.partition("-")[0]
        folder = f"{voice['language']}/{locale}/{voice['voice']}/{voice['quality']}"
        return Wanted(_VOICES, (f"{folder}/{name}.onnx", f"{folder}/{name}.onnx.json"))
    repository, _, file = name.rpartition("/")
    if file.endswith(".gguf") and repository.count("/") == 1:
        return Wanted(repository, (file,))
    if name in WHISPER or name.count("/") == 1:
        return Wanted(WHISPER.get(name, name), _WHISPER_FILES)
    return None


def pull(name: str, source: Wanted, cache: Path, endpoint: str | None = None) -> bool:
    """Fetches a model; False when it is there, whole and unchanged. Raises FetchError.

    An interrupted fetch goes on where it ended. Hugging Face's library shows the progress.
    """
    folder = catalogue.model_folder(name, cache)
    if _manifest(folder) and catalogue.model_files(name, cache) and not catalogue.faults(name, cache, sums=True):
        return False
    unfinished = folder.with_name(f".{folder.name}.part")
    files = _download(name, source, unfinished, endpoint)
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (unfinished / file.name).replace(folder / PurePosixPath(file.name).name)
    fresh = tuple(ModelFile(PurePosixPath(file.name).name, file.size, file.sha256) for file in files)
    # A repository of GGUF files is one folder, and each of its files may have been fetched on its own.
    kept = [file for file in _manifest(folder) if file.name not in {new.name for new in fresh}]
    (folder / MANIFEST).write_bytes(msgspec.json.encode((*kept, *fresh)))
    shutil.rmtree(unfinished)
    return True


def _manifest(folder: Path) -> tuple[ModelFile, ...]:
    path = folder / MANIFEST
    return msgspec.json.decode(path.read_bytes(), type=tuple[ModelFile, ...]) if path.exists() else ()


def _download(name: str, source: Wanted, folder: Path, endpoint: str | None) -> list[ModelFile]:
    """The files, by their paths in the repository, checked against the sums that it publishes."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        # Asked first: where there is no network this says so at once, and it knows the sums.
        info = HfApi(endpoint=endpoint).model_info(source.repository, files_metadata=True, timeout=ANSWER_S)
        published = {
            file.rfilename: file.lfs.sha256 if file.lfs else None
            for file in info.siblings or []
            if any(PurePosixPath(file.rfilename).match(pattern) for pattern in source.patterns)
        }
        if not published:
            raise FetchError(f"{source.repository} has no {' or '.join(source.patterns)}: is {name!r} right?")
        snapshot_download(
            source.repository, revision=info.sha, allow_patterns=list(published), local_dir=folder, endpoint=endpoint
        )
    except RepositoryNotFoundError:
        raise FetchError(f"Hugging Face has no {source.repository}: is {name!r} right?") from None
    except FetchError:
        raise
    except Exception as error:  # the HTTP library underneath, and so its errors, change between versions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FetchError(f"{name} cannot be fetched from Hugging Face: {reason}; run it again to go on") from None
    return [_checked(folder / path, path, sha256) for path, sha256 in published.items()]


def _checked(path: Path, name: str, sha256: str | None) -> ModelFile:
    found = catalogue.sha256_of(path)
    if sha256 not in (None, found):
        path.unlink()
        raise FetchError(f"{name} came damaged (SHA-256): run it again")
    return ModelFile(name, path.stat().st_size, found)
