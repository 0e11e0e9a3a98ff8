"""The figures agree with a stopwatch: a recorder that knows nothing of the daemons."""

from __future__ import annotations

import pytest

from tools.bench import truth

TURNS = 20
OFFSET_MAX_MS = 15.0
"""More than half a frame and the card's own blocks come to is an error of a clock, and no way through a card."""


@pytest.mark.models
@pytest.mark.sound
def test_the_trace_agrees_with_a_recording_of_the_conversation() -> None:
    figures = truth.compare(truth.measure(truth.OFFSET_TURNS + TURNS), truth.OFFSET_TURNS)
    assert figures["compared"] == TURNS, figures
    assert figures["agrees"], figures
    assert abs(figures["offset_ms"]) < OFFSET_MAX_MS, figures
