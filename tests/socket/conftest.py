"""Both wires for every test that asks for `wire`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc import limits
from tests.socket.rig import Wire
from tests.support.daemon_thread import DaemonThread
from tests.support.recording import Fakes


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


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIMMY_RUNTIME", str(folder))
    return folder


@pytest.fixture
def house(runtime: Path, fakes: Fakes) -> Iterator[None]:
    """stt, dialog and tts, which say what `fakes` has them say."""
    with (
        DaemonThread("stt", fakes.handlers(), runtime),
        DaemonThread("dialog", fakes.handlers(), runtime),
        DaemonThread("tts", fakes.handlers(), runtime),
    ):
        yield
