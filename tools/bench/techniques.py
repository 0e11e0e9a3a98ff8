"""What makes a turn fast, and how to leave each out to see what it brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools.bench.comparison import spread
from tools.bench.stacks import Outcome

TECHNIQUES: Mapping[str, Mapping[str, str]] = {
    "early-work": {"TIMMY_DIALOG_EARLY_WORK": "false"},
    "foresight": {"TIMMY_DIALOG_FORESIGHT": "false"},
    "quick-endpoint": {"TIMMY_STT_ENDPOINTING": "calm"},
}
"""The settings of a house without it."""

TAIL_TOKENS = 8
"""What a chat template puts after the last message: there a longer prompt goes on differently."""


def insights(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Of this suite's own turns: what is left of a turn when its end is confirmed (ms), and how often the model had the
    whole unchanging start of the prompt in its cache."""
    reports = [outcome.turn.report for outcome in outcomes if outcome.turn]
    after = [
        report.first_audio_ms - report.stages.endpoint
        for report in reports
        if report.first_audio_ms is not None and report.stages
    ]
    whole = [0 < report.stable_tokens <= report.cached_tokens + TAIL_TOKENS for report in reports]
    totals = [report.first_audio_ms for report in reports if report.first_audio_ms is not None]
    return {
        "after_confirmation_ms": spread(after) if after else None,
        "start_of_prompt_cached": {"turns": sum(whole), "of": len(whole)},
        "first_turn_ms": totals[0] if totals else None,
    }
