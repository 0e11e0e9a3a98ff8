"""What is to be remembered waits on disk, in order, until it has been taken."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from daemons.dialog.effects import Store
from daemons.dialog.journal import MAX_ENTRIES, Journal
from ipc.errors import CallError, Code

ONE, TWO = Store(b"a" * 16, "the plumber comes"), Store(b"\xff" * 16, "größer \n als")


def test_entries_outlive_the_process_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "dialog" / "journal"
    first = Journal(path)
    first.add(ONE)
    first.add(TWO)
    second = Journal(path)
    assert second.first == ONE
    second.taken(second.first)
    assert Journal(path).first == TWO
    second.taken(second.first)
    assert Journal(path).first is None


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "dialog" / "journal"
    Journal(path).add(ONE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_damaged_line_is_skipped_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal"
    Journal(path).add(ONE)
    path.write_bytes(b'{"turn": 7\n' + path.read_bytes())
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
    journal = Journal(tmp_path / "journal")
    journal.add(ONE)
    journal.add(TWO)
    assert "is lost" in caplog.text
    journal.taken(ONE)
    assert journal.first == TWO


def test_a_full_disk_loses_nothing_while_it_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "journal"
    journal = Journal(path)
    journal.add(ONE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        journal.add(TWO)
        assert journal.trouble == f"{path} cannot be written: No space left on device"
        assert caplog.messages == [journal.trouble]
        assert Journal(path).first == ONE, "what was on the disk stays there"
        journal.taken(ONE)
        assert journal.first == TWO
    journal.add(ONE)
    assert journal.trouble == ""
    assert Journal(path).first == TWO


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CallError, match=r"to-remember cannot be used \(File exists\).*TIMMY_STATE") as caught:
        Journal(tmp_path / "file" / "to-remember")
    assert caught.value.code is Code.STORE_READ_ONLY
