"""A missing device is looked for seldom, and at once when something was plugged in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from daemons.engines import plugged
from daemons.engines.plugged import EAGER_S, RETRY_FIRST_S, RETRY_MOST_S, Patience, surroundings


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the waiting slept, without sleeping."""
    spans: list[float] = []

    async def sleep(seconds: float) -> None:
        spans.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return spans


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(plugged, "_HARDWARE", tmp_path / "snd")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/wslg/PulseServer")
    return tmp_path


def test_each_wait_is_twice_as_long_up_to_a_limit(slept: list[float], hardware: Path) -> None:
    def waits(count: int) -> list[float]:
        spans = []
        for _ in range(count):
            slept.clear()
            asyncio.run(patience.wait())
            spans.append(sum(slept))
        return spans

    patience = Patience()
    longer = [min(RETRY_FIRST_S * 2**n, RETRY_MOST_S) for n in range(9)]
    assert waits(9) == longer
    patience.reset()
    assert waits(int(EAGER_S / RETRY_FIRST_S)) == [RETRY_FIRST_S] * int(EAGER_S / RETRY_FIRST_S)
    assert waits(9) == longer


@pytest.mark.parametrize("what", ["snd/pcmC0D0p", "pulse/native", "pipewire-0", "wslg/PulseServer"])
def test_what_is_plugged_in_ends_the_wait(what: str, hardware: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    async def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            (hardware / what).parent.mkdir(exist_ok=True)
            (hardware / what).touch()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(Patience(60.0).wait())
    assert len(looks) == 3


def test_a_server_that_was_started_again_is_noticed(hardware: Path) -> None:
    socket = hardware / "pipewire-0"
    socket.touch()
    before = surroundings()
    assert surroundings() == before
    (hardware / "another").touch()
    (hardware / "another").replace(socket)
    assert surroundings() != before
