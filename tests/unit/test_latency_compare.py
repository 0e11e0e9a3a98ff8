"""`timmy latency compare` and `gate` over sets whose truth is known, and `summary` beside them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ipc.errors import EXIT_NO_INPUT, EXIT_USAGE
from tests.support.latency import Timmy, narrow_terminal
from tests.support.traces import DELAYS, House
from tools.latency import statistics
from tools.latency.comparing import (
    FASTER,
    SAME,
    SLOWER,
    UNDECIDED,
    Comparison,
    compare,
    decides_from,
    headline,
    verdict,
)
from tools.latency.sets import turn_set
from tools.latency.stages import NAMES, TOTAL
from tools.latency.statistics import Difference


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 2000)


# --- verdicts ---


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((17.0, 24.0), SLOWER),
        ((0.1, 30.0), SLOWER),
        ((0.1, 10.0), SAME),
        ((-10.0, 10.0), SAME),
        ((-10.1, 9.0), UNDECIDED),
        ((-9.0, 10.1), UNDECIDED),
        ((-0.0, 10.1), UNDECIDED),
        ((-24.0, -0.1), FASTER),
        ((-10.0, -0.1), SAME),
        (None, UNDECIDED),
    ],
)
def test_a_verdict(interval: tuple[float, float] | None, expected: str) -> None:
    assert verdict(Difference(100, 110, interval), 10.0) == expected


def normal(n: int, seed: int, **late: float) -> dict[str, list[float]]:
    """Turns of three stages and their total, around 100 ms each; some stages are late by so much."""
    generator = np.random.default_rng(seed)
    columns = {stage: generator.normal(100 + late.get(stage, 0), 1, n).tolist() for stage in ("stt", "recall", "ipc")}
    return {**columns, TOTAL: [sum(row) for row in zip(*columns.values(), strict=True)]}


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {row.stage: row.verdict for row in comparison.rows}


def test_what_changed_comes_first_and_the_biggest_change_before_it() -> None:
    found = compare(normal(40, 1), normal(40, 2, recall=20, ipc=-30), 10, 1)
    assert [(row.stage, row.verdict) for row in found.rows] == [
        ("ipc", FASTER),
        ("recall", SLOWER),
        ("stt", SAME),
        (TOTAL, FASTER),
    ]
    assert (found.stages(SLOWER), found.quantiles, found.judged) == (["recall"], ("p50", "p95"), ("p50",))
    text = headline(found)
    assert text.startswith("B is slower: recall by ")
    assert "; B is faster: ipc by " in text


def test_a_headline_has_the_difference_as_its_direction_says() -> None:
    same = [100.0] * 10
    found = compare({"stt": same, TOTAL: same}, {"stt": [75.5] * 10, TOTAL: same}, 10, 1)
    assert headline(found) == "B is faster: stt by 24.5 ms [24.5, 24.5]"
    found = compare({"stt": same, TOTAL: same}, {"stt": same, TOTAL: [1200.0] * 10}, 10, 1)
    assert headline(found) == "B is slower: total by 1100 ms [1100, 1100]"


def test_no_difference_is_said_only_where_the_interval_lies_within_the_tolerance() -> None:
    a, b = normal(40, 1), normal(40, 2)
    assert set(verdicts(compare(a, b, 10, 1)).values()) == {SAME}
    assert headline(compare(a, b, 10, 1)) == "No difference over 10 ms in any stage"
    assert set(verdicts(compare(a, b, 0.01, 1)).values()) == {UNDECIDED}
    assert headline(compare(a, b, 0.01, 1)) == "No stage is slower or faster for certain; undecided: all of them"


def test_what_is_too_noisy_to_tell_is_undecided() -> None:
    noisy = {**normal(40, 2), "stt": np.random.default_rng(3).normal(100, 200, 40).tolist()}
    found = compare(normal(40, 1), noisy, 10, 1)
    assert verdicts(found)["stt"] == UNDECIDED
    assert headline(found) == "No stage is slower or faster for certain; undecided: stt"


@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_a_few_turns_decide_nothing(n: int) -> None:
    found = compare(normal(n, 1), normal(40, 2, recall=1000), 10, 1)
    assert set(verdicts(found).values()) == {UNDECIDED}
    assert headline(found) == f"Undecided: {n} against 40 turns; it takes 10 of each"


def test_a_change_of_the_slow_turns_alone_is_found() -> None:
    a, b = normal(200, 1), normal(200, 2)
    b["recall"] = [ms + (300 if at % 8 == 0 else 0) for at, ms in enumerate(b["recall"])]
    found = compare(a, b, 10, 1)
    (row,) = [row for row in found.rows if row.verdict == SLOWER]
    assert (row.stage, row.telling) == ("recall", "p95")
    assert "recall by " in headline(found)
    assert " ms at p95 [" in headline(found)


def test_a_p95_decides_where_so_many_turns_can_bound_it() -> None:
    assert [decides_from(name, len(NAMES) + 1) for name in ("p50", "p95")] == [10, 133]
    least = decides_from("p95", 4)
    assert compare(normal(least - 1, 1), normal(200, 2), 10, 1).judged == ("p50",)
    assert compare(normal(least, 1), normal(200, 2), 10, 1).judged == ("p50", "p95")


def test_a_p95_that_does_not_decide_keeps_no_difference_from_being_said() -> None:
    a, b = normal(100, 1), normal(100, 2)
    b["recall"] = [ms + (300 if at % 5 == 0 else 0) for at, ms in enumerate(b["recall"])]
    found = compare(a, b, 10, 1)
    assert verdicts(found) == {"stt": SAME, "recall": UNDECIDED, "ipc": SAME, TOTAL: SAME}


def test_stages_that_one_set_does_not_have_are_left_out() -> None:
    old = {stage: values for stage, values in normal(40, 1).items() if stage != "ipc"}
    assert set(verdicts(compare(old, normal(40, 2), 10, 1))) == {"stt", "recall", TOTAL}


# --- what is planted ---

N = 40
TRIALS = 100


def turns(generator: np.random.Generator, late: str = "") -> dict[str, Sequence[float]]:
    """N turns as a busy machine makes them: each resembles the one before, and one in thirty is odd."""
    noise = generator.normal(0, 1, (N, len(NAMES)))
    for at in range(1, N):
        noise[at] = 0.3 * noise[at - 1] + 0.95 * noise[at]
    columns = {}
    for at, stage in enumerate(NAMES):
        odd = (generator.random(N) < 1 / 30) * generator.exponential(200, N)
        spread = min(5.0, 0.1 * DELAYS[stage] + 0.5)
        columns[stage] = np.maximum(DELAYS[stage] + spread * noise[:, at] + odd + 20 * (stage == late), 0)
    return {**columns, TOTAL: np.sum(list(columns.values()), axis=0)}


def changed(comparison: Comparison) -> set[str]:
    return {row.stage for row in comparison.rows if row.verdict in (SLOWER, FASTER)}


def test_20_ms_more_in_any_one_stage_are_named_and_nothing_else() -> None:
    generator = np.random.default_rng(4)
    named = 0
    for trial, stage in zip(range(TRIALS), itertools.cycle(NAMES), strict=False):
        found = compare(turns(generator), turns(generator, stage), 10, trial)
        named += stage in found.stages(SLOWER) and changed(found) <= {stage, TOTAL}
    assert named >= 0.95 * TRIALS


def test_nothing_planted_is_nothing_found() -> None:
    generator = np.random.default_rng(5)
    cried = sum(bool(changed(compare(turns(generator), turns(generator), 10, trial))) for trial in range(TRIALS))
    assert cried <= 0.05 * TRIALS


# --- the commands ---


@pytest.fixture
def timmy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Timmy:
    """Conversations: `old` and `new` of 45 turns, recall 20 ms slower in the new one; `few` of 5."""
    folder = tmp_path / "trace"
    folder.mkdir()
    with House(folder) as house:
        for at in range(45):
            house.turn({"recall": 9 + at % 3}, conversation="old")
        for at in range(45):
            house.turn({"recall": 29 + at % 3}, conversation="new")
        for _ in range(5):
            house.turn(conversation="few")
        house.turn(conversation="old", typed=True)
    return Timmy(folder, capsys)


def test_a_slower_stage_is_named_and_ends_with_1(timmy: Timmy) -> None:
    out = timmy("compare", "session=old", "session=new", status=1)
    first, _, titles, row, *_ = out.splitlines()
    assert first == "B is slower: recall by 20.0 ms [20.0, 20.0], total by 20.0 ms [20.0, 20.0]"
    assert titles.split() == [
        "stage",
        "p50",
        "A",
        "p50",
        "B",
        "p50",
        "B-A",
        "p95",
        "A",
        "p95",
        "B",
        "p95",
        "B-A",
        "verdict",
    ]
    assert row.split() == [
        "recall",
        "10.0",
        "30.0",
        "+20.0",
        "[20.0,",
        "20.0]",
        "11.0",
        "31.0",
        "+20.0",
        "[20.0,",
        "20.0]",
        "slower",
    ]
    assert "no difference over 10 ms" in out
    assert "A: 45 complete turns, 1 left out" in out
    assert "B: 45 complete turns\n" in out
    assert "95% together; 2,000 resamples, seed 1\n" in out


def test_a_faster_stage_ends_with_0(timmy: Timmy) -> None:
    assert timmy("compare", "session=new", "session=old").startswith("B is faster: recall by 20.0 ms")


def test_a_comparison_for_programs(timmy: Timmy) -> None:
    arguments = ("session=old", "session=new", "--tolerance", "5", "--seed", "7", "--json")
    out = json.loads(timmy("compare", *arguments, status=1))
    assert (out["a"]["set"], out["a"]["turns"], out["a"]["left_out"], out["b"]["turns"]) == ("session=old", 45, 1, 45)
    assert (out["tolerance_ms"], out["seed"], out["confidence"]) == (5.0, 7, 0.95)
    assert out["interval_confidence"] == pytest.approx(1 - 0.05 / (len(NAMES) + 1))
    assert (out["slower"], out["faster"]) == (["recall", TOTAL], [])
    first = out["stages"][0]
    assert (first["stage"], first["verdict"]) == ("recall", SLOWER)
    assert first["p50"] == {"a_ms": 10.0, "b_ms": 30.0, "difference_ms": 20.0, "interval_ms": [20.0, 20.0]}
    assert {each["stage"] for each in out["stages"]} == {*NAMES, TOTAL}


def test_a_few_turns_end_with_0_and_say_what_it_takes(timmy: Timmy) -> None:
    out = timmy("compare", "session=new", "session=few")
    assert out.startswith("Undecided: 45 against 5 turns; it takes 10 of each")
    assert "p95" not in out.splitlines()[2]
    assert timmy.json("compare", "session=new", "session=few")["stages"][0]["p95"] is None
    assert "p95 decides from 133 turns in each set on" in timmy("compare", "session=old,last=20", "session=old,last=30")


def test_folders_are_sets(timmy: Timmy, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with House(other) as house:
        for _ in range(12):
            house.turn({"prompt": 41.0})
    out = timmy("compare", f"{timmy.folder},session=old", str(other), status=1)
    assert "prompt by 40.0 ms" in out.splitlines()[0]


def test_a_narrow_terminal_gets_a_table_for_each_quantile(timmy: Timmy, monkeypatch: pytest.MonkeyPatch) -> None:
    width = narrow_terminal(monkeypatch)
    lines = timmy("compare", "session=old", "session=new", status=1).splitlines()
    assert len([line for line in lines if line.startswith("stage")]) == 2
    assert max(len(line) for line in lines if line.startswith(("stage", *NAMES))) <= width


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sesion=home", "did you mean session=...?"),
        ("nowhere", "neither a folder nor one of since=..., until=..., session=..., last=..."),
        ("last=many", "not a number of turns"),
        ("last=0", "not a number of turns"),
        ("since=noon", "'noon' is no time"),
        ("last=3,last=4", "says twice"),
        ("session=", "nothing follows the ="),
    ],
)
def test_a_name_of_no_set(timmy: Timmy, name: str, words: str) -> None:
    timmy("compare", name, "last=10", status=EXIT_USAGE)
    assert words in " ".join(timmy.err.split())


def test_a_set_without_turns(timmy: Timmy) -> None:
    timmy("compare", "session=none", "last=10", status=EXIT_NO_INPUT)
    assert "no spoken question in 'session=none' was answered aloud" in timmy.err


def test_a_set_ends_where_it_says(timmy: Timmy) -> None:
    from tools.latency.reading import Losses, read_turns

    found = turn_set(f"{timmy.folder},until=2026-09-21")
    turns = sorted(read_turns(timmy.folder, Losses()), key=lambda turn: turn.begun_s)
    assert found.until_s is not None
    assert list(found.of(turns)) == [turn for turn in turns if turn.begun_s < found.until_s]
