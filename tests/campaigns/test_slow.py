"""The campaign of slow readers finds what it is there to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaigns import slow


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("queues_without_limit", r"llm grew by \d+ MB|nothing was lost to an observer that does not read"),
        ("overlooks", r"an observer of \d+ % missed \d+ headers and counts \d+"),
    ],
)
def test_a_fault_in_what_is_published_is_found(fault: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(folder: Path, until: float) -> dict[str, int]:
        return {}

    monkeypatch.setattr(slow, "_stream", nothing)
    with pytest.raises(AssertionError, match=what):
        slow.run(6, 1, fault)


def test_an_observer_that_its_library_ends_is_found() -> None:
    with pytest.raises(AssertionError, match=r"a reader \(observer\) ended with -6: Assertion failed"):
        slow.run(1, 1, reader_fault="beats")


def test_a_caller_that_its_library_ends_is_found() -> None:
    with pytest.raises(AssertionError, match=r"a reader \(caller\) ended with -6: Assertion failed"):
        slow._goes("beats")
