"""What a satellite decides: the house's time, when it is deaf, and what of an answer sounds."""

from __future__ import annotations

from array import array

import pytest

from daemons.satellite.core import EXCHANGES_KEPT, LEASE_NS, Answers, Deafness, End, HouseClock, Play, Void

MS = 1_000_000
RATE = 16_000
FRAME = array("h", [1] * 320).tobytes()  # 20 ms


# --- the clock ---


def test_the_house_s_time_is_that_of_the_shortest_round_trip() -> None:
    clock = HouseClock()
    clock.exchanged(1000 * MS, 51_100 * MS, 1400 * MS)  # says 49,900 in 400 ms
    clock.exchanged(2000 * MS, 52_001 * MS, 2002 * MS)  # says 50,000 in 2 ms
    clock.exchanged(3000 * MS, 53_500 * MS, 3600 * MS)
    assert clock.there(5000 * MS) == 55_000 * MS


def test_clocks_drift_so_old_exchanges_are_forgotten() -> None:
    clock = HouseClock()
    clock.exchanged(0, 1000, 0)
    for _ in range(EXCHANGES_KEPT):
        clock.exchanged(0, 2000, 10)
    assert (clock.exchanges, clock.there(0)) == (EXCHANGES_KEPT, 1995)
    clock.forget()
    clock.exchanged(0, 7, 0)
    assert (clock.exchanges, clock.there(0)) == (1, 7)


def test_a_time_before_the_house_began_is_its_beginning() -> None:
    clock = HouseClock()
    clock.exchanged(10_000, 50, 10_000)
    assert clock.there(20) == 0


# --- deafness ---


def test_deaf_from_the_first_sample_to_the_last() -> None:
    deaf = Deafness()
    assert not deaf.covers(0, 20 * MS)
    deaf.renew(50 * MS)
    deaf.begin(100 * MS)
    assert not deaf.covers(80 * MS, 100 * MS)
    assert deaf.covers(81 * MS, 101 * MS)
    assert deaf.covers(1000 * MS, 1020 * MS)
    deaf.end(900 * MS)
    assert deaf.covers(880 * MS, 900 * MS)
    assert deaf.covers(899 * MS, 919 * MS)
    assert not deaf.covers(900 * MS, 920 * MS)


def test_frames_that_come_late_are_judged_by_when_they_were_captured() -> None:
    deaf = Deafness()
    deaf.renew(0)
    deaf.begin(100 * MS)
    deaf.end(200 * MS)
    deaf.begin(300 * MS)
    assert deaf.covers(150 * MS, 170 * MS)
    assert not deaf.covers(240 * MS, 260 * MS)


def test_an_answer_whose_end_never_comes_leaves_nobody_deaf() -> None:
    deaf = Deafness()
    deaf.renew(0)
    deaf.begin(0)
    deaf.renew(500 * MS)
    assert deaf.covers(LEASE_NS, LEASE_NS + 20 * MS)
    assert not deaf.covers(LEASE_NS + 500 * MS, LEASE_NS + 520 * MS)


def test_an_end_without_a_beginning_changes_nothing() -> None:
    deaf = Deafness()
    deaf.end(5)
    deaf.renew(0)
    deaf.begin(10)
    deaf.end(20)
    deaf.end(500)
    assert not deaf.covers(20, 40)


def test_a_beginning_ends_what_was_not_ended() -> None:
    deaf = Deafness()
    deaf.renew(0)
    deaf.begin(10)
    deaf.begin(100)
    deaf.end(120)
    assert deaf.covers(50, 60)
    assert not deaf.covers(120, 130)


# --- answers ---


def test_an_answer_is_played_to_its_end() -> None:
    answers = Answers()
    assert answers.sound(0, RATE, False, FRAME) == [Play(FRAME)]
    assert answers.in_hand
    assert answers.sound(20 * MS, RATE, True, FRAME) == [Play(FRAME), End()]
    assert not answers.in_hand


def test_an_end_without_sound_of_its_own_lets_the_rest_sound() -> None:
    answers = Answers()
    answers.sound(0, RATE, False, FRAME)
    assert answers.sound(20 * MS, RATE, True, b"") == [End()]


@pytest.mark.parametrize("there", [0, 5 * MS, 18 * MS])
def test_what_is_due_after_the_last_piece_does_not_sound(there: int) -> None:
    answers = Answers()
    answers.sound(0, RATE, False, FRAME)
    assert answers.sound(there, RATE, True, b"") == [Void()]
    assert not answers.in_hand


def test_a_piece_that_comes_after_a_pause_belongs_to_the_answer() -> None:
    answers = Answers()
    answers.sound(0, RATE, False, FRAME)
    assert answers.sound(500 * MS, RATE, False, FRAME) == [Play(FRAME)]
    assert answers.sound(520 * MS, RATE, True, b"") == [End()]


def test_an_end_of_nothing_is_nothing() -> None:
    answers = Answers()
    assert answers.sound(0, RATE, True, b"") == []
    assert answers.sound(0, RATE, False, b"") == []


def test_a_broken_link_lets_sound_what_is_here() -> None:
    answers = Answers()
    assert answers.broken() == []
    answers.sound(0, RATE, False, FRAME)
    assert answers.broken() == [End()]
    assert answers.broken() == []
    assert answers.sound(0, RATE, True, FRAME) == [Play(FRAME), End()]
