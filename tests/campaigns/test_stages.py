"""The campaign that kills at each stage finds what it is there to find."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from unittest import mock

import pytest

from daemons.stt.core import CLOSE_NS
from ipc.client import Client
from ipc.marks import Stage
from ipc.messages import Body, Sound, SpeechStarted, TurnCandidate, TurnFinal, TurnHeard, TurnReport, TurnResumed
from tests.campaigns import crowd, stages, turns
from tests.campaigns.guest import Died, Told
from tests.campaigns.spoken import HearingHouse, frame, understood
from tests.campaigns.stages import HITS, Hit

TRIES = 8
"""Kills: what a bug does depends on what else happens in that moment."""

TURN, OTHER = b"1" * 16, b"2" * 16


def test_every_stage_is_among_them() -> None:
    assert {hit.stage for hit in HITS} == set(Stage)
    assert len(set(HITS)) == len(HITS)


@pytest.mark.parametrize(
    ("bug", "hit", "found"),
    [
        ("lost_outcome", Hit("tts", Stage.RELEASED), "a turn has no outcome"),
        ("second_outcome", Hit("tts", Stage.RELEASED), "ended more than once: failed, answered"),
        ("forgotten_words", Hit("tts", Stage.RELEASED), r"has lost w\d+ w\d+\."),
        ("words_again", Hit("memory", Stage.SENT), r"w\d+ w\d+\. had an answer already, and came again"),
    ],
)
def test_a_bug_is_found(bug: str, hit: Hit, found: str) -> None:
    with pytest.raises(AssertionError, match=rf"{hit.daemon} killed at {hit.stage.name}, {hit.turn}: .*({found})"):
        stages.run(TRIES, 1, partial(HearingHouse, bug), [hit])


def test_a_caller_that_is_not_told_is_found() -> None:
    def keep_quiet(self: Client, reason: str) -> None:
        self._ready.clear()
        self._ping = self._hello = None

    with (
        mock.patch.object(crowd, "HUNG_S", 3.0),
        mock.patch.object(Client, "_lose", keep_quiet),
        pytest.raises(AssertionError, match="tts killed at RELEASED, spoken: 1 requests to tts hang"),
    ):
        stages.run(1, 1, hits=[Hit("tts", Stage.RELEASED)])


def test_words_are_read_off_the_samples_that_bear_them() -> None:
    assert understood(frame(7, False) * 3 + bytes(640) * 2 + frame(8, True) * 2) == "w7 w8."
    assert understood(bytes(640)) == ""


# --- the rules, by stories ---


Heard = tuple[str, int, Body | Died]


def story(*bodies: Heard) -> list[Told]:
    return [Told(at, *each) for at, each in enumerate(bodies)]


def final(revision: int, text: str, turn: bytes = TURN) -> Heard:
    times = {"last_voiced_ns": 0, "endpoint_ns": 0, "transcript_ns": 0, "sent_ns": 0}
    return "stt", 1, TurnFinal(conversation="kitchen", turn=turn, revision=revision, text=text, **times)


def candidate(revision: int, text: str, turn: bytes = TURN) -> Heard:
    times = {"last_voiced_ns": 0, "endpoint_ns": 0, "transcript_ns": 0}
    return "stt", 1, TurnCandidate(conversation="kitchen", turn=turn, revision=revision, text=text, **times)


def resumed(revision: int) -> Heard:
    return "stt", 1, TurnResumed(conversation="kitchen", turn=TURN, revision=revision, t_ns=0)


def report(outcome: str, heard: str, life: int = 1, turn: bytes = TURN) -> Heard:
    figures = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0, "memories": 0}
    return "dialog", life, TurnReport(
        conversation="kitchen", turn=turn, heard=heard, said="", outcome=outcome, detail="", first_audio_ms=None,
        stages=None, **figures,
    )  # fmt: skip


def heard(text: str, life: int = 1) -> Heard:
    return "dialog", life, TurnHeard(turn=TURN, text=text, final=True)


def sound(turn: bytes = TURN) -> Heard:
    return "tts", 1, Sound(turn=turn, t_ns=0, sample_rate=16_000)


DIED: Heard = ("dialog", 1, Died("dialog"))
TAKEN_UP = [final(1, "a b"), report("failed", "a b"), resumed(1), final(2, "a b c d"), report("answered", "a b c d")]


def judged(*bodies: Heard) -> Sequence[str]:
    return turns.faults(story(*bodies), ["a", "b"], ["c", "d"])


def test_what_may_be() -> None:
    assert judged(*TAKEN_UP) == []
    apart = [final(1, "a b"), sound(), report("answered", "a b"), final(1, "c d", OTHER)]
    assert judged(*apart, report("answered", "c d", turn=OTHER)) == []
    assert judged(final(1, "a b"), heard("a b"), DIED, final(2, "a b c d"), report("answered", "a b c d", 2)) == []
    cut = [final(1, "a b"), heard("a b"), sound(), DIED, final(1, "c d", OTHER)]
    assert judged(*cut, report("answered", "c d", 2, OTHER)) == []
    late = "stt", 1, SpeechStarted(conversation="kitchen", turn=OTHER, t_ns=CLOSE_NS)
    assert judged(final(1, "a b"), DIED, late, final(1, "c d", OTHER), report("answered", "c d", 2, OTHER)) == []


def test_what_may_not_be() -> None:
    second, after = report("answered", "a b c d"), report("answered", "c d", turn=OTHER)
    more_than_once = "turn 31313131313131313131313131313131 ended more than once: "
    told = [
        (judged(*TAKEN_UP, report("answered", "a b c d")), f"{more_than_once}failed, answered, answered"),
        (judged(final(1, "a b"), report("answered", "a b"), *TAKEN_UP[2:4], second), f"{more_than_once}answered, answ"),
        (judged(final(1, "a b"), sound(), *TAKEN_UP[1:]), f"{more_than_once}failed, answered"),
        (judged(final(1, "a b"), report("failed", "a b"), second), f"{more_than_once}failed, answered"),
        (judged(final(1, "a b"), heard("a b"), sound(), final(1, "c d", OTHER), after), "has no outcome"),
        (judged(candidate(1, "a b"), final(2, "b c d"), report("answered", "b c d")), "has lost a"),
        (judged(final(1, "a b"), heard("a b"), DIED, final(1, "c d", OTHER), after), "a b had no answer, and did not"),
        (judged(final(1, "a b"), heard("a b"), report("answered", "a"), final(1, "c d", OTHER), after), "b of turn"),
        (judged(final(1, "a b"), sound(), DIED, final(2, "a b c d"), second), "a b had an answer already, and came"),
        (
            judged(final(1, "b"), sound(), report("answered", "b"), final(1, "c d", OTHER), after),
            "a was said, and never",
        ),
        (judged(final(1, "a b"), sound(), report("answered", "a b")), "the next turn was not answered: no outcome"),
    ]
    for wrong, what in told:
        assert any(what in line for line in wrong), (wrong, what)


def test_an_answer_that_is_late_is_found() -> None:
    answered = [
        Told(0, *final(1, "c d")),
        Told(3_000_000_000, *sound()),
        Told(3_200_000_000, *report("answered", "c d")),
    ]
    assert stages._sound_s(answered, ["c", "d"], 1.5) == 3.0
    with pytest.raises(AssertionError, match=r"sounded after 3\.0 s, not within 2 s"):
        stages._sound_s(answered, ["c", "d"], 0.5)
    with pytest.raises(AssertionError, match="nothing sounded"):
        stages._sound_s([answered[0], answered[2]], ["c", "d"], 0.0)
