"""The turn, event by event: what it asks of the world, and what it never does."""

from __future__ import annotations

from typing import TypeVar

import pytest

from daemons.dialog import patience
from daemons.dialog.core import (
    APOLOGY,
    APOLOGY_BROKEN_OFF,
    APOLOGY_NOT_HEARD,
    MUTE_LEASE_MS,
    REST_MS,
    REST_ON_MS,
    Conversation,
)
from daemons.dialog.effects import (
    CancelModel,
    CancelWork,
    Effect,
    EndSpeech,
    Foresee,
    Mute,
    ReadPrompt,
    Release,
    Report,
    RestModel,
    SpeakClause,
    StartModel,
    StartRecall,
    Store,
    TellHeard,
    TellSaid,
    Withdraw,
    Work,
)
from daemons.dialog.manner import Manner
from daemons.dialog.prompt import Prompter
from daemons.dialog.turn import Phase
from ipc.limits import TEXT_MAX_CHARS
from ipc.messages import Generated, Memory, TurnCandidate, TurnFinal, TurnReport

T = TypeVar("T")
MS = 1_000_000
S = 1000 * MS
A, B = b"a" * 16, b"b" * 16
USAGE = Generated(
    prompt_tokens=9, cached_tokens=7, completion_tokens=3, finish="stop", received_ns=1450 * MS, first_token_ns=1 * S
)
KEY = Memory(id=1, text="The key is under the pot.", importance=4, created_s=1.0, score=0.9)


def conversation() -> Conversation:
    return Conversation("home", Prompter("Timmy", "", 4, lambda: "noon"))


def final(
    turn: bytes = A, revision: int = 0, text: str = "Where is the key?", last_voiced_ns: int = 500 * MS
) -> TurnFinal:
    return TurnFinal(
        conversation="home", turn=turn, revision=revision, text=text,
        last_voiced_ns=last_voiced_ns, endpoint_ns=1000 * MS, transcript_ns=900 * MS, sent_ns=1001 * MS,
    )  # fmt: skip


def candidate(turn: bytes = A, revision: int = 0, text: str = "Where is the key?") -> TurnCandidate:
    return TurnCandidate(
        conversation="home", turn=turn, revision=revision, text=text,
        last_voiced_ns=500 * MS, endpoint_ns=700 * MS, transcript_ns=900 * MS,
    )  # fmt: skip


def only(effects: list[Effect], kind: type[T]) -> T:
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, effects
    return found[0]


def kinds(effects: list[Effect]) -> list[type[Effect]]:
    return [type(effect) for effect in effects]


def report(effects: list[Effect]) -> TurnReport:
    return only(effects, Report).report


def thinking(talk: Conversation, revision: int = 0) -> Work:
    """Brings a turn to where the model has been asked."""
    talk.speech_started(A, 0, 0)
    talk.final(final(revision=revision), 1002 * MS)
    work = Work(A, revision)
    talk.recalled(work, [KEY], (1 * S, 1 * S), 1010 * MS)
    assert talk.phase is Phase.THINKING
    return work


def sounding(talk: Conversation) -> Work:
    work = thinking(talk)
    talk.token(work, "It is there. And", 1100 * MS, 1101 * MS)
    talk.clause_ready(work, 1102 * MS, 1200 * MS)
    talk.playback_started(work, 1210 * MS, 1211 * MS)
    assert talk.phase is Phase.SOUNDING
    return work


