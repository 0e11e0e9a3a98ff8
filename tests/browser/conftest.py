"""A page with known turns, and a window to open it in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.marks import Stage
from tests.browser.truth import HOME, HOSTILE, KITCHEN, TURNS
from tests.support.browser import Browser, chromium
from tests.support.traces import House
from tools.cli import run


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with House(folder / "trace") as house:
        for delays in TURNS[:HOME]:
            house.turn(delays)
        house.now_ns += 3600 * 10**9
        for number, delays in enumerate(TURNS[HOME:]):
            house.turn(delays, conversation=KITCHEN, heard=HOSTILE if number == 24 else "", attempts=1 + (number == 24))
        house.now_ns += 3600 * 10**9
        house.turn(typed=True, conversation="desk")
        house.turn(until=Stage.MODEL_SENT, outcome="failed", conversation="desk")
        house.turn(until=Stage.MODEL_SENT, outcome="cancelled", conversation="desk")
        house.turn(until=Stage.HEARD, outcome="", conversation="desk")
        house.lose("llm", 7)
    (folder / "trace" / "00000000000000000001-stt.marks").write_bytes(b"this is no trace")
    path = folder / "report.html"
    assert run(["latency", "report", "--html", str(path), "--trace", str(folder / "trace")]) == 0
    return path


@pytest.fixture(scope="package")  # its processes are not there when other tests look at their own
def window() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def browser(window: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly opened. Whatever a test does there, nothing is fetched and nothing goes wrong."""
    window.look()
    window.open(page)
    yield window
    assert window.complaints() == []
    assert set(window.requests()) == {page.as_uri()}
    assert window.driver.title == "Timmy: where the time of turns went"
