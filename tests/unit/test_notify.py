"""Telling a supervisor how it goes, or that it is gone."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from daemons.notify import notify


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