def test_a_turn_from_first_word_to_stored_memory() -> None:
    talk = conversation()
    assert talk.speech_started(A, 0, 0) == []
    assert talk.partial(A, "Where is") == [TellHeard(A, "Where is", False)]
    work = Work(A, 0)
    assert talk.candidate(candidate(), 902 * MS) == [
        TellHeard(A, "Where is the key?", False),
        StartRecall(work, "Where is the key?"),
    ]
    assert talk.final(final(), 1002 * MS) == [TellHeard(A, "Where is the key?", True)]
    effects = talk.recalled(work, [KEY], (1003 * MS, 1013 * MS), 1014 * MS)
    assert KEY.text in only(effects, StartModel).messages[-1].content
    assert talk.token(work, "Under the", 1100 * MS, 1101 * MS) == []
    effects = talk.token(work, " pot. It", 1110 * MS, 1111 * MS)
    assert effects == [TellSaid(A, "Under the pot."), SpeakClause(work, "Under the pot."), RestModel(work, REST_MS)]
    assert talk.phase is Phase.SPEAKING
    assert talk.clause_ready(work, 1112 * MS, 1200 * MS) == [RestModel(work, REST_ON_MS)]
    promise = Store(A, "Where is the key?")
    assert talk.playback_started(work, 1210 * MS, 1211 * MS) == [Mute(A, 1210 * MS, MUTE_LEASE_MS), promise]
    assert talk.in_hand == A
    effects = talk.model_done(work, USAGE, 1300 * MS)
    assert effects == [TellSaid(A, "It"), SpeakClause(work, "It"), EndSpeech(work)]
    effects = talk.playback_drained(work, 2000 * MS)
    assert kinds(effects) == [Mute, Report, ReadPrompt]
    assert effects[0] == Mute(A, 2000 * MS, 0)
    told = report(effects)
    assert (told.outcome, told.heard, told.said) == ("answered", "Where is the key?", "Under the pot. It")
    assert (told.first_audio_ms, told.memories, told.cached_tokens) == (710, 1, 7)
    assert told.stages is not None
    assert [m.content for m in only(effects, ReadPrompt).messages[-2:]] == ["Where is the key?", "Under the pot. It"]
    assert (talk.phase, talk.in_hand) == (Phase.IDLE, b"")


def test_a_revoked_revision_never_speaks_and_never_stores() -> None:
    talk = conversation()
    old = thinking(talk)
    assert talk.resumed(A, 0, 1100 * MS, 1101 * MS) == [CancelWork(old)]
    assert talk.phase is Phase.HEARING
    late: list[Effect] = []
    late += talk.recalled(old, [KEY], (1, 2), 3 * S)
    late += talk.token(old, "It is there. ", 3 * S, 3 * S)
    late += talk.model_done(old, USAGE, 3 * S)
    late += talk.model_failed(old, "late", 3 * S)
    late += talk.clause_ready(old, 3 * S, 3 * S)
    late += talk.playback_started(old, 3 * S, 3 * S)
    late += talk.playback_drained(old, 3 * S)
    late += talk.speech_failed(old, "late", 3 * S)
    assert late == []
    effects = talk.final(final(revision=1, text="Where is the key to the shed?"), 4 * S)
    assert only(effects, StartRecall) == StartRecall(Work(A, 1), "Where is the key to the shed?")


def test_speech_that_began_before_the_first_sound_silences_the_answer() -> None:
    talk = conversation()
    work = sounding(talk)
    promise = Store(A, "Where is the key?")
    assert talk.resumed(A, 0, 1205 * MS, 1300 * MS) == [CancelWork(work), Mute(A, 1300 * MS, 0), Withdraw(promise)]
    assert talk.phase is Phase.HEARING


def test_words_are_promised_with_the_answer_that_is_heard_and_with_no_other() -> None:
    talk = conversation()
    sounding(talk)
    assert only(talk.speech_started(B, 1205 * MS, 1300 * MS), Withdraw).promise == Store(A, "Where is the key?")
    talk.final(final(B, text="And the bike?"), 2 * S)
    work = Work(B, 0)
    talk.recalled(work, [], (0, 0), 2 * S)
    talk.token(work, "There. And", 2 * S, 2 * S)
    effects = talk.playback_started(work, 3 * S, 3 * S)
    assert only(effects, Store) == Store(B, "Where is the key? And the bike?")
    talk.model_done(work, USAGE, 3 * S)
    assert Store not in kinds(talk.playback_drained(work, 4 * S))


def test_a_question_taken_back_is_remembered_once_its_answer_has_begun_to_sound() -> None:
    heard = conversation()
    sounding(heard)
    assert not {Store, Withdraw} & set(kinds(heard.cancel(A, 2 * S)))
    unheard = conversation()
    unheard.token(thinking(unheard), "It is there. And", 1100 * MS, 1101 * MS)
    assert Store not in kinds(unheard.cancel(A, 2 * S))


def test_a_voice_that_does_not_wait_promises_nothing() -> None:
    """A turn is promised when its end is confirmed, however early something of it was played."""
    talk = conversation()
    work = prepared(talk)
    assert Store not in kinds(talk.playback_started(work, 1 * S, 1 * S))
    talk.final(final(), 2 * S)
    assert only(talk.playback_drained(work, 3 * S), Store) == Store(A, "Where is the key?")


