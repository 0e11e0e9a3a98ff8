"""The stages of a turn add up to its total, whatever the times."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from daemons.dialog.stages import Timeline, first_audio_ms, stages

FIELDS = tuple(Timeline.__dataclass_fields__)
MS = 1_000_000


@given(st.lists(st.integers(1, 2000 * MS), min_size=len(FIELDS), max_size=len(FIELDS)))
def test_the_parts_make_the_whole(times: list[int]) -> None:
    line = Timeline(**dict(zip(FIELDS, times, strict=True)))
    line.first_sample += line.last_voiced
    total, parts = first_audio_ms(line), stages(line)
    assert total is not None
    assert parts is not None
    assert abs(sum(msgspec.structs.astuple(parts)) - total) < 1e-6


def test_each_stage_has_its_share() -> None:
    """One millisecond more for each step than for the one before, so that no two can be exchanged unseen."""
    line = Timeline(**{name: sum(range(i + 2)) * MS for i, name in enumerate(FIELDS)})
    parts = stages(line)
    assert parts is not None
    assert parts.endpoint == 2
    assert parts.stt == 3
    assert parts.recall == 8
    assert parts.llm_first_token == 12
    assert parts.llm_first_clause == 14
    assert parts.tts_first_audio == 16
    assert parts.ipc == 5 + 7 + 9 + 11 + 13 + 15
    assert round(parts.unaccounted, 6) == 4 + 6 + 10


def test_work_in_the_silence_costs_nothing() -> None:
    line = Timeline(**{name: (i + 1) * 10 * MS for i, name in enumerate(FIELDS)})
    line.endpoint, line.transcript = line.first_clause_received - 3 * MS, line.last_voiced + MS
    line.final_sent = line.endpoint + MS
    line.final_back = line.endpoint + 2 * MS
    parts = stages(line)
    assert parts is not None
    assert (parts.recall, parts.llm_first_token, parts.llm_first_clause, parts.stt) == (0, 0, 0, 0)
    assert (round(parts.ipc, 6), parts.tts_first_audio) == (3, 10)


def test_a_turn_that_made_no_sound_has_no_figure() -> None:
    assert first_audio_ms(Timeline(last_voiced=1)) is None
    assert stages(Timeline(last_voiced=1)) is None


def test_a_turn_that_skipped_a_stage_has_a_total_but_no_shares() -> None:
    line = Timeline(last_voiced=1 * MS, first_sample=5 * MS)
    assert first_audio_ms(line) == 4
    assert stages(line) is None


def test_an_apology_for_a_model_without_a_token_has_no_shares() -> None:
    line = Timeline(**{name: (i + 1) * MS for i, name in enumerate(FIELDS)})
    line.first_token = line.first_token_back = 0
    assert stages(line) is None
