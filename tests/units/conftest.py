"""The wheel, built once, and what the tests that boot a machine need."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.units import machine


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as a wheel; skips where no machine can be booted."""
    if os.getuid() != 0:
        pytest.skip("a machine can be booted by root only: sudo make test")
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("systemd-nspawn is missing: sudo apt install systemd-container")
    return machine.wheel(tmp_path_factory.mktemp("wheel"))