def test_speech_that_began_after_the_first_sound_is_the_answer_itself() -> None:
    talk = conversation()
    sounding(talk)
    assert talk.resumed(A, 0, 1210 * MS, 1300 * MS) == []
    assert talk.speech_started(B, 1210 * MS, 1300 * MS) == []
    assert talk.final(final(B, last_voiced_ns=1300 * MS), 1400 * MS) == []
    assert talk.phase is Phase.SOUNDING


def test_a_resume_that_is_old_news_changes_nothing() -> None:
    talk = conversation()
    thinking(talk, revision=2)
    assert talk.resumed(A, 1, 0, 0) == []
    talk.resumed(A, 2, 1100 * MS, 1101 * MS)
    assert talk.resumed(A, 2, 1100 * MS, 1101 * MS) == []


def test_a_resume_of_an_unknown_turn_begins_it() -> None:
    talk = conversation()
    assert talk.resumed(A, 0, 0, 0) == []
    assert talk.phase is Phase.HEARING


def test_words_of_a_turn_given_up_for_another_join_it() -> None:
    """stt closes a turn at 60 s; the words of the first part are not lost when the second follows at once."""
    talk = conversation()
    work = thinking(talk)
    effects = talk.speech_started(B, 1100 * MS, 1101 * MS)
    assert effects[0] == CancelWork(work)
    assert report(effects).outcome == "cancelled"
    effects = talk.final(final(B, text="And the bike?"), 2 * S)
    assert only(effects, StartRecall).text == "Where is the key? And the bike?"


def test_words_given_up_for_a_cough_get_their_answer() -> None:
    talk = conversation()
    thinking(talk)
    talk.speech_started(B, 1100 * MS, 1101 * MS)
    assert only(talk.dropped(B, "noise", 2 * S), StartRecall) == StartRecall(Work(B, 0), "Where is the key?")


def test_a_revision_that_is_void_gives_its_number_to_nothing_else() -> None:
    """Its work had failed before it was revoked; then no more words come of what was said."""
    talk = conversation()
    talk.speech_started(A, 0, 0)
    talk.candidate(candidate(revision=1), 700 * MS)
    talk.recalled(Work(A, 1), [], (0, 0), 710 * MS)
    assert kinds(talk.model_failed(Work(A, 1), "failed", 720 * MS)) == [CancelWork]
    assert talk.resumed(A, 1, 800 * MS, 810 * MS) == []
    assert only(talk.dropped(A, "no words", 900 * MS), StartRecall).work == Work(A, 2)


def test_a_turn_taken_up_after_its_end_goes_on_counting() -> None:
    talk = conversation()
    talk.resumed(A, 3, 800 * MS, 810 * MS)
    assert only(talk.hearing_lost(900 * MS), SpeakClause).work == Work(A, 4)


def test_joined_words_survive_another_resume() -> None:
    talk = conversation()
    thinking(talk)
    talk.speech_started(B, 1100 * MS, 1101 * MS)
    talk.final(final(B, text="And"), 2 * S)
    talk.resumed(B, 0, 2100 * MS, 2100 * MS)
    effects = talk.final(final(B, 1, "And the bike?"), 3 * S)
    assert only(effects, StartRecall).text == "Where is the key? And the bike?"


def test_noise_ends_in_no_answer() -> None:
    talk = conversation()
    talk.speech_started(A, 0, 0)
    assert talk.dropped(B, "noise", 0) == []
    told = report(talk.dropped(A, "noise", 0))
    assert (told.outcome, told.detail, told.said) == ("dropped", "noise", "")


def test_what_is_heard_of_a_turn_not_in_hand_is_not_told() -> None:
    talk = conversation()
    assert talk.partial(A, "x") == []
    thinking(talk)
    assert talk.candidate(candidate(), 2 * S) == []


def test_a_final_without_a_beginning_is_answered() -> None:
    """dialog was restarted while somebody spoke."""
    assert only(conversation().final(final(), 1 * S), StartRecall).text == "Where is the key?"


