"""The campaign of limits finds a house that does not recover."""

from __future__ import annotations

from unittest import mock

import pytest

from tests.campaigns import limits
from tools import supervision
from tools.harness import House


class _StaysFull(House):
    """Nobody makes room on its disk."""

    def __enter__(self) -> _StaysFull:
        super().__enter__()
        self.place.free_disk = lambda: None  # type: ignore[method-assign]
        return self


def test_a_house_that_cannot_keep_what_it_is_told_is_found() -> None:
    with (
        mock.patch.object(limits, "SPARE", {"full disk": 1}),
        mock.patch.object(limits, "BACK_MAX_S", 3.0),
        pytest.raises(AssertionError, match=r"what='full disk'.*memory does not serve again: store_full"),
    ):
        limits.run(1, 1, lambda: _StaysFull(disk_bytes=limits.DISK_BYTES))


def test_a_daemon_that_nobody_starts_again_is_found() -> None:
    with (
        mock.patch.object(limits, "SPARE", {"locked folder": 1}),
        mock.patch.object(limits, "BACK_MAX_S", 3.0),
        mock.patch.object(supervision, "FIRST_DELAY_S", 60.0),
        pytest.raises(AssertionError, match=r"what='locked folder'.* does not serve again"),
    ):
        limits.run(1, 1)
