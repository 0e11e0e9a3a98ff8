"""What the report says of turns, as data: the page only draws it."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.marks import Stage
from tests.support.latency import Timmy
from tests.support.traces import DELAYS, House
from tools.latency.compare import compare
from tools.latency.gathering import NEWEST, SLOWEST, gather, sessions
from tools.latency.reading import Losses, read_turns
from tools.latency.report import page
from tools.latency.report_compare import AT_MOST, SEED, TOLERANCE_MS
from tools.latency.report_data import SESSIONS, TREND_POINTS, document, rolling_median
from tools.latency.sessions import PAUSE_NS, group
from tools.latency.stages import NAMES
from tools.latency.turns import Turn

S = 10**9


def _turns(folder: Path) -> list[Turn]:
    return list(read_turns(folder, Losses()))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Turn:
    folder = tmp_path_factory.mktemp("one")
    with House(folder) as house:
        house.turn()
    return _turns(folder)[0]


def _moved(turn: Turn, by_ns: int, **changes: Any) -> Turn:
    """The same turn, later; of its marks the first and the last."""
    marks = tuple(mark._replace(t_ns=mark.t_ns + by_ns) for mark in (turn.marks[0], turn.marks[-1]))
    spans = tuple(span._replace(start_ns=span.start_ns + by_ns, end_ns=span.end_ns + by_ns) for span in turn.spans)
    assert turn.first_audio_ns is not None
    times = {"origin_ns": turn.origin_ns + by_ns, "first_audio_ns": turn.first_audio_ns + by_ns}
    return dataclasses.replace(
        turn, **{**times, "begun_s": turn.begun_s + by_ns / S, "marks": marks, "spans": spans, **changes}
    )


def _document(turns: list[Turn]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(document(gather(turns), Losses(), 1.0)))
    return made


def test_a_turn_on_the_page_is_the_turn_that_was(tmp_path: Path) -> None:
    delays = {"recall": 41.5, "ipc": 12.0, "unaccounted": 3.25}
    with House(tmp_path) as house:
        rid = house.turn(delays, conversation="desk", heard="Where is it?")
    (turn,) = _document(_turns(tmp_path))["turns"]
    assert turn["rid"] == rid.hex()
    assert turn["kind"] == "complete"
    assert turn["total"] == sum({**DELAYS, **delays}.values())
    assert dict(zip(NAMES, turn["shares"], strict=True)) == pytest.approx({**DELAYS, **delays}, abs=0.002)
    assert sum(turn["shares"]) == pytest.approx(turn["total"], abs=0.01)
    assert turn["heard"] == "Where is it?"


def test_a_stage_is_summed_up_as_summary_does_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with House(tmp_path) as house:
        for number in range(45):
            house.turn({"llm_first_token": 100.0 + 3 * number % 50})
    expected = Timmy(tmp_path, capsys).json("summary")["stages"]
    for row in _document(_turns(tmp_path))["summary"]:
        figures = expected[row["stage"]]
        for name in ("p50", "p90", "p95", "p99", "mean", "max"):
            assert row[name] == figures[f"{name}_ms"]
        assert [row["share"], row["share_slowest"]] == pytest.approx(
            [figures["share"], figures["share_slowest_tenth"]], abs=1e-3
        )
        assert row["curve"][50] == pytest.approx(row["p50"], abs=0.006)
        assert row["curve"] == sorted(row["curve"])


def test_what_the_mean_is_made_of_adds_up(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        for number in range(7):
            house.turn({"tts_synthesis": 100.0 + number})
    *stages, total = _document(_turns(tmp_path))["summary"]
    assert [row["stage"] for row in stages] == list(NAMES)
    assert sum(row["share_ms"] for row in stages) == pytest.approx(total["mean"], abs=0.01)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.sampled_from([1, 60, 599, 601, 5000])), max_size=40
    )
)
def test_sessions_are_those_of_the_command(one: Turn, said: list[tuple[str, int, int]]) -> None:
    """Whatever the order in which turns end."""
    turns = []
    at_s = 0
    for conversation, host, pause_s in said:
        at_s += pause_s
        turns.append(_moved(one, at_s * S, conversation=conversation, host=bytes([host])))
    expected = [{turn.origin_ns for turn in session.turns} for session in group(turns)]
    gathered = gather(turns)
    of = sessions(gathered).tolist()
    found: list[set[int]] = [set() for _ in expected]
    for row, turn in enumerate(turns):
        found[of[row]].add(turn.origin_ns)
    assert found == expected


def test_sessions_know_their_turns(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        for number in range(5):
            house.turn({"recall": 10.0 + number})
        house.now_ns += PAUSE_NS + S
        house.turn(outcome="failed", until=Stage.HEARD)
    first, second = _document(_turns(tmp_path))["sessions"]
    assert (first["turns"], first["n"]) == (5, 5)
    assert first["p50"] == pytest.approx(sum(DELAYS.values()) - DELAYS["recall"] + 12.0)
    assert (second["turns"], second["n"], second["p50"]) == (1, 0, None)


def _many(one: Turn, count: int) -> Iterator[Turn]:
    """Turns of a year, a session every fifty, each with the longest words that fit."""
    for number in range(count):
        at_ns = (number * 25 + number // 50 * 700) * S
        slow = (number % 1000 == 77) * 10 * S
        assert one.first_audio_ns is not None
        changes: dict[str, Any] = {"heard": "ж<" * 200, "rid": number.to_bytes(16, "big")}
        if slow:
            changes["first_audio_ns"] = one.first_audio_ns + at_ns + slow
        yield _moved(one, at_ns, **changes)


def test_a_page_over_a_million_marks_stays_small(one: Turn) -> None:
    count = -(-1_000_000 // len(one.marks))
    made = document(gather(_many(one, count)), Losses(), 1.0)
    assert len(page(made).encode()) < 2_000_000
    assert made["summary"][0]["n"] == count
    assert len(made["turns"]) == NEWEST + SLOWEST
    numbers = [int(turn["rid"], 16) for turn in made["turns"]]
    assert numbers[:NEWEST] == list(range(count - 1, count - 1 - NEWEST, -1))
    assert all(number % 1000 == 77 for number in numbers[NEWEST:])
    assert made["sessions_n"] == -(-count // 50)
    assert len(made["sessions"]) == SESSIONS
    assert len(made["trend"]["stages"]["total"]["line"]) <= TREND_POINTS
    assert len({len(column) for column in made["trend"]["stages"]["total"].values()}) == 1
    assert all(turn["session"] < 0 or made["sessions"][turn["session"]] for turn in made["turns"])


def test_the_trend_is_in_the_order_of_time(one: Turn) -> None:
    turns = [_moved(one, place * 20 * S) for place in (3, 0, 2, 1)]
    trend = _document(turns)["trend"]
    assert trend["each"] == 1
    assert trend["begun_s"] == sorted(trend["begun_s"])
    assert trend["turn"] == [3, 2, 1, 0]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.sampled_from([1, 3, 15]))
def test_a_rolling_median_is_that_of_the_neighbours(values: list[float], window: int) -> None:
    found = rolling_median(np.array(values), window)
    for at, median in enumerate(found):
        assert median == statistics.median(values[max(0, at - window // 2) : at + window // 2 + 1])


def test_pairs_are_compared_as_the_command_compares_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with House(tmp_path) as house:
        for number in range(48):
            house.turn(
                {"recall": 10.0 + number % 5 + 60 * (number >= 24)}, conversation="old" if number < 24 else "new"
            )
    expected = json.loads(Timmy(tmp_path, capsys)("compare", "session=old", "session=new", "--json", status=1))
    found = _document(_turns(tmp_path))["compare"]
    session = next(pair for pair in found["pairs"] if found["sets"][pair["a"]]["group"] == "session")
    assert [found["sets"][session[name]]["name"] for name in "ab"] == ["old", "new"]
    assert session["headline"] == expected["headline"]
    for row in expected["stages"]:
        assert session["rows"][row["stage"]]["verdict"] == row["verdict"]
        figures = row["p50"]
        expected_row = [figures["a_ms"], figures["b_ms"], *figures["interval_ms"]]
        assert session["rows"][row["stage"]]["p50"] == pytest.approx(expected_row, abs=0.006)


def test_tolerance_and_seed_are_those_of_the_command() -> None:
    defaults = {option.name: option.default for option in compare.params}
    assert (defaults["tolerance"], defaults["seed"]) == (TOLERANCE_MS, SEED)


def test_only_the_newest_turns_are_compared(one: Turn) -> None:
    """A set may be large: the time for its intervals must not be."""
    turns = [_moved(one, place * 20 * S, conversation=str(place // (2 * AT_MOST))) for place in range(4 * AT_MOST)]
    found = _document(turns)["compare"]
    assert {each["n"] for each in found["sets"] if each["group"] == "session"} == {2 * AT_MOST}
    assert {"half", "session"} <= {found["sets"][pair["a"]]["group"] for pair in found["pairs"]}
    assert all("interval" not in pair for pair in found["pairs"])
