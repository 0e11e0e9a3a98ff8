"""Mutes that are remembered for microphones that come later."""

from __future__ import annotations

from daemons.stt.mutes import CONVERSATIONS_MAX, Mutes
from ipc.call import Caller

DIALOG = Caller()
MS = 1_000_000
S = 1000 * MS


def test_nothing_was_told() -> None:
    mutes = Mutes()
    mutes.mute("kitchen", 5 * S, 0, 5 * S, DIALOG)
    assert mutes.span("kitchen") is None


def test_a_lease_and_its_renewals() -> None:
    mutes = Mutes()
    mutes.mute("kitchen", 5 * S, 3000, 5 * S + 2 * MS, DIALOG)
    assert mutes.span("kitchen") == (5 * S, 8 * S + 2 * MS)
    mutes.mute("kitchen", 6 * S, 3000, 6 * S, DIALOG)
    assert mutes.span("kitchen") == (5 * S, 9 * S)
    assert mutes.span("cellar") is None


def test_the_end_of_a_mute() -> None:
    mutes = Mutes()
    mutes.mute("kitchen", 5 * S, 3000, 5 * S, DIALOG)
    mutes.mute("kitchen", 7 * S, 0, 7 * S + MS, DIALOG)
    assert mutes.span("kitchen") == (5 * S, 7 * S)
    mutes.mute("kitchen", 30 * S, 0, 30 * S, DIALOG)
    assert mutes.span("kitchen") == (5 * S, 7 * S)


def test_another_answer_is_another_mute() -> None:
    mutes = Mutes()
    mutes.mute("kitchen", 5 * S, 3000, 5 * S, DIALOG)
    mutes.mute("kitchen", 9 * S, 3000, 9 * S, DIALOG)
    assert mutes.span("kitchen") == (9 * S, 12 * S)


def test_the_oldest_are_forgotten() -> None:
    mutes = Mutes()
    for number in range(CONVERSATIONS_MAX):
        mutes.mute(str(number), 5 * S, 3000, 5 * S, DIALOG)
    mutes.mute("0", 6 * S, 3000, 6 * S, DIALOG)
    mutes.mute("one more", 6 * S, 3000, 6 * S, DIALOG)
    assert mutes.span("1") is None
    assert mutes.span("0") == (5 * S, 9 * S)
    assert mutes.span("one more") == (6 * S, 9 * S)


def test_whose_mutes_they_are() -> None:
    mutes, other = Mutes(), Caller()
    mutes.mute("kitchen", 5 * S, 3000, 5 * S, DIALOG)
    mutes.mute("cellar", 5 * S, 3000, 5 * S, other)
    assert mutes.told_by(DIALOG, 6 * S) == ["kitchen"]
    assert mutes.told_by(DIALOG, 8 * S) == []
    mutes.mute("kitchen", 6 * S, 3000, 6 * S, other)
    assert mutes.told_by(DIALOG, 6 * S) == []
    mutes.mute("cellar", 7 * S, 0, 6 * S, DIALOG)
    assert sorted(mutes.told_by(other, 6 * S)) == ["cellar", "kitchen"]
