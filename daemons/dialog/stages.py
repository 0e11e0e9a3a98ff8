"""Where a turn's time went: the stages and what none of them explains add up to the total."""

from __future__ import annotations

from dataclasses import dataclass

from ipc.messages import Stages, TurnFinal
from ipc.shares import divide


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

    def confirmed(self, event: TurnFinal, now_ns: int) -> None:
        """The end of the turn has come, read at `now_ns`."""
        self.last_voiced, self.endpoint, self.transcript = event.last_voiced_ns, event.endpoint_ns, event.transcript_ns
        self.final_sent, self.final_back = event.sent_ns, now_ns


def first_audio_ms(line: Timeline) -> float | None:
    """Last voiced sample to first audible sample, if the turn came that far."""
    if not (line.last_voiced and line.first_sample):
        return None
    return (line.first_sample - line.last_voiced) / 1e6


def stages(line: Timeline) -> Stages | None:
    """The shares of `first_audio_ms`, or None for a turn that skipped a stage.

    Until the end of the turn is confirmed all belongs to `endpoint`, since nothing could sound before: work that was
    done in that silence costs nothing."""
    total = first_audio_ms(line)
    passed = (line.recall_finished, line.model_received, line.first_token, line.first_clause_received)
    if total is None or total < 0 or not all(passed):
        return None
    shares = dict.fromkeys(Stages.__struct_fields__, 0)
    legs = _legs(line)
    for piece in divide([leg[1:] for leg in legs], line.last_voiced, line.first_sample):
        shares["unaccounted" if piece.leg is None else legs[piece.leg][0]] += piece.end - piece.start
    return Stages(**{name: ns / 1e6 for name, ns in shares.items()})


def _legs(line: Timeline) -> list[tuple[str, int, int]]:
    """What happened between the moments, the more telling first. On the wire: from each send to its receipt."""
    return [
        ("endpoint", line.last_voiced, line.endpoint),
        ("stt", line.endpoint, line.transcript),
        ("ipc", line.final_sent, line.final_back),
        ("ipc", line.recall_sent, line.recall_received),
        ("recall", line.recall_received, line.recall_finished),
        ("ipc", line.recall_finished, line.recall_back),
        ("ipc", line.model_sent, line.model_received),
        ("llm_first_token", line.model_received, line.first_token),
        ("ipc", line.first_token, line.first_token_back),
        ("llm_first_clause", line.first_token_back, line.first_clause_sent),
        ("ipc", line.first_clause_sent, line.first_clause_received),
        ("tts_first_audio", line.first_clause_received, line.first_sample),
    ]
