"""The arithmetic of `timmy bench turn`, with figures that are known beforehand, and what it asks."""

from __future__ import annotations

import dataclasses
import random
import sys
from array import array
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from ipc.audio import FRAME_BYTES, FRAME_MS, FRAME_NS
from ipc.messages import Stages
from tools.bench import comparison, questions, stages
from tools.bench.comparison import figures_of, ratio, ratios, spread, table
from tools.bench.old import END_SILENCE_MS
from tools.bench.old.replies import Listened, Processed, Spoken
from tools.bench.old.stt_service import Endpointer
from tools.bench.questions import Question
from tools.bench.stacks import Outcome
from tools.cli import cli

MS = 1_000_000
SPOKEN = Spoken(
    received_ns=2005 * MS,
    paused_ns=2012 * MS,
    waited_ns=2212 * MS,
    synthesized_ns=2892 * MS,
    opened_ns=2893 * MS,
    first_sample_ns=2898 * MS,
)
PROCESSED = Processed(
    received_ns=1046 * MS,
    classified_ns=1078 * MS,
    stored_ns=1500 * MS,
    recalled_ns=1528 * MS,
    answered_ns=2000 * MS,
    sent_ns=2003 * MS,
    said="On Tuesday.",
    memories=["the plumber comes on Tuesday at nine."],
    prompt_tokens=850,
    cached_tokens=10,
    spoken=SPOKEN,
)
LISTENED = Listened(
    last_voiced_ns=0,
    endpoint_ns=500 * MS,
    transcribed_ns=1000 * MS,
    sent_ns=1040 * MS,
    heard="When does the plumber come?",
    processed=PROCESSED,
)
PLUMBER = Question("When does the plumber come?", "the plumber comes", "")
FRANCE = Question("What is the capital of France?", "", "")


def outcome(total_ms: float | None, **changes: Any) -> Outcome:
    rows = None if total_ms is None else dict.fromkeys(stages.TITLES, 0.0) | {"llm": total_ms}
    return dataclasses.replace(Outcome("", "", total_ms is not None, rows), **changes)


def changed(**changes: Any) -> Listened:
    return msgspec.structs.replace(LISTENED, processed=msgspec.structs.replace(PROCESSED, **changes))


def test_the_rows_of_the_old_architecture_are_what_lies_between_its_moments() -> None:
    assert stages.of_old(LISTENED) == {
        "endpoint": 500,
        "stt": 500,
        "hops": 6 + 2,
        "classification": 32,
        "retrieval": 450,
        "llm": 472,
        "synthesis": 680,
        "pause": 7,
        "audio_setup": 200 + 6,
        "other": 40 + 3,
    }


def test_the_rows_add_up_to_the_whole() -> None:
    rows = stages.of_old(LISTENED)
    assert rows is not None
    assert sum(rows.values()) == pytest.approx(2898)
    ours = Stages(
        endpoint=502,
        stt=1.5,
        recall=9,
        llm_first_token=126,
        llm_first_clause=80,
        tts_first_audio=109,
        ipc=4.5,
        unaccounted=0.25,
    )
    assert sum(stages.of_timmy(ours).values()) == pytest.approx(sum(msgspec.structs.astuple(ours)))
    assert set(stages.of_timmy(ours)) == set(rows) == set(stages.TITLES)


@pytest.mark.parametrize(
    "silent",
    [
        msgspec.structs.replace(LISTENED, processed=None),
        changed(spoken=None),
        changed(spoken=msgspec.structs.replace(SPOKEN, first_sample_ns=0)),
    ],
)
def test_without_a_sound_there_are_no_rows(silent: Listened) -> None:
    assert stages.of_old(silent) is None


def test_spread() -> None:
    assert spread([7.0]) == {"p50": 7.0, "p90": 7.0}
    assert spread([float(value) for value in range(1, 12)]) == {"p50": 6.0, "p90": 10.0}


def test_a_ratio_that_is_the_same_for_every_question_has_no_width() -> None:
    ours = [500.0, 700.0, 900.0, 1100.0]
    row = ratio([12 * ms for ms in ours], ours)
    assert row["ratio"] == row["low"] == row["high"] == 12
    assert row["pairs"] == 4


def test_a_ratio_is_of_the_medians_and_its_interval_holds_it() -> None:
    others, ours = [9000.0, 5000.0, 7000.0], [1000.0, 500.0, 2000.0]
    row = ratio(others, ours)
    assert row["ratio"] == 7
    assert 3.5 <= row["low"] < 7 < row["high"] <= 10
    assert ratio(others, ours) == row
    assert ratio(others, ours, seed=1)["ratio"] == 7


