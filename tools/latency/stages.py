"""The stages of a turn: what explains the time from the last voiced sample to the first sound.

Their order is the order in which they come. `TOTAL` is the sum of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ipc.marks import Stage

TOTAL = "total"
ENDPOINT = "endpoint"
IPC = "ipc"
UNACCOUNTED = "unaccounted"


@dataclass(frozen=True, slots=True)
class Definition:
    """A stage of a turn. `daemon` is who spends the time, empty where it is none of them alone."""

    name: str
    daemon: str
    meaning: str


STAGES = (
    Definition(ENDPOINT, "stt", "the silence that ends the turn, until it is confirmed"),
    Definition("stt", "stt", "the rest of the transcription, after that"),
    Definition("recall", "memory", "memories that matter are looked for"),
    Definition("prompt", "dialog", "the prompt is made, and the model daemon waited for"),
    Definition("llm_first_token", "llm", "the prompt is read, up to the first token of the answer"),
    Definition("llm_first_clause", "llm", "the first clause is written"),
    Definition("tts_synthesis", "tts", "its first audio is made"),
    Definition("tts_playout", "tts", "from there to the first sample at the device"),
    Definition(IPC, "", "on the wire, all hops together"),
    Definition(UNACCOUNTED, "", "what none of them explains"),
)
NAMES = tuple(stage.name for stage in STAGES)


class Point(NamedTuple):
    """A moment on the way to the first sound, and who marks it."""

    stage: Stage
    daemon: str


WAY = (
    Point(Stage.TEXT_SENT, "stt"),
    Point(Stage.HEARD, "dialog"),
    Point(Stage.RECALL_START, "dialog"),
    Point(Stage.RECEIVED, "memory"),
    Point(Stage.SENT, "memory"),
    Point(Stage.RECALL_END, "dialog"),
    Point(Stage.MODEL_SENT, "dialog"),
    Point(Stage.RECEIVED, "llm"),
    Point(Stage.FIRST_TOKEN, "llm"),
    Point(Stage.TOKEN_RECEIVED, "dialog"),
    Point(Stage.FIRST_CLAUSE, "dialog"),
    Point(Stage.CLAUSE_RECEIVED, "tts"),
    Point(Stage.FIRST_AUDIO, "tts"),
)
"""From what was heard to the audio that answers it, in the order of time. What lies between two is a leg, or a gap."""

LEGS = {
    (WAY[0], WAY[1]): IPC,
    (WAY[2], WAY[3]): IPC,
    (WAY[3], WAY[4]): "recall",
    (WAY[4], WAY[5]): IPC,
    (WAY[5], WAY[6]): "prompt",
    (WAY[6], WAY[7]): IPC,
    (WAY[7], WAY[8]): "llm_first_token",
    (WAY[8], WAY[9]): IPC,
    (WAY[9], WAY[10]): "llm_first_clause",
    (WAY[10], WAY[11]): IPC,
    (WAY[11], WAY[12]): "tts_synthesis",
}
