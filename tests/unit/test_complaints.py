"""What peers do wrong, in the log: at once, and then not too often."""

from __future__ import annotations

import pytest

from ipc import limits
from ipc.complaints import Complaints


@pytest.fixture
def complaints() -> Complaints:
    return Complaints("llm")


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


def test_the_first_is_told_and_the_others_are_counted(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1000):
        complaints.add("uid 1", f"uid 1 sent {number}", 10.0 + number / 2000)
    assert _lines(caplog) == ["llm: uid 1 sent 0"]
    complaints.add("uid 1", "uid 1 sent more", 11.0)
    assert _lines(caplog) == ["llm: uid 1 sent more (the latest of 1000 more)"]
    complaints.add("uid 1", "uid 1 sent more", 11.5)
    assert _lines(caplog) == []


def test_what_was_held_back_is_told_in_time(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    complaints.add("uid 1", "uid 1 sent a", 10.0)
    complaints.add("uid 1", "uid 1 sent b", 10.1)
    complaints.look(10.9)
    assert _lines(caplog) == ["llm: uid 1 sent a"]
    complaints.look(11.0)
    assert _lines(caplog) == ["llm: uid 1 sent b (the latest of 1 more)"]
    complaints.look(12.0)
    assert _lines(caplog) == []


def test_at_the_end_nothing_is_held_back(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    for who in ("uid 1", "uid 2"):
        complaints.add(who, f"{who} sent a", 10.0)
    complaints.add("uid 2", "uid 2 sent b", 10.0)
    caplog.clear()
    complaints.close()
    complaints.close()
    assert _lines(caplog) == ["llm: uid 2 sent b (the latest of 1 more)"]


def test_who_behaves_is_forgotten(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    complaints.add("uid 1", "uid 1 sent a", 10.0)
    complaints.look(10.0 + limits.CLIENT_SILENCE_S)
    complaints.add("uid 1", "uid 1 sent b", 20.0)
    assert _lines(caplog) == ["llm: uid 1 sent a", "llm: uid 1 sent b"]


def test_many_do_not_fill_the_memory(
    complaints: Complaints, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PEERS_MAX", 2)
    for who in ("uid 1", "uid 1", "uid 2", "uid 3", "uid 4", "uid 1"):
        complaints.add(who, f"{who} sent a", 10.0)
    assert _lines(caplog) == [
        "llm: uid 1 sent a",
        "llm: uid 2 sent a",
        "llm: uid 1 sent a (the latest of 1 more)",
        "llm: uid 3 sent a",
        "llm: uid 4 sent a",
        "llm: uid 1 sent a",
    ]
