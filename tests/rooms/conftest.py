"""What tests need that make hosts of their own."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture(scope="session", autouse=True)
def hosts() -> None:
    """Skips where there can be none."""
    if os.getuid() != 0:
        pytest.skip("hosts with a network of their own can be made by root only: sudo make test")
    if shutil.which("ip") is None:
        pytest.skip("ip(8) is missing: sudo apt install iproute2")
