"""Dividing a stretch of time among what overlaps in it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ipc.shares import Piece, divide

TIMES = st.integers(-50, 50)


def test_the_first_of_those_that_overlap_has_it() -> None:
    assert divide([(0, 5), (3, 8), (20, 25)], 0, 10) == [Piece(0, 5, 0), Piece(5, 8, 1), Piece(8, 10, None)]


def test_a_later_one_may_lie_on_both_sides_of_an_earlier_one() -> None:
    assert divide([(4, 6), (2, 8)], 0, 8) == [
        Piece(0, 2, None), Piece(2, 4, 1), Piece(4, 6, 0), Piece(6, 8, 1),
    ]  # fmt: skip


def test_nothing_is_divided_into_nothing() -> None:
    assert divide([(0, 5)], 3, 3) == []
    assert divide([(0, 5)], 4, 3) == []


@given(st.lists(st.tuples(TIMES, TIMES), max_size=8), TIMES, TIMES)
def test_the_pieces_are_the_whole_and_each_moment_has_the_first_leg_that_covers_it(
    legs: list[tuple[int, int]], start: int, end: int
) -> None:
    pieces = divide(legs, start, end)
    assert sum(piece.end - piece.start for piece in pieces) == max(0, end - start)
    for earlier, later in itertools.pairwise(pieces):
        assert earlier.end == later.start
    for piece in pieces:
        for moment in range(piece.start, piece.end):
            covering = [place for place, (from_, to) in enumerate(legs) if from_ <= moment < to]
            assert piece.leg == (covering[0] if covering else None)
