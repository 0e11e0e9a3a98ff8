"""How long a turn may go without progress before it is given up."""

from __future__ import annotations

import math

from daemons.dialog.turn import Phase, Turn

RECALL_PATIENCE_S = 2.0
"""Recall takes some 20 ms; without it an answer is still better than none."""

FIRST_TOKEN_PATIENCE_S = 30.0
"""A large model on a cold remote server may need this to begin."""

STALL_PATIENCE_S = 8.0
"""Between tokens, between clauses, and from clause to sound: ten times what a slow machine was seen to need."""

SOUNDING_S_PER_CHAR = 0.2
"""Three times the slowest voice measured (Piper joe: 14 characters a second)."""


def patience_s(turn: Turn) -> float:
    """How long the turn may go without progress in its phase."""
    if turn.phase is Phase.HEARING:
        return math.inf
    if turn.phase is Phase.RECALLING:
        return RECALL_PATIENCE_S
    if turn.phase is Phase.THINKING and not turn.line.first_token:
        return FIRST_TOKEN_PATIENCE_S
    if turn.phase is Phase.SOUNDING and turn.model_over:
        return STALL_PATIENCE_S + SOUNDING_S_PER_CHAR * sum(map(len, turn.said))
    return STALL_PATIENCE_S
