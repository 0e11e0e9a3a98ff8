"""When the model had to read again what it should have known."""

from __future__ import annotations

import pytest

from daemons.dialog.reading import TAIL_TOKENS, miss
from ipc.messages import TurnReport


def told(prompt: int, cached: int, stable: int) -> TurnReport:
    return TurnReport(
        conversation="home", turn=b"t" * 16, heard="x", said="y", outcome="answered", detail="", first_audio_ms=None,
        stages=None, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=3, memories=0, stable_tokens=stable,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (told(prompt=200, cached=150, stable=150), ""),
        (told(prompt=200, cached=150 - TAIL_TOKENS, stable=150), ""),
        (told(prompt=200, cached=149 - TAIL_TOKENS, stable=150), "another prompt"),
        (told(prompt=200, cached=0, stable=150), "another run of llm"),
        (told(prompt=200, cached=150, stable=0), "not been read to its end"),
        (told(prompt=0, cached=0, stable=0), ""),
    ],
)
def test_a_miss_is_explained(report: TurnReport, reason: str) -> None:
    assert reason in miss(report)
    assert bool(reason) == bool(miss(report))