@pytest.mark.parametrize("event", [candidate(), final()])
def test_a_turn_whose_beginning_was_not_told_interrupts_what_is_in_hand(event: TurnCandidate | TurnFinal) -> None:
    """dialog was restarted while somebody spoke, and asked in writing since."""
    talk = conversation()
    talk.ask(B, "Why?", True, 0)
    hear = talk.final if isinstance(event, TurnFinal) else talk.candidate
    effects = hear(event, 1 * S)  # type: ignore[arg-type]
    assert effects[0] == CancelWork(Work(B, 0))
    assert report(effects).outcome == "cancelled"
    assert only(effects, StartRecall) == StartRecall(Work(A, 0), "Why? Where is the key?")


def test_a_final_for_a_turn_being_answered_changes_nothing() -> None:
    talk = conversation()
    thinking(talk)
    assert talk.final(final(), 2 * S) == []


def test_a_typed_question_is_answered_without_a_voice() -> None:
    talk = conversation()
    talk.ask(A, "Where is the key?", False, 0)
    work = Work(A, 0)
    talk.recalled(work, [], (0, 0), 0)
    assert talk.token(work, "There it is. ", 1, 1) == [TellSaid(A, "There it is.")]
    effects = talk.model_done(work, USAGE, 2)
    assert kinds(effects) == [Report, Store, ReadPrompt]
    assert (report(effects).outcome, report(effects).first_audio_ms) == ("answered", None)


def test_an_announcement_is_spoken_as_it_is_and_not_remembered() -> None:
    talk = conversation()
    work = Work(A, 0)
    assert kinds(talk.say(A, "Dinner is ready. Come!", 0)) == [TellSaid, SpeakClause, TellSaid, SpeakClause, EndSpeech]
    talk.playback_started(work, 1, 1)
    assert talk.token(work, "more", 1, 1) == []
    assert talk.model_done(work, USAGE, 1) == []
    assert talk.model_failed(work, "x", 1) == []
    assert kinds(talk.playback_drained(work, 2)) == [Mute, Report]


def silent(talk: Conversation, work: Work) -> TurnReport:
    """What is told of an answer in which the voice finds nothing to pronounce."""
    talk.token(work, "So.", 1, 1)
    talk.model_done(work, USAGE, 2)
    return report(talk.playback_drained(work, 3))


def test_who_spoke_and_heard_nothing_may_go_on() -> None:
    talk = conversation()
    told = silent(talk, thinking(talk))
    assert (told.outcome, told.detail) == ("failed", "the voice had no sound for the answer")
    talk.resumed(A, 0, 4, 4)
    assert only(talk.final(final(revision=1), 5), StartRecall).work == Work(A, 1)


def test_who_typed_has_read_an_answer_without_sound() -> None:
    talk = conversation()
    talk.ask(A, "Why?", True, 0)
    talk.recalled(Work(A, 0), [], (0, 0), 0)
    assert silent(talk, Work(A, 0)).outcome == "answered"


def test_there_is_nothing_to_say_in_an_emoji() -> None:
    assert report(conversation().say(A, "🎉", 0)).outcome == "dropped"


@pytest.mark.parametrize("text", ["", " \n", "🎉"])
def test_a_model_without_words_ends_in_an_apology(text: str) -> None:
    talk = conversation()
    work = thinking(talk)
    talk.token(work, text, 1, 1)
    effects = talk.model_done(work, USAGE, 2)
    assert effects == [CancelModel(work), TellSaid(A, APOLOGY), SpeakClause(work, APOLOGY), EndSpeech(work)]
    assert only(talk.playback_started(work, 3, 3), Store).heard == "Where is the key?"
    effects = talk.playback_drained(work, 4)
    told = report(effects)
    assert (told.outcome, told.said) == ("failed", APOLOGY)
    assert Store not in kinds(effects)
    assert ReadPrompt not in kinds(effects)


def test_a_model_that_breaks_off_is_apologised_for() -> None:
    talk = conversation()
    work = sounding(talk)
    assert only(talk.model_failed(work, "gone", 2 * S), SpeakClause).text == APOLOGY_BROKEN_OFF
    assert talk.token(work, "late. ", 2 * S, 2 * S) == []
    told = report(talk.playback_drained(work, 3 * S))
    assert (told.outcome, told.detail) == ("failed", "gone")


