"""The turns of a conversation, in simulated time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemons.stt.core import CLOSE_NS, MS, Effect, Segmenter, Transcribe
from daemons.stt.turn import SEGMENT_FRAMES, START_VOICED, Heard
from ipc.audio import FRAME_MS, FRAME_NS
from ipc.messages import Down, Muted, Partial, SpeechStarted, TurnCandidate, TurnDropped, TurnFinal, TurnResumed

START_NS = 1_000_000 * MS


class Room:
    """A speaker, a clock and a transcriber. A voiced frame's audio is its word, so that a transcript shows
    which frames it was made of; the transcriber takes `delay` frames."""

    def __init__(
        self,
        delay: int = 0,
        candidate_ms: int = 200,
        confirm_ms: int = 500,
        slow: dict[str, int] | None = None,
        drafts: bool = True,
    ) -> None:
        """A silence of `confirm_ms` confirms any words but those in `slow`."""
        rids = (n.to_bytes(16, "big") for n in itertools.count(1))
        self.judged: list[tuple[str, bytes, int]] = []
        self.confirm_ms, self.slow = confirm_ms, slow or {}
        self.core = Segmenter("home", lambda: next(rids), self.judge, candidate_ms, drafts)
        self.now_ns = START_NS
        self.delay = delay
        self.events: list[Down] = []
        self.jobs: list[Transcribe] = []
        self.pending: tuple[int, Transcribe] | None = None
        self.deaf = False  # the transcriber finds no words
        self.broken = False

    def judge(self, text: str, frames: Sequence[Heard], last_voiced_ns: int) -> int:
        self.judged.append((text, b"".join(heard.pcm for heard in frames), last_voiced_ns))
        return self.slow.get(text, self.confirm_ms)

    def apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Transcribe):
                assert self.pending is None, "two transcripts under way"
                self.jobs.append(effect)
                self.pending = (self.delay, effect)
            else:
                self.events.append(effect)
        self.answer()

    def answer(self) -> None:
        if self.pending is not None and self.pending[0] <= 0:
            job, self.pending = self.pending[1], None
            self.apply(self.core.transcribed(None if self.broken else self.read(job.pcm), self.now_ns))

    def read(self, pcm: bytes) -> str:
        words = [word for word, _ in itertools.groupby(pcm.decode()) if word not in ".~"]
        return "" if self.deaf else " ".join(words)

    def frame(self, sound: str) -> None:
        """One frame: a letter is a voiced frame of that word, "." silence, "~" voiced noise."""
        heard = Heard(self.now_ns, sound != ".", sound.encode())
        self.now_ns += FRAME_NS
        if self.pending is not None:
            self.pending = (self.pending[0] - 1, self.pending[1])
            self.answer()
        self.apply(self.core.frame(heard, self.now_ns))

    def hear(self, sounds: str) -> Room:
        for sound in sounds:
            self.frame(sound)
        return self

    def mute(self, from_ns: int, lease_ms: int) -> None:
        self.apply(self.core.mute(from_ns, lease_ms, self.now_ns))

    def silence(self) -> None:
        self.apply(self.core.silence(self.now_ns))

    def of(self, kind: type[Down]) -> list[Down]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def story(self) -> list[str]:
        """The events in short: started, partial, candidate 1 "a b", resumed 1, final 2 "a b c", dropped."""
        return [_short(event) for event in self.events if not isinstance(event, Partial)]


def _short(event: Down) -> str:
    turn = int.from_bytes(getattr(event, "turn", b""), "big")
    match event:
        case SpeechStarted():
            return f"{turn} started"
        case TurnCandidate():
            return f"{turn} candidate {event.revision} {event.text}"
        case TurnResumed():
            return f"{turn} resumed {event.revision}"
        case TurnFinal():
            return f"{turn} final {event.revision} {event.text}"
        case TurnDropped():
            return f"{turn} dropped {event.reason}"
        case _:
            assert isinstance(event, Muted)
            return f"muted {event.dropped_ms}"


def ms(milliseconds: int) -> str:
    return "." * (milliseconds // 20)


def test_a_turn_from_the_first_voiced_sample_to_the_final() -> None:
    room = Room().hear(ms(400) + "a" * 20 + ms(600))
    assert room.story == ["1 started", "1 candidate 1 a", "1 final 1 a"]
    started, candidate, final = room.events[0], room.of(TurnCandidate)[0], room.of(TurnFinal)[0]
    assert isinstance(started, SpeechStarted)
    assert isinstance(candidate, TurnCandidate)
    assert isinstance(final, TurnFinal)
    first_ns, last_ns = START_NS + 400 * MS, START_NS + 800 * MS
    assert started.t_ns == first_ns
    assert candidate.last_voiced_ns == final.last_voiced_ns == last_ns
    assert candidate.endpoint_ns == last_ns + 200 * MS
    assert final.endpoint_ns == final.sent_ns == last_ns + 500 * MS
    assert candidate.transcript_ns == final.transcript_ns == last_ns + 20 * MS


@pytest.mark.parametrize(("voice_ms", "confirmed_ms"), [(3, 1280), (9, 1280), (11, 1300), (20, 1300)])
def test_a_voice_may_end_anywhere_in_its_last_frame(voice_ms: int, confirmed_ms: int) -> None:
    """The silence that confirms a turn counts from its last voiced sample, to the nearest end of a frame."""
    room = Room().hear(ms(400) + "a" * 19)
    room.apply(room.core.frame(Heard(room.now_ns, True, b"a", voice_ms * MS), room.now_ns + FRAME_NS))
    room.now_ns += FRAME_NS
    room.hear(ms(600))
    candidate, final = room.of(TurnCandidate)[0], room.of(TurnFinal)[0]
    assert isinstance(candidate, TurnCandidate)
    assert isinstance(final, TurnFinal)
    assert candidate.last_voiced_ns == final.last_voiced_ns == START_NS + (780 + voice_ms) * MS
    assert final.endpoint_ns == START_NS + confirmed_ms * MS


def test_the_transcript_is_asked_for_within_the_pause_and_once() -> None:
    room = Room().hear(ms(400) + "a" * 20 + ms(600))
    assert [job.draft for job in room.jobs] == [False]
    assert room.jobs[0].pcm == (ms(340) + "a" * 20 + ms(20)).encode(), "pre-roll, speech, lull"


def test_a_transcript_is_superseded_when_more_is_said() -> None:
    room = Room(delay=40, drafts=False).hear("a" * 20 + ms(60))
    assert not room.jobs[0].superseded()
    room.hear("b" * 10)
    assert room.jobs[0].superseded()
    room.hear(ms(1500))
    assert not room.jobs[1].superseded()


def test_a_final_waits_for_a_slow_transcript() -> None:
    room = Room(delay=40).hear("a" * 20 + ms(700))
    assert room.story == ["1 started"]
    room.hear(ms(300))
    assert room.story == ["1 started", "1 candidate 1 a", "1 final 1 a"]


def test_a_blip_is_no_speech_and_does_not_revoke() -> None:
    room = Room().hear(ms(100) + "~" + ms(100) + "~~" + ms(400))
    assert room.story == []
    room.hear("a" * 20 + ms(300) + "~" + ms(400))
    assert room.story == ["1 started", "1 candidate 1 a", "1 final 1 a"]


def test_a_short_gap_inside_a_word_is_no_pause() -> None:
    room = Room().hear("a" * 10 + ms(40) + "a" + ms(600))
    final = room.of(TurnFinal)[0]
    assert isinstance(final, TurnFinal)
    assert final.last_voiced_ns == START_NS + (10 + 2 + 1) * FRAME_NS


def test_speech_before_the_final_revokes_the_candidate_and_keeps_its_words() -> None:
    room = Room().hear("a" * 20 + ms(300) + "b" * 20 + ms(600))
    assert room.story == ["1 started", "1 candidate 1 a", "1 resumed 1", "1 candidate 2 a b", "1 final 2 a b"]
    resumed = room.of(TurnResumed)[0]
    assert isinstance(resumed, TurnResumed)
    assert resumed.t_ns == START_NS + 20 * FRAME_NS + 300 * MS
    assert room.jobs[-1].pcm.count(b"a") == 20, "the whole turn is transcribed again"


def test_speech_before_the_candidate_revokes_nothing() -> None:
    room = Room().hear("a" * 20 + ms(140) + "b" * 20 + ms(600))
    assert room.story == ["1 started", "1 candidate 1 a b", "1 final 1 a b"]
    assert [partial.text for partial in room.of(Partial) if isinstance(partial, Partial)] == ["a", "a b"]


def test_a_transcript_that_comes_after_the_speaker_went_on_is_a_partial() -> None:
    room = Room(delay=10).hear("a" * 20 + ms(120) + "b" * 30 + ms(700))
    assert room.story == ["1 started", "1 candidate 1 a b", "1 final 1 a b"]
    assert next(partial.text for partial in room.of(Partial) if isinstance(partial, Partial)) == "a"


def test_speech_after_the_final_joins_the_turn() -> None:
    room = Room().hear("a" * 20 + ms(2000) + "b" * 20 + ms(600))
    assert room.story[3:] == ["1 resumed 1", "1 candidate 2 a b", "1 final 2 a b"]
    assert b"a" not in room.jobs[-1].pcm, "words that were final are not transcribed again"


def test_noise_after_the_final_ends_in_the_same_words() -> None:
    room = Room().hear("a" * 20 + ms(800) + "~" * 20 + ms(600))
    assert room.story[3:] == ["1 resumed 1", "1 candidate 2 a", "1 final 2 a"]


def test_a_turn_that_nobody_closes_is_closed_in_time() -> None:
    room = Room().hear("a" * 20 + ms(CLOSE_NS // MS) + "b" * 20 + ms(600))
    assert room.story[3:] == ["2 started", "2 candidate 1 b", "2 final 1 b"]


def test_noise_is_dropped() -> None:
    room = Room().hear("~" * 20 + ms(600))
    assert room.story == ["1 started", "1 dropped no words"]
    assert room.core.idle


def test_a_cough_does_not_unsay_what_was_said() -> None:
    room = Room().hear("a" * 20 + ms(300))
    room.deaf = True
    room.hear("~" * 20 + ms(600))
    assert room.story[-1] == "1 final 2 a"


def test_partials_while_speaking() -> None:
    room = Room(delay=5).hear("".join(word * 25 for word in "abcdef") + ms(600))
    assert [job.draft for job in room.jobs] == [True] * 5 + [False]
    partials = [partial.text for partial in room.of(Partial) if isinstance(partial, Partial)]
    assert partials == ["a b", "a b c", "a b c d", "a b c d e", "a b c d e f"]


@pytest.mark.parametrize(("delay", "apart_ms"), [(0, 300), (3, 300), (4, 400), (8, 800), (9, 900), (30, 900)])
def test_the_slower_the_transcriber_the_fewer_the_drafts(delay: int, apart_ms: int) -> None:
    room = Room(delay).hear("a" * 300)
    assert all(job.draft for job in room.jobs)
    said = [len(job.pcm) for job in room.jobs]
    frames = [later - earlier for earlier, later in itertools.pairwise(said)]
    assert set(frames) == {apart_ms // FRAME_MS}


def test_a_transcript_that_outlasts_its_turn_counts_in_full() -> None:
    room = Room(delay=12).hear("a" * 45 + ".")
    room.mute(START_NS, 100)
    room.hear("b" * 100)
    assert room.story[-1] == "2 started"
    assert len(room.jobs[1].pcm) == START_VOICED + 900 // FRAME_MS


def test_without_drafts_words_are_looked_for_in_pauses_alone() -> None:
    room = Room(drafts=False).hear("a" * 150 + ms(100) + "b" * 150 + ms(600))
    assert [job.draft for job in room.jobs] == [False, False]
    assert room.story[-1] == "1 final 1 a b"


def test_a_partial_is_not_told_twice() -> None:
    room = Room().hear("a" * 150)
    assert len(room.jobs) == 7
    assert len(room.of(Partial)) == 1


def test_a_minute_is_split_and_nothing_is_lost() -> None:
    sounds = "".join(letter * 45 + ms(100) for letter in "abcdefghijklmnopqrstuvwxyz" * 3)
    room = Room(delay=30).hear(sounds[: SEGMENT_FRAMES + 500] + ms(1000))
    finals = [event for event in room.events if isinstance(event, TurnFinal)]
    assert [final.turn[-1] for final in finals] == [1, 2]
    said = room.read(sounds[: SEGMENT_FRAMES + 500].encode())
    assert " ".join(final.text for final in finals) == said


def test_a_minute_without_a_pause_is_split_too() -> None:
    room = Room(delay=10).hear("a" * SEGMENT_FRAMES + "b" * 50 + ms(600))
    assert [event.text for event in room.events if isinstance(event, TurnFinal)] == ["a", "b"]


def test_a_minute_of_noise_is_dropped_and_what_follows_is_heard() -> None:
    room = Room(delay=10).hear("~" * SEGMENT_FRAMES + "b" * 50 + ms(600))
    assert room.story == ["1 started", "1 dropped no words", "2 started", "2 candidate 1 b", "2 final 1 b"]


def test_a_transcriber_that_fails_ends_the_turn_and_not_the_conversation() -> None:
    room = Room()
    room.broken = True
    room.hear("a" * 20 + ms(600))
    room.broken = False
    room.hear("b" * 20 + ms(600))
    assert room.story[:3] == ["1 started", "1 dropped the transcriber failed", "2 started"]
    assert room.story[-1] == "2 final 1 b"


def test_the_end_of_the_input_completes_the_turn() -> None:
    room = Room(delay=5).hear("a" * 20)
    room.silence()
    room.hear(ms(140))
    assert room.story == ["1 started", "1 candidate 1 a", "1 final 1 a"]
    assert room.core.idle


def test_the_end_of_the_input_closes_a_turn_that_could_be_joined() -> None:
    room = Room().hear("a" * 20 + ms(600))
    idle = [room.core.idle]
    for _ in range(2):
        room.silence()
        idle.append(room.core.idle)
    assert idle == [False, True, True]


# --- mute -----------------------------------------------------------------------------------------


def test_what_a_mute_covers_is_not_heard_but_counted() -> None:
    room = Room()
    room.mute(room.now_ns, 30_000)
    room.hear("a" * 50 + ms(500))
    room.mute(room.now_ns, 0)
    assert room.story == ["muted 1000"]
    assert room.core.dropped_ms == 1000
    room.hear("b" * 20 + ms(600))
    assert room.story[-1] == "1 final 1 b"


def test_a_mute_closes_the_turn() -> None:
    room = Room().hear("a" * 20 + ms(600))
    room.mute(room.now_ns, 1000)
    room.mute(room.now_ns, 0)
    room.hear("b" * 20 + ms(600))
    assert room.story[3:] == ["muted 0", "2 started", "2 candidate 1 b", "2 final 1 b"]


def test_a_lease_runs_out_by_itself() -> None:
    room = Room()
    room.mute(room.now_ns, 400)
    room.hear(ms(500) + "b" * 20 + ms(600))
    assert room.story == ["muted 0", "1 started", "1 candidate 1 b", "1 final 1 b"]


def test_a_renewed_lease_lasts_longer() -> None:
    room = Room()
    begin_ns = room.now_ns
    room.mute(begin_ns, 400)
    room.hear("a" * 10)
    room.mute(begin_ns, 400)
    room.hear("a" * 19 + ms(100))
    assert room.story == ["muted 580"]


def test_a_mute_lifted_before_a_frame_fell_into_it_closes_the_turn_too() -> None:
    room = Room().hear("a" * 20 + ms(600))
    room.mute(room.now_ns + 5 * MS, 3000)
    room.mute(room.now_ns + 6 * MS, 0)
    room.hear(ms(300) + "b" * 20 + ms(600))
    assert [line for line in room.story if not line.startswith("muted")] == [
        "1 started", "1 candidate 1 a", "1 final 1 a", "2 started", "2 candidate 1 b", "2 final 1 b",
    ]  # fmt: skip


def test_a_mute_begins_at_its_time_and_not_at_its_arrival() -> None:
    room = Room().hear("a" * 20)
    room.mute(room.now_ns + 200 * MS, 1000)
    room.hear("a" * 10 + "x" * 20 + ms(300))
    assert room.story == ["1 started", "1 candidate 1 a", "1 final 1 a"]
    assert room.jobs[-1].pcm == b"a" * 30


def test_a_mute_that_arrives_late_takes_back_what_it_covers() -> None:
    room = Room().hear("a" * 20)
    from_ns = room.now_ns
    room.hear("x" * 10)
    room.mute(from_ns, 1000)
    assert room.story == ["1 started", "1 candidate 1 a", "1 final 1 a"]
    final = room.of(TurnFinal)[0]
    assert isinstance(final, TurnFinal)
    assert final.last_voiced_ns == from_ns
    room.mute(room.now_ns, 0)
    assert room.story[-1] == "muted 200"


def test_a_late_mute_voids_a_transcript_under_way() -> None:
    room = Room(delay=6).hear("a" * 20 + ms(100))
    from_ns = room.now_ns - 200 * MS
    assert room.pending is not None
    room.mute(from_ns, 1000)
    room.hear(ms(400))
    assert len(room.jobs) == 2
    assert room.jobs[-1].pcm == b"a" * 15
    assert room.story[-1] == "1 final 1 a"


def test_a_late_mute_voids_a_candidate_with_its_words() -> None:
    room = Room().hear("a" * 20)
    from_ns = room.now_ns
    room.hear("x" * 10 + ms(300))
    room.mute(from_ns, 1000)
    assert room.story[1:] == ["1 candidate 1 a x", "1 resumed 1", "1 candidate 2 a", "1 final 2 a"]


def test_a_turn_wholly_within_a_late_mute_is_dropped() -> None:
    room = Room().hear(ms(100))
    from_ns = room.now_ns
    room.hear("x" * 10)
    room.mute(from_ns, 1000)
    assert room.story == ["1 started", "1 dropped muted"]


def test_a_late_mute_leaves_the_words_of_an_earlier_segment() -> None:
    room = Room().hear("a" * 20 + ms(600))
    from_ns = room.now_ns
    room.hear("x" * 10)
    room.mute(from_ns, 1000)
    assert room.story[3:] == ["1 resumed 1", "1 candidate 2 a", "1 final 2 a"]
    final = room.of(TurnFinal)[-1]
    assert isinstance(final, TurnFinal)
    assert final.last_voiced_ns == START_NS + 20 * FRAME_NS


def test_a_mute_begins_again_with_every_turn_it_finds() -> None:
    """A segment is split, then muted before its transcript is there: what waited is heard, and closed too."""
    room = Room(delay=40).hear("a" * SEGMENT_FRAMES + "b" * 20)
    room.mute(room.now_ns, 30_000)
    room.hear("x" * 200)
    assert [event.text for event in room.events if isinstance(event, TurnFinal)] == ["a", "b"]
    assert room.core.idle


def test_the_end_of_a_mute_is_told_late_and_loses_nothing() -> None:
    room = Room()
    room.mute(room.now_ns, 30_000)
    room.hear("x" * 20)
    drained_ns = room.now_ns
    room.hear("b" * 20)
    room.mute(drained_ns, 0)
    room.hear(ms(600))
    assert room.story == ["muted 400", "1 started", "1 candidate 1 b", "1 final 1 b"]


def test_the_end_of_a_mute_may_lie_ahead() -> None:
    room = Room()
    room.mute(room.now_ns, 30_000)
    room.mute(room.now_ns + 200 * MS, 0)
    room.hear("x" * 10 + "b" * 20 + ms(600))
    assert room.story == ["muted 200", "1 started", "1 candidate 1 b", "1 final 1 b"]


def test_an_end_without_a_mute_is_nothing() -> None:
    room = Room()
    room.mute(room.now_ns, 0)
    assert room.events == []


# --- how long a silence ---------------------------------------------------------------------------


def test_the_words_and_the_sound_say_how_long_a_silence_confirms() -> None:
    room = Room(confirm_ms=340, slow={"a": 1200}).hear("a" * 20 + ms(1000) + "b" * 20 + ms(400))
    assert room.story == ["1 started", "1 candidate 1 a", "1 resumed 1", "1 candidate 2 a b", "1 final 2 a b"]
    final = room.of(TurnFinal)[0]
    assert isinstance(final, TurnFinal)
    assert final.endpoint_ns == final.last_voiced_ns + 340 * MS


def test_a_silence_is_judged_once_at_its_candidate() -> None:
    room = Room().hear("a" * 20 + ms(300) + "b" * 20 + ms(600))
    first_ns, second_ns = START_NS + 400 * MS, START_NS + 1100 * MS
    a, b = b"a" * 20, b"b" * 20
    pause, silence = ms(300).encode(), ms(200).encode()
    assert room.judged == [("a", a + silence, first_ns), ("a b", a + pause + b + silence, second_ns)]


def test_words_that_were_final_before_are_judged_with_those_that_joined() -> None:
    room = Room().hear("a" * 20 + ms(600) + "b" * 20 + ms(600))
    assert [text for text, _, _ in room.judged] == ["a", "a b"]


def test_a_transcript_that_comes_late_confirms_at_once_what_was_silent_long_enough() -> None:
    room = Room(delay=30, confirm_ms=340).hear("a" * 20 + ms(1000))
    candidate, final = room.of(TurnCandidate)[0], room.of(TurnFinal)[0]
    assert isinstance(candidate, TurnCandidate)
    assert isinstance(final, TurnFinal)
    assert final.sent_ns == final.transcript_ns == final.last_voiced_ns + 620 * MS
    assert candidate.endpoint_ns == final.last_voiced_ns + 200 * MS
    assert final.endpoint_ns == final.last_voiced_ns + 340 * MS, "the rest of the wait was the transcript's"


def test_a_transcript_that_comes_late_and_breaks_off_is_still_waited_for() -> None:
    room = Room(delay=30, slow={"a": 1200}).hear("a" * 20 + ms(1100))
    assert room.story == ["1 started", "1 candidate 1 a"]
    room.hear(ms(100))
    final = room.of(TurnFinal)[0]
    assert isinstance(final, TurnFinal)
    assert final.endpoint_ns == final.sent_ns == final.last_voiced_ns + 1200 * MS


@pytest.mark.parametrize(("candidate_ms", "confirm_ms"), [(0, 0), (500, 200), (60, 5000)])
def test_odd_settings_end_turns_too(candidate_ms: int, confirm_ms: int) -> None:
    room = Room(candidate_ms=candidate_ms, confirm_ms=confirm_ms).hear("a" * 20 + ms(6000))
    assert room.story == ["1 started", "1 candidate 1 a", "1 final 1 a"]


# --- any schedule ---------------------------------------------------------------------------------

sounds = st.lists(
    st.one_of(
        st.integers(4, 60).map(lambda n: "s" * n),
        st.integers(1, 60).map(lambda n: "." * n),
        st.just("~"),
        st.just("M"),
        st.just("U"),
        st.just("E"),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(sounds, st.integers(0, 30))
def test_any_schedule_keeps_every_word_and_the_order_of_events(parts: list[str], delay: int) -> None:
    room, expected, letters = Room(delay), "", itertools.cycle("abcdefghijklmnopqrstuvwxyz")
    muted = False
    for part in parts:
        if part == "M":
            room.mute(room.now_ns, 30_000)
            muted = True
        elif part == "U":
            room.mute(room.now_ns, 0)
            muted = False
        elif part == "E":
            room.silence()
        elif part[0] == "s":
            letter = next(letters)
            room.hear(letter * len(part) + "." * 6)  # a pause, so that a following mute cannot split a word's start
            expected += "" if muted else letter
        else:
            room.hear(part)
    room.mute(room.now_ns, 0)
    room.hear(ms(3000))
    finals = {event.turn: event.text for event in room.events if isinstance(event, TurnFinal)}
    assert "".join("".join(finals.values()).split()) == expected
    _in_order(room.events)


def _in_order(events: list[Down]) -> None:
    """Of each turn: started first; a revision's candidate before its final; only what was told is resumed."""
    turns: dict[bytes, list[Down]] = {}
    for event in events:
        if not isinstance(event, Muted):
            turns.setdefault(event.turn, []).append(event)  # type: ignore[attr-defined]
    for story in turns.values():
        assert isinstance(story[0], SpeechStarted)
        told = finished = 0
        for event in story[1:]:
            match event:
                case TurnCandidate():
                    assert event.revision == told + 1
                    assert event.transcript_ns <= event.endpoint_ns + 10**10
                    told = event.revision
                case TurnFinal():
                    assert event.revision == told != finished
                    finished = told
                case TurnResumed():
                    assert event.revision == told
                case TurnDropped():
                    assert event is story[-1]
