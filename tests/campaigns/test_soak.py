"""The soak, and proof that it finds what grows."""

from __future__ import annotations

from unittest import mock

import pytest

from tests.campaigns import soak
from tests.campaigns.altered import AlteredPlace
from tests.campaigns.book import SOAK, try_out
from tools.harness import House


@pytest.mark.timeout(SOAK["soak"].count + 300)
def test_nothing_is_found() -> None:
    try_out("soak")


def _house(bug: str) -> House:
    house = House()
    house.place = AlteredPlace(bug, only="dialog")
    return house


@pytest.mark.parametrize(
    ("bug", "what"),
    [
        ("growing_memory", r"dialog grew by \d+\.\d MB"),
        ("leaked_descriptor", r"dialog has \d+ more descriptors open"),
        ("marks_lost", r"\d+ marks were lost"),
    ],
)
def test_what_grows_or_is_lost_is_found(bug: str, what: str) -> None:
    with mock.patch.object(soak, "WARM", 0.0), pytest.raises(AssertionError, match=what):
        soak.run(35, 1, lambda: _house(bug))
