"""What `timmy bench idle` prints."""

from __future__ import annotations

from typing import Any

import pytest

from ipc.endpoints import DAEMONS
from tools.bench.idle import show


def measured(percent: float) -> dict[str, Any]:
    row = {"core_percent": percent, "rss_bytes": 10_000_000}
    return {"daemons": dict.fromkeys(DAEMONS, row), "all": {"core_percent": 5 * percent, "rss_bytes": 50_000_000}}


def test_the_sound_card_stands_beside_the_wire(capsys: pytest.CaptureFixture[str]) -> None:
    show({**measured(0.4), "card": measured(0.6)})
    assert [line.split()[-2] for line in capsys.readouterr().out.splitlines()[1:]] == ["0.60"] * 5 + ["3.00"]


def test_a_card_that_cannot_be_is_said_to_be_missing(capsys: pytest.CaptureFixture[str]) -> None:
    show({**measured(0.4), "card": None})
    printed = capsys.readouterr().out
    assert "2.00 %" in printed
    assert "not measured" in printed
