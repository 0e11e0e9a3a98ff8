"""What a recording of a conversation tells by itself: when each question ended and when its answer began.

Only the height of the samples counts. Nothing of the daemons is used: no voice detector, no clock, no mark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Channel = NDArray[np.int16]
    """16-bit samples of one side."""

VOICED = 1 / 100
"""A sample is voiced when it is at least this high, against the highest of its question: -40 dB."""

AUDIBLE = 104
"""A sample is audible above this (of 32,767): -50 dB."""

PAUSE_S = 1.0
"""Silence that parts two questions. A pause inside one is shorter: it would end the turn."""


class Exchange(NamedTuple):
    """A question and its answer in a recording."""

    asked_s: float
    """Where the last voiced sample of the question ends."""
    waited_s: float | None
    """From there to the first audible sample of the answer; None when there is none before the next question."""


def exchanges(questions: Channel, answers: Channel, rate: int) -> list[Exchange]:
    """Every question of a recording, in order. The channels have one clock of `rate` samples a second."""
    import numpy as np

    asked = _stretches(questions, rate)
    begins = [*(first for first, _ in asked), len(answers)]
    found = []
    for (first, last), limit in zip(asked, begins[1:], strict=True):
        end = first + voiced(questions[first : last + 1])
        audible = np.flatnonzero(_heights(answers[end:limit]) > AUDIBLE)
        found.append(Exchange(end / rate, int(audible[0]) / rate if len(audible) else None))
    return found


def voiced(question: Channel, least: float = VOICED) -> int:
    """How many samples there are up to the last one that is `least` as high as the highest. Not for mere zeros."""
    import numpy as np

    heights = _heights(question)
    return int(np.flatnonzero(heights >= heights.max() * least)[-1]) + 1


def _stretches(channel: Channel, rate: int) -> list[tuple[int, int]]:
    """First and last audible sample of each stretch of sound between pauses."""
    import numpy as np

    audible = np.flatnonzero(_heights(channel) > AUDIBLE)
    if not len(audible):
        return []
    breaks = np.flatnonzero(np.diff(audible) > PAUSE_S * rate)
    firsts, lasts = [0, *(breaks + 1)], [*breaks, len(audible) - 1]
    return [(int(audible[first]), int(audible[last])) for first, last in zip(firsts, lasts, strict=True)]


def _heights(channel: Channel) -> NDArray[np.int32]:
    import numpy as np

    return np.abs(channel.astype(np.int32))
