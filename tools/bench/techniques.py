"""What makes a turn fast, and how to leave each out to see what it brings."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ipc.marks import Stage
from tools.bench.comparison import spread
from tools.bench.stacks import Outcome
from tools.latency.turns import Turn

TECHNIQUES: Mapping[str, Mapping[str, str]] = {
    "early-work": {"TIMMY_DIALOG_EARLY_WORK": "false"},
    "quick-endpoint": {"TIMMY_STT_ENDPOINTING": "calm"},
    "short-context": {"TIMMY_STT_SHORT_CONTEXT": "false"},
    "drafts": {"TIMMY_STT_DRAFTS": "false"},
    "foresight": {"TIMMY_DIALOG_FORESIGHT": "false"},
    "prefix-cache": {"TIMMY_LLM_PREFIX_CACHE": "false", "TIMMY_DIALOG_FORESIGHT": "false"},
    "short-clause": {"TIMMY_DIALOG_FIRST_CLAUSE_WORDS": "25"},
    "pieces": {"TIMMY_TTS_PIECES": "false"},
}
"""The settings of a house without it. Without a cache a prompt that is read ahead is only in the way."""

TAIL_TOKENS = 8
"""What a chat template puts after the last message: there a longer prompt goes on differently."""


def insights(outcomes: Sequence[Outcome], traced: Iterable[Turn]) -> dict[str, Any]:
    """Of this suite's own turns: what is left of a turn when its end is confirmed (ms), how long the words of its last
    candidate are awaited (ms), and how often the model had the whole unchanging start of the prompt in its cache.
    `traced` may hold other turns, too."""
    reports = [outcome.turn.report for outcome in outcomes if outcome.turn]
    after = [
        report.first_audio_ms - report.stages.endpoint
        for report in reports
        if report.first_audio_ms is not None and report.stages
    ]
    whole = [0 < report.stable_tokens <= report.cached_tokens + TAIL_TOKENS for report in reports]
    rids = {report.turn for report in reports}
    waits = [wait for turn in traced if turn.rid in rids and (wait := _transcript_wait_ms(turn)) is not None]
    return {
        "after_confirmation_ms": spread(after) if after else None,
        "transcript_after_candidate_ms": {**spread(waits), "n": len(waits)} if waits else None,
        "start_of_prompt_cached": {"turns": sum(whole), "of": len(whole)},
    }


def first_turn(first: Outcome, again: Sequence[Outcome]) -> dict[str, float] | None:
    """How long the first turn of a house took, and the same question later (median over the rounds); None when nothing
    sounded."""
    later = [outcome.total_ms for outcome in again if outcome.total_ms is not None]
    if first.total_ms is None or not later:
        return None
    return {"ms": first.total_ms, "later_ms": statistics.median(later), "n": len(later)}


def _transcript_wait_ms(turn: Turn) -> float | None:
    """From the silence of the last candidate to its text; 0 when the text was there before."""
    last = {mark.stage: mark.t_ns for mark in sorted(turn.marks) if mark.daemon == "stt"}
    silence, text = last.get(Stage.ENDPOINT_CANDIDATE), last.get(Stage.TRANSCRIPT)
    return None if silence is None or text is None else max(text - silence, 0) / 1e6
