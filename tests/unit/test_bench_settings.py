"""What `timmy bench settings` makes of its outcomes."""

from __future__ import annotations

import click
import pytest

from tools.bench import settings
from tools.bench.questions import Question
from tools.bench.settings import AS_IT_IS, VARIANTS, median_interval, row
from tools.bench.stacks import Outcome
from tools.bench.stages import TITLES

ASKED = [Question("Where is the key?", "the key is", ""), Question("What is the capital?", "", "")]


def outcome(total_ms: float | None, *memories: str) -> Outcome:
    stages = None if total_ms is None else {**dict.fromkeys(TITLES, 0.0), next(iter(TITLES)): total_ms}
    return Outcome("heard", "said", total_ms is not None, stages, memories, 100, 90)


def test_a_variant_is_compared_question_by_question() -> None:
    usual = [outcome(500), outcome(900)]
    found = row([outcome(620, "The key is under the pot."), outcome(1000)], usual, ASKED)
    assert found["first_audio_ms"]["p50"] == 810
    assert found["more_ms"]["p50"] == 110
    assert (found["more_ms"]["low"], found["more_ms"]["high"]) == (100, 120)
    assert found["right_memory_in_prompt"]["turns"] == found["right_memory_in_prompt"]["of"] == 1


def test_a_question_without_sound_is_left_out_of_the_comparison() -> None:
    assert row([outcome(None), outcome(1000)], [outcome(500), outcome(900)], ASKED)["more_ms"]["p50"] == 100
    with pytest.raises(click.ClickException, match="no question sounded with both"):
        row([outcome(None), outcome(1000)], [outcome(500), outcome(None)], ASKED)


def test_the_interval_is_wide_where_the_values_are() -> None:
    wide, narrow = median_interval([float(n) for n in range(41)]), median_interval([20.0] * 40 + [900.0])
    assert wide["low"] < wide["p50"] == 20 < wide["high"]
    assert narrow == {"p50": 20, "low": 20, "high": 20}


def test_every_variant_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {name: row([outcome(620), outcome(1000)], [outcome(500), outcome(900)], ASKED) for name in VARIANTS}
    words = {"models": {"tiny.en": {"percent": 4.5, "ms": 80.0}}, "clips": 81, "source": "recorded prompts"}
    settings.show({"variants": rows, "words": words, "n": 2, "seed": 20})
    printed = capsys.readouterr().out
    assert all(name in printed for name in VARIANTS)
    assert "+110 (+100 to +120)" in printed
    assert "+110" not in next(line for line in printed.splitlines() if line.startswith(AS_IT_IS))
    assert "tiny.en  4.5 %" in printed
