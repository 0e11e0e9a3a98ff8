"""`timmy latency gate` and `summary` over turns whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipc.errors import EXIT_CONFIG, EXIT_NO_INPUT, EXIT_TEMPORARY
from tests.support.latency import Timmy
from tests.support.traces import DELAYS, House
from tools.latency.gate import OVER, UNTOLD, WITHIN, judge
from tools.latency.stages import TOTAL


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


# --- gate ---


def test_over_within_and_too_few() -> None:
    many, few = [10.0] * 40, [10.0] * 5
    assert [judge("stt", many, budget).result for budget in (10.0, 9.9)] == [WITHIN, OVER]
    assert [judge("stt", few, budget).result for budget in (10.0, 9.9)] == [UNTOLD, OVER]
    assert judge("stt", few, 9.9).interval == (10.0, None), "all of five are over: so is the p95"
    assert judge("stt", [10.0], 9.9).result == UNTOLD


def budget(folder: Path, text: str) -> tuple[str, str]:
    path = folder / "budget.toml"
    path.write_text(text)
    return "--budget", str(path)


def test_a_gate_that_holds(timmy: Timmy, tmp_path: Path) -> None:
    out = timmy("gate", *budget(tmp_path, "[p95_ms]\nrecall = 31\ntotal = 1100\n"), "--session", "new")
    titles, recall, *_ = out.splitlines()
    assert titles.split() == ["stage", "n", "p95", "95%", "interval", "budget", "result"]
    assert recall.split() == ["recall", "45", "31.0", "[31.0,", "-]", "31", "within,", "by", "0.0", "ms"]


def test_a_gate_that_does_not(timmy: Timmy, tmp_path: Path) -> None:
    given = budget(tmp_path, "[p95_ms]\nrecall = 30.5\ntotal = 1100\n")
    assert "over, by 0.5 ms" in timmy("gate", *given, "--session", "new", status=1)
    out = json.loads(timmy("gate", *given, "--session", "new", "--json", status=1))
    assert out["turns"] == 45
    assert out["stages"]["recall"] == {
        "n": 45, "p95_ms": 31.0, "interval_ms": [31.0, None], "budget_ms": 30.5, "result": OVER,
    }  # fmt: skip


def test_a_gate_that_cannot_tell_does_not_pass(timmy: Timmy, tmp_path: Path) -> None:
    given = budget(tmp_path, "[p95_ms]\nrecall = 31\n")
    assert "n too small: p95 needs 40 turns" in timmy("gate", *given, "--session", "few", status=EXIT_TEMPORARY)
    given = budget(tmp_path, "[p95_ms]\nrecall = 8\ntotal = 1100\n")
    assert "over, although n is too small" in timmy("gate", *given, "--session", "few", status=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[p95_ms]\nrecal = 30\n", "p95_ms.recal: there is no such stage; did you mean recall?"),
        ("[p95_ms]\nxyz = 30\n", "there is no such stage; the stages are endpoint, stt,"),
        ("[p95_ms]\nrecall = 0\n", "p95_ms.recall = 0: a budget is a number of ms over 0"),
        ("[p95_ms]\nrecall = -3\n", "a budget is a number of ms over 0"),
        ("[p95_ms]\nrecall = nan\n", "a budget is a number of ms over 0"),
        ("[p95_ms]\nrecall = inf\n", "a budget is a number of ms over 0"),
        ("[p95_ms]\nrecall = true\n", "a budget is a number of ms over 0"),
        ('[p95_ms]\nrecall = "30"\n', "a budget is a number of ms over 0"),
        ("[p95_ms]\n", "no budgets: write [p95_ms]"),
        ("p95_ms = 3\n", "no budgets: write [p95_ms]"),
        ("", "no budgets: write [p95_ms]"),
        ("[p99_ms]\nrecall = 3\n", "there is no [p99_ms]: budgets stand under [p95_ms]"),
        ("recall = 3\n", "there is no [recall]: budgets stand under [p95_ms]"),
        ("[p95_ms\n", "not TOML"),
        ("\udcff", "not TOML"),
    ],
)
def test_a_file_that_holds_no_budgets(timmy: Timmy, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "budget.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    timmy("gate", "--budget", str(path), status=EXIT_CONFIG)
    assert words in timmy.err
    assert timmy.err.count("\n") == 1


def test_a_file_of_budgets_that_is_not_there(timmy: Timmy, tmp_path: Path) -> None:
    timmy("gate", "--budget", str(tmp_path / "none.toml"), status=EXIT_NO_INPUT)
    assert "none.toml: No such file or directory" in timmy.err


# --- summary ---


def test_a_summary_of_turns(timmy: Timmy) -> None:
    titles, *rows = timmy("summary", "--session", "new").splitlines()
    assert titles.split() == ["stage", "n", "mean", "p50", "p90", "p95", "p99", "max", "share", "slowest"]
    recall = next(row for row in rows if row.startswith("recall"))
    total = sum(DELAYS.values()) + 21
    assert recall.split() == f"recall 45 30.0 30.0 31.0 31.0 - 31.0 {30 / total:.1%} {31 / (total + 1):.1%}".split()
    assert rows[-1] == "45 complete turns"


def test_a_summary_for_programs(timmy: Timmy) -> None:
    out = timmy.json("summary", "--session", "old")
    assert (out["turns"], out["left_out"]) == (45, 1)
    recall = out["stages"]["recall"]
    assert recall["p50_ms"] == 10.0
    assert recall["p99_ms"] is None
    assert recall["intervals_ms"]["p95"] == [11.0, None]
    assert sum(row["share"] for name, row in out["stages"].items() if name != TOTAL) == pytest.approx(1, abs=0.002)


def test_what_is_hidden_in_the_silence_takes_time_and_costs_nothing(timmy: Timmy, tmp_path: Path) -> None:
    timmy.folder = tmp_path / "held"
    timmy.folder.mkdir()
    with House(timmy.folder) as house:
        for _ in range(4):
            house.turn({"llm_first_token": 60.0, "llm_first_clause": 30.0, "tts_synthesis": 20.0}, held=True)
    recall = timmy.json("summary")["stages"]["recall"]
    assert (recall["p50_ms"], recall["share"]) == (9.0, 0.0)


def test_a_summary_of_nothing(timmy: Timmy) -> None:
    timmy("summary", "--session", "none", status=EXIT_NO_INPUT)
    assert "no spoken question in these traces was answered aloud" in timmy.err