def test_a_typed_question_fails_in_words_too() -> None:
    talk = conversation()
    talk.ask(A, "Why?", False, 0)
    talk.recalled(Work(A, 0), [], (0, 0), 0)
    told = report(talk.model_failed(Work(A, 0), "gone", 1))
    assert (told.outcome, told.detail, told.said) == ("failed", "gone", APOLOGY)


def test_a_lost_voice_ends_the_turn_in_print() -> None:
    talk = conversation()
    work = sounding(talk)
    effects = talk.speech_failed(work, "tts went away", 2 * S)
    assert effects[:2] == [CancelWork(work), Mute(A, 2 * S, 0)]
    assert (report(effects).outcome, report(effects).said) == ("failed", "It is there.")


def test_a_voice_lost_before_it_sounded_leaves_nothing_to_unmute() -> None:
    talk = conversation()
    work = thinking(talk)
    talk.token(work, "It is there. ", 1, 1)
    assert Mute not in kinds(talk.speech_failed(work, "tts went away", 2))


def test_half_a_turn_lost_with_stt_is_apologised_for() -> None:
    talk = conversation()
    assert talk.hearing_lost(0) == []
    talk.speech_started(A, 0, 0)
    assert only(talk.hearing_lost(1), SpeakClause).text == APOLOGY_NOT_HEARD


def test_a_new_stt_is_told_to_be_deaf_while_the_answer_sounds() -> None:
    talk = conversation()
    assert talk.hearing_back(0) == []
    sounding(talk)
    assert talk.hearing_back(2 * S) == [Mute(A, 1210 * MS, MUTE_LEASE_MS)]  # as of its first sample


def test_the_mute_is_renewed_before_it_runs_out() -> None:
    talk = conversation()
    sounding(talk)
    assert talk.tick(1300 * MS) == []
    due_ns = 1211 * MS + MUTE_LEASE_MS * MS // 3
    assert talk.tick(due_ns) == [Mute(A, due_ns, MUTE_LEASE_MS)]


def test_a_caller_who_leaves_ends_his_turn_and_no_other() -> None:
    talk = conversation()
    assert talk.cancel(A, 0) == []
    work = sounding(talk)
    assert talk.cancel(B, 0) == []
    effects = talk.cancel(A, 2 * S)
    assert effects[:2] == [CancelWork(work), Mute(A, 2 * S, 0)]
    assert report(effects).outcome == "cancelled"


def test_nothing_is_waited_for_without_end() -> None:
    talk = conversation()
    assert talk.tick(0) == []
    talk.speech_started(A, 0, 0)
    assert talk.tick(3600 * S) == []

    talk.final(final(), 0)
    late = int((patience.RECALL_PATIENCE_S + 1) * S)
    assert only(talk.tick(late), StartModel)
    late += int((patience.FIRST_TOKEN_PATIENCE_S + 1) * S)
    assert only(talk.tick(late), SpeakClause).text == APOLOGY
    late += int((patience.STALL_PATIENCE_S + 1) * S)
    assert report(talk.tick(late)).detail == "the voice does not answer"


def test_a_model_that_stops_between_tokens_is_given_up() -> None:
    talk = conversation()
    work = thinking(talk)
    talk.token(work, "It", 1 * S, 1 * S)
    effects = talk.tick(1 * S + int((patience.STALL_PATIENCE_S + 1) * S))
    assert only(effects, CancelModel) == CancelModel(work)
    assert only(effects, SpeakClause).text == APOLOGY


def test_a_model_that_stops_while_its_first_words_sound_is_given_up() -> None:
    talk = conversation()
    sounding(talk)
    effects = talk.tick(1211 * MS + int((patience.STALL_PATIENCE_S + 1) * S))
    assert only(effects, SpeakClause).text == APOLOGY_BROKEN_OFF


def test_a_voice_that_never_ends_is_given_up_after_the_length_of_its_text() -> None:
    talk = conversation()
    work = sounding(talk)
    talk.model_done(work, USAGE, 2 * S)
    chars = sum(map(len, ["It is there.", "And"]))
    waits = patience.STALL_PATIENCE_S + patience.SOUNDING_S_PER_CHAR * chars
    assert Report not in kinds(talk.tick(2 * S + int((waits - 0.1) * S)))
    assert report(talk.tick(2 * S + int((waits + 0.1) * S))).outcome == "failed"


