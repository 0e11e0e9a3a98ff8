"""Campaigns with all five daemons at the size that a test affords: in a file of their own, to run beside the others."""

from __future__ import annotations

import pytest

from tests.campaigns.book import HOUSES, try_out


@pytest.mark.parametrize("name", HOUSES)
def test_nothing_is_found(name: str) -> None:
    try_out(name)
