"""The campaigns of kills and stops find what they are there to find."""

from __future__ import annotations

import os
import signal
from unittest import mock

import pytest

from ipc.client import Client
from tests.campaigns import crowd, kills, stops
from tests.campaigns.stops import Stop
from tools import supervision


def test_a_daemon_that_comes_back_late_is_found() -> None:
    with (
        mock.patch.object(supervision, "FIRST_DELAY_S", 4.0),
        pytest.raises(AssertionError, match=r"was back .* s after it was killed, not within 2 s"),
    ):
        kills.run(1, 1)


def test_a_caller_that_is_not_told_is_found() -> None:
    def keep_quiet(self: Client, reason: str) -> None:
        self._ready.clear()
        self._ping = self._hello = None

    with (
        mock.patch.object(crowd, "HUNG_S", 3.0),
        mock.patch.object(Client, "_lose", keep_quiet),
        pytest.raises(AssertionError, match="hang, 3 s after all was over"),
    ):
        kills.run(1, 1)


def test_a_daemon_that_does_not_outlive_a_stop_is_found() -> None:
    with (
        mock.patch.object(stops, "_drawn", return_value=[Stop("llm", "stop", 0.3, 200)]),
        mock.patch.object(stops, "go_on", lambda pid: os.kill(pid, signal.SIGKILL)),
        pytest.raises(AssertionError, match="llm was started again, although it only stood still"),
    ):
        stops.run(1, 1)