def test_what_a_fresh_model_should_read() -> None:
    assert conversation().read_prompt().messages[0].role == "system"


def test_words_of_a_revoked_revision_are_answered_when_nothing_comes_of_the_next() -> None:
    talk = conversation()
    thinking(talk)
    talk.resumed(A, 0, 1100 * MS, 1101 * MS)
    effects = talk.dropped(A, "the transcriber failed", 2 * S)
    assert only(effects, StartRecall) == StartRecall(Work(A, 1), "Where is the key?")


def test_words_of_a_revoked_revision_are_kept_when_stt_goes_away() -> None:
    talk = conversation()
    thinking(talk)
    talk.resumed(A, 0, 1100 * MS, 1101 * MS)
    talk.hearing_lost(2 * S)
    effects = talk.playback_drained(Work(A, 1), 3 * S)
    assert report(effects).outcome == "failed"
    assert only(effects, Store) == Store(A, "Where is the key?")


def test_what_was_heard_and_said_fits_into_a_message() -> None:
    talk = conversation()
    talk.speech_started(A, 0, 0)
    talk.final(final(text="a" * TEXT_MAX_CHARS), 1)
    talk.speech_started(B, 2, 2)
    effects = talk.final(final(B, text="Where is it?"), 3)
    heard = only(effects, TellHeard).text
    assert len(heard) == TEXT_MAX_CHARS
    assert heard.endswith("a Where is it?")
    work = Work(B, 0)
    talk.recalled(work, [], (0, 0), 4)
    for _ in range(3):
        talk.token(work, "b" * 4000 + ". ", 5, 5)
    talk.model_done(work, USAGE, 6)
    assert len(report(talk.playback_drained(work, 7)).said) == TEXT_MAX_CHARS


# --- work on the candidate ---


def prepared(talk: Conversation) -> Work:
    """Brings a turn to where its whole answer lies with the voice and waits for the turn's end."""
    talk.speech_started(A, 0, 0)
    talk.candidate(candidate(), 902 * MS)
    work = Work(A, 0)
    talk.recalled(work, [KEY], (903 * MS, 904 * MS), 905 * MS)
    assert talk.token(work, "Under the pot. There", 930 * MS, 931 * MS) == [
        SpeakClause(work, "Under the pot.", held=True),
        RestModel(work, REST_MS),
    ]
    talk.clause_ready(work, 932 * MS, 950 * MS)
    assert talk.model_done(work, USAGE, 960 * MS) == [SpeakClause(work, "There", held=True)]
    return work


def test_an_answer_to_the_candidate_is_held_until_the_turn_is_confirmed() -> None:
    talk = conversation()
    work = prepared(talk)
    assert talk.final(final(), 1002 * MS) == [
        TellHeard(A, "Where is the key?", True),
        TellSaid(A, "Under the pot."),
        TellSaid(A, "There"),
        Release(work),
        EndSpeech(work),
    ]
    assert only(talk.playback_started(work, 1010 * MS, 1011 * MS), Mute).from_ns == 1010 * MS
    told = report(talk.playback_drained(work, 2000 * MS))
    assert (told.outcome, told.heard, told.said) == ("answered", "Where is the key?", "Under the pot. There")
    assert (told.first_audio_ms, told.memories) == (510, 1)
    assert told.stages is not None
    assert (told.stages.endpoint, told.stages.llm_first_token) == (500, 0), "work in the silence costs nothing"


def test_a_turn_confirmed_before_its_first_clause_is_not_held() -> None:
    talk = conversation()
    talk.speech_started(A, 0, 0)
    talk.candidate(candidate(), 902 * MS)
    work = Work(A, 0)
    talk.recalled(work, [], (903 * MS, 904 * MS), 905 * MS)
    assert kinds(talk.final(final(), 1002 * MS)) == [TellHeard]
    assert talk.token(work, "Under the pot. ", 1010 * MS, 1011 * MS) == [
        TellSaid(A, "Under the pot."),
        SpeakClause(work, "Under the pot."),
        RestModel(work, REST_MS),
    ]
    assert talk.model_done(work, USAGE, 1100 * MS) == [EndSpeech(work)]


