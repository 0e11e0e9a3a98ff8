"""Marks become turns: what each stage had of the time to the first sound, whatever the marks are like."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.marks import OUTCOMES, Stage
from tests.support.traces import DELAYS, House
from tools.latency.reading import Losses, read_turns
from tools.latency.stages import LEGS, NAMES, STAGES, WAY
from tools.latency.turns import UNFINISHED, Hop, Seen, Turn, build, hops

MS = 1_000_000
RID, HOST = b"r" * 16, b"h" * 16

HELD: tuple[tuple[int, Stage, str, int], ...] = (
    (-1000, Stage.SPEECH_STARTED, "stt", 0),
    (0, Stage.LAST_VOICED, "stt", 1),
    (200, Stage.ENDPOINT_CANDIDATE, "stt", 1),
    (230, Stage.TRANSCRIPT, "stt", 1),
    (231, Stage.TEXT_SENT, "stt", 1),
    (232, Stage.HEARD, "dialog", 4),
    (233, Stage.RECALL_START, "dialog", 0),
    (234, Stage.RECEIVED, "memory", 1),
    (244, Stage.SENT, "memory", 1),
    (245, Stage.RECALL_END, "dialog", 2),
    (246, Stage.MODEL_SENT, "dialog", 0),
    (247, Stage.RECEIVED, "llm", 1),
    (300, Stage.FIRST_TOKEN, "llm", 0),
    (301, Stage.TOKEN_RECEIVED, "dialog", 0),
    (330, Stage.FIRST_CLAUSE, "dialog", 0),
    (331, Stage.CLAUSE_RECEIVED, "tts", 0),
    (350, Stage.ENDPOINT_CONFIRMED, "stt", 1),
    (351, Stage.TEXT_SENT, "stt", 1),
    (352, Stage.HEARD, "dialog", 4),
    (354, Stage.RELEASED, "tts", 0),
    (380, Stage.FIRST_AUDIO, "tts", 0),
    (390, Stage.PLAYBACK_STARTED, "tts", 0),
    (2000, Stage.ENDED, "dialog", 0),
)
"""A turn whose answer was begun at the candidate, and confirmed while its first audio was made."""


def seen(*rows: tuple[int, Stage, str, int]) -> list[Seen]:
    return [Seen(ms * MS, stage, daemon, arg) for ms, stage, daemon, arg in rows]


def turn_of(marks: list[Seen], notes: Mapping[str, str] | None = None) -> Turn:
    turn = build(RID, HOST, marks, notes or {}, 0)
    assert turn is not None
    return turn


def moved(stage: Stage, to_ms: int, rows: tuple[tuple[int, Stage, str, int], ...] = HELD) -> list[Seen]:
    return seen(*((to_ms if row[1] is stage else row[0], *row[1:]) for row in rows))


def shares(turn: Turn) -> dict[str, float]:
    """Only what has a share."""
    return {name: ms for name, ms in turn.shares_ms().items() if ms}


def test_every_leg_has_a_stage_and_lies_between_neighbours() -> None:
    assert set(LEGS.values()) <= set(NAMES)
    for start, end in LEGS:
        assert WAY.index(end) == WAY.index(start) + 1
    assert len({stage.name for stage in STAGES}) == len(STAGES)


def test_what_was_done_in_the_silence_costs_nothing() -> None:
    turn = turn_of(seen(*HELD))
    assert turn.complete
    assert shares(turn) == {"endpoint": 350, "tts_synthesis": 30, "tts_playout": 10}
    lengths = {span.stage: (span.end_ns - span.start_ns) / MS for span in turn.spans}
    assert (lengths["recall"], lengths["llm_first_token"], lengths["tts_synthesis"]) == (10, 53, 49)


def test_an_answer_that_was_ready_waits_for_the_confirmation_alone() -> None:
    assert shares(turn_of(moved(Stage.FIRST_AUDIO, 340))) == {
        "endpoint": 350,
        "ipc": 3,
        "tts_playout": 36,
        "unaccounted": 1,
    }


@pytest.mark.parametrize("typed", [False, True])
def test_the_stages_are_those_that_were_planted(tmp_path: Path, typed: bool) -> None:
    with House(tmp_path) as house:
        house.turn({"unaccounted": 3.0, "stt": 12.0, "recall": 77.0}, typed=typed)
    (turn,) = read_turns(tmp_path, Losses())
    expected = {**DELAYS, "unaccounted": 3.0, "stt": 12.0, "recall": 77.0}
    if typed:
        expected |= {"endpoint": 0, "stt": 0}
    assert {name: round(ms, 3) for name, ms in turn.shares_ms().items()} == expected
    assert turn.first_audio_ms == pytest.approx(sum(expected.values()))
    assert (turn.typed, turn.complete, turn.missing) == (typed, not typed, ())


def test_order_and_repetition_change_nothing() -> None:
    marks = seen(*HELD)
    shuffled = [*marks, *marks]
    random.Random(7).shuffle(shuffled)
    assert turn_of(shuffled) == turn_of(marks)


def test_an_earlier_attempt_that_was_revoked_explains_nothing() -> None:
    earlier = tuple((ms - 700, stage, daemon, arg) for ms, stage, daemon, arg in HELD[1:16])
    revoked = ((-300, Stage.RESUMED, "stt", 1), (-299, Stage.REVOKED, "dialog", 1))
    turn = turn_of(seen(*earlier, *revoked, *HELD))
    assert turn.shares_ms() == turn_of(seen(*HELD)).shares_ms()
    assert turn.origin_ns == 0
    assert turn.complete


def test_sound_after_the_first_changes_nothing() -> None:
    assert turn_of([*seen(*HELD), *seen((1500, Stage.PLAYBACK_STARTED, "tts", 0))]).first_audio_ms == 390


@pytest.mark.parametrize("point", [point for point in WAY if point.stage is not Stage.TEXT_SENT])
def test_a_missing_mark_is_named_and_its_time_is_not_explained(point: object) -> None:
    marks = [mark for mark in seen(*HELD) if (mark.stage, mark.daemon) != (point.stage, point.daemon)]  # type: ignore[attr-defined]
    turn = turn_of(marks)
    assert turn.missing == (f"{point.daemon}:{point.stage.name.lower()}",)  # type: ignore[attr-defined]
    assert not turn.complete
    assert sum(turn.shares_ms().values()) == turn.first_audio_ms == 390


def test_without_a_confirmation_the_silence_is_no_stage() -> None:
    turn = turn_of([mark for mark in seen(*HELD) if mark.stage is not Stage.ENDPOINT_CONFIRMED])
    assert turn.missing == ("stt:endpoint_confirmed",)
    assert "endpoint" not in shares(turn)


def test_a_turn_without_a_sound_has_no_shares() -> None:
    turn = turn_of([mark for mark in seen(*HELD) if mark.t_ns < 250 * MS])
    assert (turn.first_audio_ms, turn.outcome, turn.complete) == (None, UNFINISHED, False)
    assert not any(turn.shares_ms().values())
    assert "recall" in {span.stage for span in turn.spans}


@pytest.mark.parametrize(("number", "outcome"), [*enumerate(OUTCOMES), (99, UNFINISHED), (-1, UNFINISHED)])
def test_the_outcome_is_that_of_the_report(number: int, outcome: str) -> None:
    marks = [mark._replace(arg=number) if mark.stage is Stage.ENDED else mark for mark in seen(*HELD)]
    assert turn_of(marks).outcome == outcome


def test_what_is_no_turn() -> None:
    assert build(RID, HOST, seen((1, Stage.SENT, "dialog", 1), (2, Stage.RECEIVED, "llm", 1)), {}, 0) is None
    assert build(RID, HOST, [], {}, 0) is None


def test_figures_and_notes() -> None:
    rows = (*HELD, (299, Stage.PROMPT_TOKENS, "llm", 40), (299, Stage.CACHED_TOKENS, "llm", 30))
    turn = turn_of(seen(*rows), {"conversation": "home", "heard": "Where is the key?"})
    assert (turn.words, turn.memories, turn.prompt_tokens, turn.cached_tokens) == (4, 2, 40, 30)
    assert (turn.conversation, turn.heard) == ("home", "Where is the key?")


def test_hops_find_their_two_ends() -> None:
    turn = turn_of(
        seen(
            (10, Stage.HEARD, "dialog", 3),
            (11, Stage.SENT, "dialog", 1),
            (12, Stage.RECEIVED, "memory", 1),
            (13, Stage.SENT, "memory", 1),
            (14, Stage.SENT, "dialog", 1),
            (15, Stage.RECEIVED, "dialog", 1),
            (16, Stage.RECEIVED, "llm", 1),
            (17, Stage.RECEIVED, "tts", 1),
            (18, Stage.SENT, "llm", 2),
        )
    )
    assert hops(turn) == [
        Hop("dialog", "memory", 11 * MS, 12 * MS),
        Hop("memory", "dialog", 13 * MS, 15 * MS),
        Hop("dialog", "llm", 14 * MS, 16 * MS),
    ]


MARKS = st.lists(
    st.builds(
        Seen,
        st.integers(0, 10**9),
        st.sampled_from(list(Stage)),
        st.sampled_from(["stt", "dialog", "llm", "memory", "tts"]),
        st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=40,
)


@given(MARKS, st.booleans())
def test_any_marks_make_a_turn_whose_parts_are_the_whole_or_none(extra: list[Seen], whole: bool) -> None:
    marks = [*extra, *(seen(*HELD) if whole else [])]
    turn = build(RID, HOST, marks, {}, 0)
    if turn is None:
        assert not whole
        return
    hops(turn)
    total = turn.first_audio_ms
    if total is not None and total > 0:
        assert sum(turn.shares_ms().values()) == pytest.approx(total)
        assert all(ms >= 0 for ms in turn.shares_ms().values())
