"""What storing adds is a mean of paired differences, and says when it cannot be told from nothing."""

from __future__ import annotations

import click
import pytest

from tools.bench.storing import WITH, WITHOUT, Asked, added, compare, show


def paired(count: int) -> tuple[list[dict[str, Asked]], dict[bytes, float]]:
    """Pairs whose answers with storing sound 300 ms after the question, and the others after 290."""
    pairs = [{name: Asked(f"{name} {n}".encode(), name == WITH) for name in (WITHOUT, WITH)} for n in range(count)]
    return pairs, {each.rid: 300.0 if each.waiting else 290.0 for pair in pairs for each in pair.values()}


def test_what_storing_adds_is_with_it_less_without(capsys: pytest.CaptureFixture[str]) -> None:
    figures = compare(*paired(4))
    assert figures["added_ms"] == {"mean": 10, "low": 10, "high": 10, "half_width": 0, "from_zero": 10}
    assert figures["asked"] == {
        WITH: {"ms": {"p50": 300, "p90": 300}, "waiting": 4},
        WITHOUT: {"ms": {"p50": 290, "p90": 290}, "waiting": 0},
    }
    show(figures)
    assert "Storing adds +10.0 ms (trimmed mean of 4 pairs; 99 % interval +10.0 to +10.0" in capsys.readouterr().out


def test_a_pair_of_which_one_was_not_heard_is_left_out() -> None:
    pairs, sounded = paired(3)
    del sounded[pairs[1][WITH].rid]
    assert compare(pairs, sounded)["pairs"] == 2
    del sounded[pairs[0][WITHOUT].rid]
    with pytest.raises(click.ClickException, match="too few"):
        compare(pairs, sounded)


@pytest.mark.parametrize(("shift_ms", "seen"), [(0, False), (20, True), (-20, True)])
def test_the_interval_holds_zero_unless_there_is_something(shift_ms: float, seen: bool) -> None:
    found = added([shift_ms + away for away in range(-20, 21)])
    assert found["low"] < found["mean"] < found["high"]
    assert (found["from_zero"] > 0) is seen
    assert found["half_width"] == (found["high"] - found["low"]) / 2