def test_the_model_rests_for_the_first_clause_only_and_only_while_it_has_words_to_come() -> None:
    talk = conversation()
    work = thinking(talk)
    first = talk.token(work, "Under the pot. ", 1, 1)
    assert [effect for effect in first if isinstance(effect, RestModel)] == [RestModel(work, REST_MS)]
    assert talk.clause_ready(work, 2, 3) == [RestModel(work, REST_ON_MS)]
    assert kinds(talk.token(work, "There it lies. ", 4, 4)) == [TellSaid, SpeakClause]
    assert talk.clause_ready(work, 5, 6) == []

    short = conversation()
    work = thinking(short)
    short.token(work, "Yes", 1, 1)
    assert kinds(short.model_done(work, USAGE, 2)) == [TellSaid, SpeakClause, EndSpeech]
    assert short.clause_ready(work, 3, 4) == []


def test_what_is_held_is_revoked_when_the_speaker_goes_on_and_his_words_stay() -> None:
    talk = conversation()
    work = prepared(talk)
    assert talk.resumed(A, 0, 980 * MS, 985 * MS) == [CancelWork(work)]
    assert talk.playback_started(work, 990 * MS, 991 * MS) == []
    effects = talk.candidate(candidate(revision=1, text="Where is the key to the shed?"), 1500 * MS)
    assert only(effects, StartRecall) == StartRecall(Work(A, 1), "Where is the key to the shed?")
    assert talk.token(work, "Late. ", 1510 * MS, 1511 * MS) == []
    assert kinds(talk.final(final(revision=1, text="Where is the key to the shed?"), 1800 * MS)) == [TellHeard]


def test_a_final_that_says_something_else_is_answered_anew() -> None:
    talk = conversation()
    work = prepared(talk)
    again = Work(A, 0, 1)
    assert talk.final(final(text="Where are the keys?"), 1002 * MS) == [
        CancelWork(work),
        TellHeard(A, "Where are the keys?", True),
        StartRecall(again, "Where are the keys?"),
    ]
    assert talk.recalled(work, [KEY], (1, 2), 1003 * MS) == []
    assert only(talk.recalled(again, [], (1, 2), 1004 * MS), StartModel).work == again


def test_a_final_of_a_later_revision_is_answered_anew() -> None:
    talk = conversation()
    work = prepared(talk)
    effects = talk.final(final(revision=3), 1002 * MS)
    assert effects[0] == CancelWork(work)
    assert only(effects, StartRecall).work == Work(A, 3)


@pytest.mark.parametrize("part", ["model", "no words", "voice"])
def test_early_work_that_fails_is_tried_again_when_the_turn_is_confirmed(part: str) -> None:
    talk = conversation()
    talk.speech_started(A, 0, 0)
    talk.candidate(candidate(), 902 * MS)
    work = Work(A, 0)
    talk.recalled(work, [KEY], (903 * MS, 904 * MS), 905 * MS)
    if part == "model":
        effects = talk.model_failed(work, "it broke", 910 * MS)
    elif part == "no words":
        effects = talk.model_done(work, USAGE, 910 * MS)
    else:
        talk.token(work, "Under the pot. ", 906 * MS, 907 * MS)
        effects = talk.speech_failed(work, "no speaker", 910 * MS)
    assert effects == [CancelWork(work)], "nobody hears of it"
    effects = talk.final(final(), 1002 * MS)
    assert only(effects, StartRecall) == StartRecall(Work(A, 0, 1), "Where is the key?")
    assert only(effects, TellHeard).final


def test_a_held_answer_may_sound_when_nobody_is_left_to_confirm_it() -> None:
    talk = conversation()
    work = prepared(talk)
    assert Release(work) in talk.hearing_lost(990 * MS)


def test_speech_of_another_turn_takes_the_held_words_with_it() -> None:
    talk = conversation()
    work = prepared(talk)
    effects = talk.speech_started(B, 980 * MS, 985 * MS)
    assert effects[0] == CancelWork(work)
    assert report(effects).outcome == "cancelled"
    assert only(talk.candidate(candidate(B, text="Please."), 990 * MS), StartRecall).text == "Where is the key? Please."
    assert kinds(talk.final(final(B, text="Please."), 1002 * MS)) == [TellHeard]


# --- foresight ---

POT = Memory(id=2, text="The pot is red.", importance=3, created_s=2.0, score=0.8)


