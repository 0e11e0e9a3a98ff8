"""What is to be remembered waits on disk, in order, until it has been taken."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from daemons.dialog.effects import Store
from daemons.dialog.journal import MAX_ENTRIES, Journal
from ipc.errors import CallError, Code

ONE, TWO, THREE = (
    Store(b"a" * 16, "the plumber comes"),
    Store(b"\xff" * 16, "größer \n als"),
    Store(b"c" * 16, "it rains"),
)


def after(path: Path, *changes: Callable[[Journal], None]) -> Journal:
    """A journal in which each change has reached the disk before the next one was made."""

    async def change() -> Journal:
        journal = Journal(path)
        await journal.written()
        for each in changes:
            each(journal)
            await journal.written()
        return journal

    return asyncio.run(change())


def add(entry: Store) -> Callable[[Journal], None]:
    return lambda journal: journal.add(entry)


def test_entries_outlive_the_process_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "dialog" / "journal"
    after(path, add(ONE), add(TWO))
    assert Journal(path).first == ONE
    after(path, _take)
    assert Journal(path).first == TWO
    after(path, _take)
    assert Journal(path).first is None


def _take(journal: Journal) -> None:
    assert journal.first is not None
    journal.taken(journal.first)


def test_what_is_withdrawn_is_never_offered(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = after(path, add(ONE), add(TWO), lambda journal: journal.withdraw(Store(ONE.turn, ONE.heard)))
    assert journal.first == Journal(path).first == TWO
    after(path, lambda journal: journal.withdraw(ONE))
    assert Journal(path).first == TWO


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "dialog" / "journal"
    after(path, add(ONE))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "damaged",
    [b'{"turn": 7', b'{"turn":"YWFhYWFhYWFhYWFhYWFhYQ==","heard":"caf\xe9"}', b'{"x":' + b"[" * 5000, b"\0" * 40],
    ids=["cut off", "not UTF-8", "nested", "zeros"],
)
def test_a_damaged_line_is_skipped_and_said(damaged: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal"
    after(path, add(ONE))
    path.write_bytes(damaged + b"\n" + path.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert Journal(path).first == ONE
    assert "skipped" in caplog.text


def test_it_does_not_grow_without_end(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    for number in range(MAX_ENTRIES + 1):
        journal._entries.append(Store(b"a" * 16, str(number)))
    assert journal.first == Store(b"a" * 16, "1")


def test_what_was_pushed_out_while_it_was_offered_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("daemons.dialog.journal.MAX_ENTRIES", 1)
    journal = after(tmp_path / "journal", add(ONE), add(TWO), lambda journal: journal.taken(ONE))
    assert "is lost" in caplog.text
    assert journal.first == TWO


def test_a_slow_disk_holds_up_nobody_and_gets_the_latest_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    begun, may_end = threading.Event(), threading.Event()
    sync, synced = os.fdatasync, []

    def slow(descriptor: int) -> None:
        synced.append(path.with_suffix(".new").read_bytes().count(b"\n"))
        begun.set()
        assert may_end.wait(30)
        sync(descriptor)

    async def converse() -> None:
        journal = Journal(path)
        journal.add(ONE)
        await asyncio.to_thread(begun.wait)
        journal.add(TWO)
        journal.add(THREE)
        assert journal.first == ONE
        assert not path.exists()
        may_end.set()
        await journal.written()

    monkeypatch.setattr(os, "fdatasync", slow)
    asyncio.run(converse())
    assert synced == [1, 3]
    assert path.read_bytes().count(b"\n") == 3


def test_a_power_failure_brings_no_older_version_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is on the disk only when its folder is."""
    path = tmp_path / "journal"
    sync, synced = os.fsync, []

    def noted(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    after(path, add(ONE))
    assert synced == [(tmp_path, True)]


def test_a_full_disk_loses_nothing_while_it_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def converse() -> None:
        journal = Journal(path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", full)
            journal.add(TWO)
            await journal.written()
            assert journal.trouble == f"{path} cannot be written: No space left on device"
            assert caplog.messages == [journal.trouble]
            assert Journal(path).first == ONE, "what was on the disk stays there"
            _take(journal)
            await journal.written()
            assert journal.first == TWO
        journal.add(ONE)
        await journal.written()
        assert journal.trouble == ""
        assert Journal(path).first == TWO

    path = tmp_path / "journal"
    after(path, add(ONE))
    asyncio.run(converse())


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CallError, match=r"to-remember cannot be used \(File exists\).*TIMMY_STATE") as caught:
        Journal(tmp_path / "file" / "to-remember")
    assert caught.value.code is Code.STORE_READ_ONLY
