"""Who has which share of a stretch of time, when what happened in it overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Piece(NamedTuple):
    """A part of the stretch, in the unit of what was given; `leg` is the place of the leg that has it, None: nobody."""

    start: int
    end: int
    leg: int | None


def divide(legs: Sequence[tuple[int, int]], start: int, end: int) -> list[Piece]:
    """All of start..end in pieces, in order, none empty. A moment that several legs (start, end) cover belongs to the
    first of them; so the lengths of the pieces add up to the whole, whatever the legs are."""
    pieces: list[Piece] = []
    free = [(start, end)] if end > start else []
    for place, (leg_start, leg_end) in enumerate(legs):
        left: list[tuple[int, int]] = []
        for free_start, free_end in free:
            from_, to = max(free_start, leg_start), min(free_end, leg_end)
            if from_ >= to:
                left.append((free_start, free_end))
                continue
            pieces.append(Piece(from_, to, place))
            left += [part for part in ((free_start, from_), (to, free_end)) if part[0] < part[1]]
        free = left
    return sorted([*pieces, *(Piece(free_start, free_end, None) for free_start, free_end in free)])
