"""What a turn owes to which technique."""

from __future__ import annotations

from typing import Any

import pytest

from daemons import config
from ipc.marks import Stage
from ipc.messages import Stages, TurnReport
from tools.bench.stacks import Outcome
from tools.bench.techniques import TECHNIQUES, first_turn, insights
from tools.latency.turns import Seen, Turn
from tools.recorded import TurnResult


def outcome(first_audio_ms: float | None, endpoint: float = 350, **counts: int) -> Outcome:
    parts = dict.fromkeys(Stages.__struct_fields__, 0.0) | {"endpoint": endpoint}
    stages = Stages(**parts)
    known: Any = {
        "prompt_tokens": 200,
        "cached_tokens": 150,
        "completion_tokens": 5,
        "memories": 1,
        "stable_tokens": 150,
    }
    report = TurnReport(
        conversation="home", turn=b"t" * 16, heard="x", said="y", outcome="answered", detail="",
        first_audio_ms=first_audio_ms, stages=stages if first_audio_ms else None, **known | counts,
    )  # fmt: skip
    return Outcome("x", "y", True, None, turn=TurnResult(report, None))


def sounded(total_ms: float | None) -> Outcome:
    return Outcome("x", "y", True, None if total_ms is None else {"all of it": total_ms})


def test_what_is_left_when_the_turn_is_confirmed() -> None:
    found = insights([outcome(450), outcome(480), outcome(1200, endpoint=700), outcome(None)], [])
    assert found["after_confirmation_ms"] == {"p50": 130, "p90": pytest.approx(426)}


def test_a_start_counts_as_cached_when_all_of_it_was() -> None:
    turns = [
        outcome(450),
        outcome(450, cached_tokens=142),
        outcome(450, cached_tokens=141),
        outcome(450, stable_tokens=0),
    ]
    assert insights(turns, [])["start_of_prompt_cached"] == {"turns": 2, "of": 4}


def traced(*transcript_ms: int, rid: bytes = b"t" * 16) -> Turn:
    """A candidate at 200 ms for each revision, whose text is there at `transcript_ms`."""
    marks = []
    for revision, at_ms in enumerate(transcript_ms, 1):
        start_ns = revision * 10**9
        marks.append(Seen(start_ns + 200_000_000, Stage.ENDPOINT_CANDIDATE, "stt", revision))
        marks.append(Seen(start_ns + at_ms * 1_000_000, Stage.TRANSCRIPT, "stt", revision))
    return Turn(rid, b"h" * 16, 0.0, 1, False, "answered", None, (), (), tuple(sorted(marks)))


def test_the_wait_for_the_words_is_that_of_the_last_candidate() -> None:
    turns = [traced(900, 250), traced(150), traced(), traced(900, rid=b"o" * 16)]
    found = insights([outcome(450)], turns)["transcript_after_candidate_ms"]
    assert found == {"p50": 25, "p90": pytest.approx(45), "n": 2}
    assert insights([outcome(450)], [])["transcript_after_candidate_ms"] is None


def test_without_a_sound_nothing_is_made_up() -> None:
    found = insights([outcome(None)], [])
    assert found["after_confirmation_ms"] is None
    assert first_turn(sounded(None), [sounded(450)]) is None
    assert first_turn(sounded(450), [sounded(None)]) is None


def test_the_first_turn_is_compared_with_the_same_question_later() -> None:
    later = [sounded(400), sounded(None), sounded(420)]
    assert first_turn(sounded(480), later) == {"ms": 480, "later_ms": 410, "n": 2}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_leaving_a_technique_out_is_a_setting_that_is_not_the_default(name: str) -> None:
    assert config.load({"HOME": "/nowhere", **TECHNIQUES[name]}) != config.load({"HOME": "/nowhere"})
