"""The rules of speaking, without sound and in simulated time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.tts.core import AHEAD_NS, CLAUSES_WAITING_MAX, PAUSE_INSIDE_MS, PAUSE_PLAIN_MS, SpeakingCore, pause_after
from daemons.tts.effects import (
    Effect,
    Fail,
    Finish,
    Flush,
    MarkEnd,
    Play,
    StopSynthesis,
    Supersede,
    Synthesize,
    Tell,
    Wake,
)
from ipc.errors import Code
from ipc.messages import ClauseReady, PlaybackDrained, PlaybackStarted, Spoken

RATE = 1000
SECOND = bytes(2 * RATE)
S = 1_000_000_000


def core(hold: bool = False, *texts: str) -> SpeakingCore:
    """With utterance 1 in conversation "c" and its clauses at time 0."""
    made = SpeakingCore(RATE)
    assert made.speak(1, "c", hold) == []
    for text in texts:
        made.clause(1, text, 0)
    return made


def test_a_clause_is_synthesized_when_it_comes_and_the_next_while_it_plays() -> None:
    it = core()
    assert it.clause(1, "One.", 5) == [Synthesize(1, 0, "One.")]
    assert it.clause(1, "Two.", 6) == []
    ready = ClauseReady(index=0, received_ns=5, started_ns=5, ready_ns=7)
    assert it.audio(1, 0, SECOND, 7) == [Tell(1, ready), Play("c", 0, SECOND)]
    assert it.audio(1, 0, SECOND, 7) == [Play("c", 0, SECOND)], "the phrase goes on"
    it.phrase_over(1, 0)
    it.phrase_over(1, 0)
    assert it.audio(1, 0, SECOND, 7) == [Play("c", PAUSE_INSIDE_MS, SECOND)], "the next phrase"
    assert it.synthesized(1, 0, 8) == [Synthesize(1, 1, "Two.")]


def test_an_utterance_is_over_when_its_last_sample_has_sounded() -> None:
    it = core(False, "One.")
    it.audio(1, 0, SECOND, 0)
    assert it.end(1, 0) == []
    assert it.synthesized(1, 0, 0) == [MarkEnd("c")]
    assert it.started("c", 10) == [Tell(1, PlaybackStarted(t_ns=10))]
    assert it.speaking("c")
    assert it.drained("c", S) == [Tell(1, PlaybackDrained(t_ns=S)), Finish(1, Spoken(clauses=1, audio_ms=1000))]
    assert not it.speaking("c")


def test_the_end_may_come_after_all_was_synthesized() -> None:
    it = core(False, "One.")
    it.audio(1, 0, SECOND, 0)
    assert it.synthesized(1, 0, 0) == []
    assert it.drained("c", S) == []  # an utterance without its end is not over
    assert it.end(1, 0) == [MarkEnd("c")]


def test_started_is_told_once() -> None:
    it = core(False, "One.")
    it.audio(1, 0, SECOND, 0)
    assert it.started("c", 10) == [Tell(1, PlaybackStarted(t_ns=10))]
    assert it.started("c", 20) == []


def test_held_audio_is_prepared_and_does_not_sound_before_its_release() -> None:
    it = core(True, "One.", "Two")
    assert [type(effect) for effect in it.audio(1, 0, SECOND, 0)] == [Tell]
    assert it.synthesized(1, 0, 0) == [Synthesize(1, 1, "Two")]
    it.audio(1, 1, SECOND, 0)
    assert it.synthesized(1, 1, 0) == []
    assert it.release(1, 3 * S) == [Play("c", 0, SECOND), Play("c", pause_after("One."), SECOND)]
    assert it.release(1, 3 * S) == []
    assert it.end(1, 3 * S) == [MarkEnd("c")]


def test_held_audio_that_is_cancelled_leaves_the_output_alone() -> None:
    it = core(True, "One.", "Two.")
    it.audio(1, 0, SECOND, 0)
    assert it.cancel(1) == [StopSynthesis(1)]
    assert it.release(1, 0) == []


def test_an_end_without_release_is_a_mistake() -> None:
    it = core(True)
    (failure,) = it.end(1, 0)
    assert isinstance(failure, Fail)
    assert failure.code is Code.BAD_REQUEST


def test_a_cancel_flushes_and_what_comes_late_has_no_effect() -> None:
    it = core(False, "One.", "Two.")
    it.audio(1, 0, SECOND, 0)
    it.synthesized(1, 0, 0)
    assert it.cancel(1) == [Flush("c"), StopSynthesis(1)]
    late = [
        it.audio(1, 1, SECOND, 1),
        it.synthesized(1, 1, 1),
        it.failed(1, 1, Code.ENGINE_FAILED, "late"),
        it.clause(1, "Three.", 1),
        it.release(1, 1),
        it.end(1, 1),
        it.cancel(1),
        it.woken(1, 1),
        it.started("c", 1),
        it.drained("c", 1),
        it.lost("c", Code.DEVICE_LOST, "late"),
    ]
    assert late == [[]] * len(late)


def test_a_cancel_between_clauses_only_flushes() -> None:
    it = core(False, "One.")
    it.audio(1, 0, SECOND, 0)
    it.synthesized(1, 0, 0)
    assert it.cancel(1) == [Flush("c")]


def test_a_result_for_another_clause_is_dropped() -> None:
    it = core(False, "One.")
    assert it.audio(1, 7, SECOND, 0) == []
    it.synthesized(1, 0, 0)
    assert it.audio(1, 0, SECOND, 0) == []


def test_a_newer_utterance_takes_the_conversation_over() -> None:
    it = core(False, "One.")
    it.audio(1, 0, SECOND, 0)
    assert it.speak(2, "c", False) == [Supersede(1), Flush("c"), StopSynthesis(1)]
    assert it.audio(1, 0, SECOND, 0) == []
    assert it.clause(2, "New.", 0) == [Synthesize(2, 0, "New.")]


def test_conversations_do_not_touch_each_other() -> None:
    it = core(False, "One.")
    assert it.speak(2, "d", False) == []
    it.clause(2, "Other.", 0)
    it.audio(2, 0, SECOND, 0)
    assert it.cancel(1) == [StopSynthesis(1)]
    assert it.started("d", 5) == [Tell(2, PlaybackStarted(t_ns=5))]


def test_a_clause_with_nothing_to_read_has_no_audio_and_is_no_error() -> None:
    it = core(False, "...")
    ready = Tell(1, ClauseReady(index=0, received_ns=0, started_ns=0, ready_ns=9))
    it.phrase_over(1, 0)
    assert it.synthesized(1, 0, 9) == [ready]
    assert it.end(1, 9) == [Finish(1, Spoken(clauses=1, audio_ms=0))]


def test_a_phrase_of_an_utterance_that_is_over_changes_nothing() -> None:
    it = core(False, "One.")
    it.cancel(1)
    it.phrase_over(1, 0)
    assert not it.speaking("c")


def test_an_utterance_without_clauses_is_over_at_its_end() -> None:
    assert core().end(1, 0) == [Finish(1, Spoken(clauses=0, audio_ms=0))]


def test_a_failed_clause_fails_the_utterance() -> None:
    it = core(False, "One.", "Two.")
    it.audio(1, 0, SECOND, 0)
    it.synthesized(1, 0, 0)
    assert it.failed(1, 1, Code.ENGINE_FAILED, "died") == [Flush("c"), Fail(1, Code.ENGINE_FAILED, "died")]
    assert not it.speaking("c")


def test_a_lost_output_fails_the_utterance() -> None:
    it = core(False, "One.")
    assert it.lost("c", Code.DEVICE_LOST, "gone") == [StopSynthesis(1), Fail(1, Code.DEVICE_LOST, "gone")]


def test_too_many_clauses_are_refused() -> None:
    it = core(True, *["x"] * (CLAUSES_WAITING_MAX + 1))  # one is being synthesized
    stop, failure = it.clause(1, "x", 0)
    assert stop == StopSynthesis(1)
    assert isinstance(failure, Fail)
    assert failure.code is Code.OVER_QUOTA


@pytest.mark.parametrize(
    ("text", "pause_ms"),
    [
        ("Yes.", 150),
        ("Really?”", 150),
        ("first, ", 80),
        ("the following:", 120),
        ("and then", PAUSE_PLAIN_MS),
        ("", 60),
    ],
)
def test_the_pause_follows_the_punctuation(text: str, pause_ms: int) -> None:
    assert pause_after(text) == pause_ms


def test_silence_that_has_passed_counts_as_pause() -> None:
    it = core(False, "One.", "Two.")
    it.audio(1, 0, SECOND, 0)
    it.started("c", S // 2)  # the device was half a second late: the clause ends at 1.5 s
    it.synthesized(1, 0, 0)
    part = it.audio(1, 1, SECOND, 1_600_000_000)
    assert part[-1] == Play("c", 50, SECOND)
    assert it.audio(1, 1, SECOND, 9 * S)[-1] == Play("c", 0, SECOND)


def test_synthesis_rests_when_far_enough_ahead() -> None:
    it = core(False, "One.", "Two.", "Three.")
    it.audio(1, 0, SECOND * 11, 0)
    assert it.synthesized(1, 0, 0) == [Wake(1, S)]
    assert it.woken(1, S) == [Synthesize(1, 1, "Two.")]
    assert it.woken(1, S) == []


def test_held_synthesis_rests_until_the_release() -> None:
    it = core(True, "One.", "Two.")
    it.audio(1, 0, SECOND * 11, 0)
    assert it.synthesized(1, 0, 0) == []
    assert it.release(1, 0) == [Play("c", 0, SECOND * 11), Wake(1, 11 * S - AHEAD_NS)]


def test_a_complete_utterance_is_not_completed_again() -> None:
    it = core(False, "One.")
    it.audio(1, 0, SECOND, 0)
    it.end(1, 0)
    it.synthesized(1, 0, 0)
    assert it.woken(1, 1) == []


def happen(it: SpeakingCore, event: str, n: int, clause: int, now: int) -> list[Effect]:
    conversation = f"c{n % 2}"
    match event:
        case "clause":
            return it.clause(n, "text", now)
        case "end":
            return it.end(n, now)
        case "audio":
            return it.audio(n, clause, SECOND, now)
        case "synthesized":
            return it.synthesized(n, clause, now)
        case "failed":
            return it.failed(n, clause, Code.ENGINE_FAILED, "x")
        case "release":
            return it.release(n, now)
        case "woken":
            return it.woken(n, now)
        case "drained":
            return it.drained(conversation, now)
        case "lost":
            return it.lost(conversation, Code.DEVICE_LOST, "x")
    return it.speak(n, conversation, event == "hold")


EVENTS = ["speak", "hold", "clause", "end", "audio", "synthesized", "failed", "release", "woken", "drained", "lost"]


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, 3)), max_size=60))
def test_whatever_happens_each_utterance_ends_once_and_what_is_held_or_over_is_silent(
    events: list[tuple[str, int]],
) -> None:
    it = SpeakingCore(RATE)
    clauses: dict[int, int] = {}
    floor: dict[str, int] = {}
    held: set[int] = set()
    over: set[int] = set()
    number = 0
    for now, (event, n) in enumerate(events):
        if event in ("speak", "hold"):
            n = number = number + 1
        effects = happen(it, event, n, clauses.get(n, 0), now)
        if event == "hold":
            held.add(n)
        held -= {n} if event == "release" else set()
        for effect in effects:
            if isinstance(effect, Synthesize):
                assert effect.utterance not in over
                clauses[effect.utterance] = effect.index
            if isinstance(effect, Finish | Fail | Supersede):
                assert effect.utterance not in over
                over.add(effect.utterance)
            if isinstance(effect, Play | MarkEnd):
                assert floor[effect.conversation] not in held | over
        if event in ("speak", "hold"):
            floor[f"c{n % 2}"] = n
