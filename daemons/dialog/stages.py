"""Where a turn's time went. Every stage ends where the next one begins, so that they add up to the total."""

from __future__ import annotations

from dataclasses import dataclass

from ipc.messages import Stages


@dataclass(slots=True)
class Timeline:
    """Moments of one turn, monotonic ns; 0: not (yet) reached. Names ending in `_sent` and `_back` are read
    by dialog, the others by the daemon that does the work; one clock serves all processes of a host."""

    last_voiced: int = 0
    endpoint: int = 0
    transcript: int = 0
    final_sent: int = 0
    final_back: int = 0
    recall_sent: int = 0
    recall_received: int = 0
    recall_finished: int = 0
    recall_back: int = 0
    model_sent: int = 0
    model_received: int = 0
    first_token: int = 0
    first_token_back: int = 0
    first_clause_sent: int = 0
    first_clause_received: int = 0
    first_sample: int = 0


def first_audio_ms(line: Timeline) -> float | None:
    """Last voiced sample to first audible sample, if the turn came that far."""
    if not (line.last_voiced and line.first_sample):
        return None
    return (line.first_sample - line.last_voiced) / 1e6


def stages(line: Timeline) -> Stages | None:
    """The shares of `first_audio_ms`, or None for a turn that skipped a stage."""
    total = first_audio_ms(line)
    passed = (line.recall_finished, line.model_received, line.first_token, line.first_clause_received)
    if total is None or not all(passed):
        return None
    heard = max(line.endpoint, line.transcript)
    parts = {
        "endpoint": line.endpoint - line.last_voiced,
        "stt": heard - line.endpoint,
        "recall": line.recall_finished - line.recall_received,
        "llm_first_token": line.first_token - line.model_received,
        "llm_first_clause": line.first_clause_sent - line.first_token_back,
        "tts_first_audio": line.first_sample - line.first_clause_received,
        "ipc": _hops(line),
    }
    shares = {name: ns / 1e6 for name, ns in parts.items()}
    return Stages(**shares, unaccounted=total - sum(shares.values()))


def _hops(line: Timeline) -> int:
    """Time on the wire: from each send to its receipt, there and back."""
    return (
        (line.final_back - line.final_sent)
        + (line.recall_received - line.recall_sent)
        + (line.recall_back - line.recall_finished)
        + (line.model_received - line.model_sent)
        + (line.first_token_back - line.first_token)
        + (line.first_clause_received - line.first_clause_sent)
    )
