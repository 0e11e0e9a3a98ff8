"""The wheel, built once, and a machine with the daemons for all that do not need one of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.units import machine as machines
from tests.units.service import Services, with_fakes


@pytest.fixture(scope="session")
def bootable() -> None:
    """Skips where no machine can be booted."""
    if os.getuid() != 0:
        pytest.skip("a machine can be booted by root only: sudo make test")
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("systemd-nspawn is missing: sudo apt install systemd-container")


@pytest.fixture(scope="session")
def built(bootable: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as a wheel."""
    return machines.wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="package")
def services(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The daemons with engines that obey orders, as services of a booted machine."""
    with machines.booted(tmp_path_factory.mktemp("machine"), machines.binds()) as machine:
        machines.put_program(machine, built)
        machines.put_models(machine)
        yield with_fakes(machine)


@pytest.fixture
def whole(services: Services) -> None:
    """Such a test finds all daemons at work, and no orders of the one before."""
    services.make_whole()
