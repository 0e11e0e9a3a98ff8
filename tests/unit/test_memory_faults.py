"""What can be wrong with the database: one line each, a code of its own, and nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from daemons.memory import schema
from daemons.memory.faults import StoreError, explained
from daemons.memory.store import Store
from ipc.errors import Code
from tests.unit.test_memory_store import opened, texts, told

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with one memory."""
    path = tmp_path / "memory" / "memory.db"
    store = opened(path)
    told(store, "the key is here")
    store.close()
    return path


@contextmanager
def refused(code: Code, match: str) -> Iterator[None]:
    with pytest.raises(StoreError, match=match) as caught:
        yield
    assert caught.value.code is code
    assert "\n" not in str(caught.value)


def test_a_second_daemon_is_kept_out(path: Path) -> None:
    first = Store(path)
    with refused(Code.STORE_LOCKED, "in use by another program"):
        Store(path)
    first.close()
    Store(path).close()


def test_a_program_that_writes_is_waited_for_only_a_moment(path: Path) -> None:
    holder = apsw.Connection(str(path))
    holder.execute("BEGIN IMMEDIATE")
    store = opened(path)
    with refused(Code.STORE_LOCKED, "in use by another program"):
        told(store, "another")
    assert texts(store) == ["the key is here"], "reading goes on"
    holder.close()
    told(store, "another")
    store.close()


def test_a_program_that_holds_all_of_it(path: Path) -> None:
    holder = apsw.Connection(str(path))
    holder.pragma("locking_mode", "EXCLUSIVE")
    holder.execute("BEGIN IMMEDIATE")
    with refused(Code.STORE_LOCKED, "fuser"):
        Store(path)
    holder.close()
    Store(path).close()


# --- read-only ---


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """No permission stops root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def users_path(path: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the database that belongs to the ordinary user, where this user can reach it."""
    keeper = Store(tmp_path / "keeper" / "memory.db")  # keeps sqlite-vec loaded: its folder may be root's own
    home = Path(tempfile.mkdtemp())
    shutil.copytree(path.parent, home / "memory")
    if os.geteuid() == 0:
        for place in (home, *home.rglob("*")):
            os.chown(place, NOBODY, NOBODY)
    yield home / "memory" / path.name
    for place in (home, home / "memory"):
        place.chmod(0o700)
    shutil.rmtree(home)
    keeper.close()


def test_a_file_that_cannot_be_written(users_path: Path) -> None:
    users_path.chmod(0o400)
    with as_ordinary_user(), refused(Code.STORE_READ_ONLY, "cannot be written .*ls -la"):
        Store(users_path)


@pytest.mark.parametrize("keep", ["memory.lock", ""], ids=["used before", "new"])
def test_a_folder_that_cannot_be_written(users_path: Path, keep: str) -> None:
    for file in users_path.parent.iterdir():
        if file.name not in (users_path.name, keep):
            file.unlink()
    users_path.parent.chmod(0o500)
    with as_ordinary_user(), refused(Code.STORE_READ_ONLY, "cannot be written"):
        Store(users_path)


def test_a_folder_that_cannot_be_made(users_path: Path) -> None:
    users_path.parent.parent.chmod(0o500)
    with as_ordinary_user(), refused(Code.STORE_READ_ONLY, "Permission denied"):
        Store(users_path.parent.parent / "elsewhere" / "memory.db")


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("a file")
    with refused(Code.STORE_READ_ONLY, "cannot be written"):
        Store(tmp_path / "memory" / "memory.db")


# --- damaged, newer, somebody else's ---


def overwritten(whole: bytes) -> bytes:
    """Every page but the first is noise."""
    return whole[:4096] + bytes(reversed(whole[4096:]))


def one_page_overwritten(whole: bytes) -> bytes:
    """One table is noise, which opening alone does not notice."""
    return whole[: 2 * 4096] + b"\xff" * 4096 + whole[3 * 4096 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"not a database at all " * 400,
        lambda whole: whole[: len(whole) // 2],
        overwritten,
        one_page_overwritten,
    ],
    ids=["noise", "truncated", "overwritten", "one page"],
)
def test_a_damaged_database_is_left_as_it_is(path: Path, damage: Callable[[bytes], bytes]) -> None:
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with refused(Code.STORE_DAMAGED, f"{path} is damaged .*mv {path} {path}.damaged"):
        Store(path)
    assert path.read_bytes() == damaged


def test_damage_while_it_is_open(path: Path) -> None:
    store = Store(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with refused(Code.STORE_DAMAGED, "is damaged"):
        texts(store)
    store.close()


def test_a_newer_version_is_left_as_it_is(path: Path) -> None:
    database = apsw.Connection(str(path))
    database.pragma("user_version", schema.VERSION + 1)
    database.close()
    before = path.read_bytes()
    with refused(Code.STORE_NEWER, f"newer version .* {schema.VERSION + 1}"):
        Store(path)
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_left_as_it_is(path: Path) -> None:
    path.unlink()
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE bookmarks (url)")
    other.close()
    before = path.read_bytes()
    with refused(Code.STORE_DAMAGED, "belongs to another program"):
        Store(path)
    assert path.read_bytes() == before


def test_an_empty_file_is_a_new_database(path: Path) -> None:
    path.write_bytes(b"")
    store = opened(path)
    assert texts(store) == []
    store.close()


# --- full ---


def test_a_full_disk_refuses_and_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = []
    connect = Store._connect

    def limited(store: Store) -> apsw.Connection:
        connections.append(connect(store))
        return connections[-1]

    monkeypatch.setattr(Store, "_connect", limited)
    store = opened(path)
    connections[0].pragma("max_page_count", connections[0].pragma("page_count"))
    with refused(Code.STORE_FULL, "disk is full"):
        for n in range(200):
            told(store, f"note {n} " + "which is rather long " * 20)
    kept = texts(store)
    assert "the key is here" in kept
    store.close()
    store = opened(path)
    assert texts(store) == kept
    told(store, "there is space again")
    assert texts(store) == [*kept, "there is space again"]
    store.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_file_system_that_is_full(path: Path, number: int) -> None:
    with refused(Code.STORE_FULL, "disk is full"), explained(path):
        raise OSError(number, "no space")


def test_a_disk_that_fails(path: Path) -> None:
    with refused(Code.ENGINE_FAILED, "the disk fails"), explained(path):
        raise apsw.IOError("disk I/O error")
