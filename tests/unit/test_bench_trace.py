"""What `timmy bench trace` measures: marks that are written are those that are counted and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipc import marks
from tests.support.traces import House
from tools.bench.trace import READERS, _read, mark_cost, turn_share, write_turns
from tools.latency.reading import Losses, read_turns
from tools.latency.turns import Turn


@pytest.fixture
def turn(tmp_path: Path) -> Turn:
    with House(tmp_path / "one") as house:
        house.turn()
    (found,) = read_turns(tmp_path / "one", Losses())
    return found


def test_a_mark_costs_something_and_so_does_writing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bench.trace.ROUNDS", 2)
    cost = mark_cost(tmp_path)
    assert cost["mark_us"] > 0
    assert cost["drain_us"] > 0


def test_the_share_of_a_turn_is_that_of_all_its_marks(turn: Turn) -> None:
    share = turn_share(turn, {"mark_us": 3.0, "drain_us": 2.0})
    times = [mark.t_ns for mark in turn.marks]
    assert share["turn_marks"] == len(turn.marks)
    assert share["turn_s"] == (max(times) - min(times)) / 1e9
    assert share["turn_percent"] == pytest.approx(len(times) * 5e-6 / share["turn_s"] * 100)


def test_the_turns_that_are_read_are_whole_and_like_the_one_given(tmp_path: Path, turn: Turn) -> None:
    folder, count = tmp_path / "many", 3 * marks.RING_MARKS
    write_turns(folder, turn, count)
    losses = Losses()
    turns = list(read_turns(folder, losses))
    assert losses.lines() == []
    assert count <= losses.marks < count + len(turn.marks)
    assert len(turns) == len({each.rid for each in turns}) == losses.marks // len(turn.marks)
    assert all(each.shares_ms() == turn.shares_ms() and each.complete for each in turns)


@pytest.mark.parametrize("reader", READERS)
def test_readers_are_measured_as_programs_of_their_own(tmp_path: Path, turn: Turn, reader: str) -> None:
    write_turns(tmp_path / "some", turn, 10_000)
    used = _read(READERS[reader], tmp_path / "some")
    assert used["cpu_s"] > 0
    assert used["seconds"] > 0
    assert used["peak_bytes"] > 5e6
