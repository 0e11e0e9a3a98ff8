"""Telling a supervisor how it goes, or that it is gone."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from daemons.notify import WATCHDOG, notify


def test_the_supervisor_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "n")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(path)
        notify("READY=1")
        assert supervisor.recv(100) == b"READY=1"


def test_a_supervisor_that_is_gone_does_not_keep_a_daemon_from_cleaning_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
    notify("STOPPING=1")
    assert "the supervisor cannot be told 'STOPPING=1'" in caplog.text


def test_a_supervisor_that_stands_still_keeps_nobody_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "n")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as supervisor:
        supervisor.bind(path)
        for _ in range(1000):
            notify(WATCHDOG)
        notify("STATUS=no microphone")
        early = _all_of(supervisor)
        assert set(early) == {WATCHDOG}
        assert len(early) < 1000
        notify(WATCHDOG)
        assert _all_of(supervisor) == ["STATUS=no microphone", WATCHDOG]


def _all_of(supervisor: socket.socket) -> list[str]:
    told = []
    with contextlib.suppress(BlockingIOError):
        while True:
            told.append(supervisor.recv(100).decode())
    return told