def test_the_interval_covers_the_truth_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 pairs whose true ratio is 10, 60 times."""
    monkeypatch.setattr(comparison, "RESAMPLES", 200)
    chance = random.Random(5)
    covered = 0
    for _ in range(60):
        ours = [chance.lognormvariate(0, 0.3) for _ in range(40)]
        row = ratio([10 * chance.lognormvariate(0, 0.3) for _ in ours], ours)
        covered += row["low"] <= 10 <= row["high"]
    assert covered >= 50


def test_pairs_of_which_one_did_not_sound_are_left_out() -> None:
    assert ratio([10.0, None, 30.0], [1.0, 1.0, None])["pairs"] == 1
    with pytest.raises(click.ClickException, match="no question was answered by both"):
        ratio([None], [1.0])


def test_the_others_are_compared_with_ours_if_that_was_asked() -> None:
    both = {"timmy": [outcome(500)], "http-new": [outcome(6000)], "http-pooled": [outcome(5000)]}
    assert {name: row["ratio"] for name, row in ratios(both).items()} == {"http-new/timmy": 12, "http-pooled/timmy": 10}
    assert ratios({"http-new": [outcome(6000)]}) == {}
    assert ratios({"timmy": [outcome(500)]}) == {}


def test_the_figures_of_a_stack() -> None:
    outcomes = [
        outcome(100, memories=("The plumber comes on Tuesday.", "a"), prompt_tokens=800, cached_tokens=10),
        outcome(300, memories=("the piano tuner comes",), prompt_tokens=900, cached_tokens=30),
        outcome(None),
        outcome(200, memories=("the plumber comes at nine.",), prompt_tokens=700, cached_tokens=20),
    ]
    figures = figures_of("timmy", outcomes, [PLUMBER, PLUMBER, PLUMBER, FRANCE])
    assert figures["speech_end_to_first_audio_ms"] == {"p50": 200, "p90": 280}
    assert figures["stages_ms"]["llm"] == {"p50": 200, "p90": 280, "mean": 200}
    assert (figures["turns"], figures["answered"]) == (4, 3)
    assert figures["right_memory_in_prompt"] == {"turns": 1, "of": 3, "memories_p50": 1}
    assert figures["prompt_tokens"] == {"p50": 750, "cached_p50": 15, "cached_max": 30}
    with pytest.raises(click.ClickException, match="spoken answer from timmy"):
        figures_of("timmy", [outcome(None)], [FRANCE])


def test_the_table_has_the_columns_of_the_write_up_and_its_stages_add_up() -> None:
    rows = {
        "http-new": dict.fromkeys(stages.TITLES, 0.0) | {"llm": 5900.0, "audio_setup": 200.0},
        "http-pooled": dict.fromkeys(stages.TITLES, 0.0) | {"llm": 5700.0, "audio_setup": 200.0},
        "timmy": dict.fromkeys(stages.TITLES, 0.0) | {"llm": 250.0},
    }
    stacks = {
        name: figures_of(name, [outcome(1, stages_ms=rows[name])], [FRANCE])
        for name in ("timmy", "http-pooled", "http-new")
    }
    titles, lines = table(stacks)
    assert titles == ["ms", "before: http-new", "pooled: http-pooled", "now: timmy", "factor"]
    shown = {line[0]: line[1:] for line in lines}
    assert shown["LLM"] == ["5900", "5700", "250", "23.6"]
    assert shown["audio set-up"] == ["200", "200", "0", "gone"]
    assert shown["classification"] == ["0", "0", "0", ""]
    assert shown["mean to first audio"] == ["6100", "5900", "250", "24.4"]
    for column in range(3):
        assert sum(int(line[1 + column]) for line in lines[: len(stages.TITLES)]) == int(lines[-3][1 + column])
    assert table({"http-new": stacks["http-new"]})[0] == ["ms", "before: http-new"]


def test_a_turn_ends_half_a_second_after_its_last_voiced_frame() -> None:
    ear = Endpointer()
    voiced = [True, False, False, False, False] + [True] * 20 + [False] * 10 + [True] + [False] * 50
    frame = array("h", FRAME_BYTES // 4 * [1000] + FRAME_BYTES // 4 * [0]).tobytes()
    over = [ear.over(is_voiced, number * FRAME_NS, frame) for number, is_voiced in enumerate(voiced)]
    last = 5 + 20 + 10
    assert ear.last_voiced_ns == last * FRAME_NS + FRAME_NS // 2
    assert over.index(True) - last == END_SILENCE_MS // FRAME_MS


def test_a_click_is_no_turn() -> None:
    ear = Endpointer()
    assert not any(ear.over(number % 10 == 0, number * FRAME_NS, b"\1\0") for number in range(200))
    assert ear.last_voiced_ns == 0


def test_what_is_asked() -> None:
    asked, told = questions.questions(), questions.memories()
    assert len({question.text for question in asked}) == len(asked) >= 8
    assert len(told) == 200
    for question in asked:
        assert sum(text.startswith(question.memory) for text in told) == (1 if question.memory else 200)
        assert not question.recording or (questions.EXAMPLES / question.recording).is_file()
    assert "{name}" in questions.persona()


def test_an_unknown_stack_is_named() -> None:
    result = CliRunner().invoke(cli, ["bench", "turn", "--stack", "timmy,grpc"])
    assert result.exit_code == 2
    assert "'grpc' is not one of timmy, http-pooled, http-new" in result.stderr


def test_the_http_stacks_say_which_package_they_lack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    result = CliRunner().invoke(cli, ["bench", "turn", "--stack", "http-new"])
    assert result.exit_code == 1
    assert result.stderr == "Error: the HTTP stacks need the requests package: pip install requests\n"
