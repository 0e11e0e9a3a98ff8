"""Where the time of a turn went, in the rows of the write-up that this suite follows, for any of the stacks.

The rows of a turn add up to the time from the last voiced sample to the first audible one.
"""

from __future__ import annotations

from ipc.messages import Stages
from tools.bench.old.replies import Listened

TITLES = {
    "endpoint": "end-of-turn silence",
    "stt": "STT finalization",
    "hops": "hops between the processes",
    "classification": "classification",
    "retrieval": "storing and retrieval",
    "llm": "LLM",
    "synthesis": "synthesis",
    "pause": "pause of the listener",
    "audio_setup": "audio set-up",
    "other": "other",
}


def of_timmy(stages: Stages) -> dict[str, float]:
    """In ms. Classifying, storing and muting come after the first sound here; the device is open already."""
    return {
        "endpoint": stages.endpoint,
        "stt": stages.stt,
        "hops": stages.ipc,
        "classification": 0.0,
        "retrieval": stages.recall,
        "llm": stages.llm_first_token + stages.llm_first_clause,
        "synthesis": stages.tts_first_audio,
        "pause": 0.0,
        "audio_setup": 0.0,
        "other": stages.unaccounted,
    }


def of_old(listened: Listened) -> dict[str, float] | None:
    """In ms; None where nothing sounded."""
    processed = listened.processed
    spoken = processed.spoken if processed else None
    if processed is None or spoken is None or not spoken.first_sample_ns:
        return None
    spans = {
        "endpoint": listened.endpoint_ns - listened.last_voiced_ns,
        "stt": listened.transcribed_ns - listened.endpoint_ns,
        "hops": (processed.received_ns - listened.sent_ns) + (spoken.received_ns - processed.sent_ns),
        "classification": processed.classified_ns - processed.received_ns,
        "retrieval": processed.recalled_ns - processed.classified_ns,
        "llm": processed.answered_ns - processed.recalled_ns,
        "synthesis": spoken.synthesized_ns - spoken.waited_ns,
        "pause": spoken.paused_ns - spoken.received_ns,
        "audio_setup": (spoken.waited_ns - spoken.paused_ns) + (spoken.first_sample_ns - spoken.synthesized_ns),
    }
    total = spoken.first_sample_ns - listened.last_voiced_ns
    return {name: ns / 1e6 for name, ns in {**spans, "other": total - sum(spans.values())}.items()}