def test_what_is_said_so_far_calls_up_memories_and_the_model_reads_them() -> None:
    talk = conversation()
    talk.speech_started(A, 0, 0)
    assert kinds(talk.partial(A, "Where is")) == [TellHeard], "too few words call up nothing"
    effects = talk.partial(A, "Where is the")
    assert only(effects, Foresee) == Foresee(Work(A, 0), "Where is the")
    assert kinds(talk.partial(A, "Where is the key")) == [TellHeard], "one at a time"
    prompt = only(talk.foreseen(Work(A, 0), [KEY]), ReadPrompt)
    assert not prompt.stable
    assert prompt.messages[-1].content.startswith(f"I told you before: {KEY.text}")
    assert prompt.messages[-1].content.endswith("\nWhere is the")
    assert kinds(talk.partial(A, "Where is the")) == [TellHeard], "known already"
    assert only(talk.partial(A, "Where is the key"), Foresee).text == "Where is the key"


def test_memories_that_the_model_has_read_stay_where_they_were() -> None:
    talk = conversation()
    talk.speech_started(A, 0, 0)
    talk.partial(A, "Where is the")
    talk.foreseen(Work(A, 0), [KEY, POT])
    talk.candidate(candidate(), 902 * MS)
    lamp = Memory(id=3, text="The lamp is green.", importance=3, created_s=3.0, score=0.99)
    prompt = only(talk.recalled(Work(A, 0), [lamp, POT], (1, 2), 905 * MS), StartModel).messages[-1].content
    assert prompt.startswith(f"I told you before: {POT.text} {lamp.text}"), "what matters no longer is left out"


def test_what_is_foreseen_too_late_is_dropped() -> None:
    talk = conversation()
    talk.speech_started(A, 0, 0)
    talk.partial(A, "Where is the")
    talk.candidate(candidate(), 902 * MS)
    assert talk.foreseen(Work(A, 0), [KEY]) == []


def test_words_before_belong_to_what_is_foreseen() -> None:
    talk = conversation()
    prepared(talk)
    talk.speech_started(B, 980 * MS, 985 * MS)
    assert only(talk.partial(B, "and"), Foresee).text == "Where is the key? and"


def test_the_model_is_known_to_have_read_the_start_only_when_it_said_so() -> None:
    talk = conversation()
    assert talk.read_prompt().stable
    talk.speech_started(A, 0, 0)
    talk.candidate(candidate(), 902 * MS)
    assert only(talk.recalled(Work(A, 0), [], (1, 2), 905 * MS), StartModel).stable_tokens == 0
    talk.prompt_read(150)
    talk.resumed(A, 0, 950 * MS, 951 * MS)
    talk.candidate(candidate(revision=1), 1200 * MS)
    assert only(talk.recalled(Work(A, 1), [], (1, 2), 1201 * MS), StartModel).stable_tokens == 150
    assert report(talk.cancel(A, 1300 * MS)).stable_tokens == 150


def test_without_early_work_a_candidate_is_only_told() -> None:
    talk = Conversation("home", Prompter("Timmy", "", 4, lambda: "noon"), Manner(early_work=False))
    talk.speech_started(A, 0, 0)
    assert talk.candidate(candidate(), 902 * MS) == [TellHeard(A, "Where is the key?", False)]
    assert kinds(talk.final(final(), 1002 * MS)) == [TellHeard, StartRecall]


def test_without_foresight_a_partial_is_only_told() -> None:
    talk = Conversation("home", Prompter("Timmy", "", 4, lambda: "noon"), Manner(foresight=False))
    talk.speech_started(A, 0, 0)
    assert talk.partial(A, "Where is the key") == [TellHeard(A, "Where is the key", False)]


def test_a_first_clause_has_as_many_words_as_is_set() -> None:
    talk = Conversation("home", Prompter("Timmy", "", 4, lambda: "noon"), Manner(first_clause_words=6))
    words = "one cat saw two dogs near three red cows today and "
    spoken = [each.text for each in talk.say(A, words, 0) if isinstance(each, SpeakClause)]
    assert spoken[0] == "one cat saw two dogs"
    talk.cancel(A, 1)
    talk.ask(B, "What?", True, 2)
    talk.recalled(Work(B, 0), [], (1, 2), 3)
    assert only(talk.token(Work(B, 0), words, 4, 5), SpeakClause).text == "one cat saw two dogs"
