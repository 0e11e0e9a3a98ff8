"""Both wires for every test that asks for `wire`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipc import limits
from tests.socket.rig import Wire


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A socket folder with a short path: Unix sockets take 107 bytes."""
    return tmp_path_factory.mktemp("w")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw peers do not ping: on a slow machine a server would take them for dead."""
    monkeypatch.setattr(limits, "CLIENT_SILENCE_S", 60.0)


@pytest.fixture(params=["inproc", "ipc"])
def wire(request: pytest.FixtureRequest, folder: Path, patient: None) -> Wire:
    return Wire(folder if request.param == "ipc" else None)


@pytest.fixture
def sockets(folder: Path, patient: None) -> Wire:
    """Real sockets only."""
    return Wire(folder)
