"""How long a silence confirms a turn: by its words, in two settings, and with the detector's doubt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.stt.endpointing import CLEAR_DB, DELAYS, Delays, Evidence, confirm_after, confirm_after_ms, margin_db
from daemons.stt.turn import Heard
from ipc.audio import FRAME_BYTES, FRAME_NS

QUICK, CALM = DELAYS["quick"], DELAYS["calm"]
CLEAR = 30.0
LOUD, QUIET = b"\0\20" * (FRAME_BYTES // 2), b"\1\0" * (FRAME_BYTES // 2)


def after(text: str, delays: Delays = QUICK, margin: float = CLEAR, language: str = "en") -> int:
    return confirm_after_ms(Evidence(text, margin), delays, language)


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "What's the capital of France?",
        "Where is the spare key?",
        "Where did I put my glasses?",
        "When is my sister's birthday?",
        "How far away is the moon?",
        "What time is it?",
        "What is 7 times 8?",
        "Is it going to rain tomorrow?",
        "Do I need an umbrella today?",
        "Does the museum open on Mondays?",
        "How long does it take to boil an egg?",
        "Is there a concert tonight?",
        "Can you turn off the light in the kitchen, please?",
        "Thank you.",
        "Stop, Timmy!",
        "Never mind.",
        "When does the train leave?",
        "Why did the music stop?",
    ],
)
def test_what_reads_as_finished_is_confirmed_early(text: str) -> None:
    assert after(text) == 350
    assert after(text, CALM) == 750


@pytest.mark.parametrize(
    "text",
    [
        "And then I",
        "Remind me to",
        "remind me to.",
        "The",
        "What is the?",
        "How far away is?",
        "What is the name of my?",
        "Does the museum open on?",
        "I like my coffee without.",
        "Turn on.",
        "Could you please?",
        "Because the road was",
        "The plumber is going to...",
        "I want to um",
        "I bought a new bike,",
        "Well.",
        "On Monday",
        "If it rains tomorrow",
        "When I get home",
        "I think",
    ],
)
def test_what_breaks_off_is_waited_for(text: str) -> None:
    assert after(text) == after(text, CALM) == 1200


@pytest.mark.parametrize(
    "text",
    [
        "Who won the game?",
        "What is the capital?",
        "Does the train to Boston?",
        "When does the train from Rome?",
        "What did he leave?",
        "Is there anything in the fridge?",
        "How old is he?",
        "What is that?",
        "Turn on the lights.",
        "Turn the lights off.",
        "Come in.",
        "Set a timer for ten minutes.",
        "My brother lives in Chicago.",
        "If it rains, take the umbrella.",
        "Yes.",
        "No.",
        "Why?",
        "Play some music, please.",
    ],
)
def test_what_may_go_on_is_given_more_time_than_an_inner_pause(text: str) -> None:
    assert 600 < after(text) <= 850
    assert 900 <= after(text, CALM) <= 1050


@pytest.mark.parametrize(
    "text",
    [
        "Remember that.",
        "I called her.",
        "Yes, I can.",
        "Where is he from?",
        "My brother lives in.",
        "What is the longest?",
        "Set a timer.",
        "Do you know?",
        "What did I do?",
        "the meeting with Paul",
    ],
)
def test_what_probably_goes_on_waits_longer(text: str) -> None:
    assert 850 < after(text) < 1200


def test_a_question_without_its_mark_is_less_sure() -> None:
    assert after("who is coming for dinner tonight") == 525


@pytest.mark.parametrize(("margin", "quick"), [(CLEAR_DB, 350), (CLEAR_DB - 0.1, 700), (0.0, 700)])
def test_without_a_clear_silence_nothing_is_finished_for_sure(margin: float, quick: int) -> None:
    assert after("What is the capital of France?", margin=margin) == quick
    assert after("And then I", margin=margin) == 1200


@pytest.mark.parametrize("text", ["", "...", "?"])
def test_without_words_nobody_can_tell(text: str) -> None:
    assert after(text) == 700


@pytest.mark.parametrize(
    ("text", "quick"),
    [("Wo ist der Schlüssel?", 665), ("Das war", 950), ("Ich wollte,", 1200), ("鍵はどこですか。", 665)],
)
def test_other_languages_have_their_punctuation(text: str, quick: int) -> None:
    assert after(text, language="de") == quick


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("Where's the spare key?", "Where is the spare key?"),
        ("When's my Spanish lesson?", "When is my Spanish lesson?"),
        ("Who's coming for dinner?", "Who is coming for dinner?"),
        ("How're my plants?", "How are my plants?"),
        ("What's the", "What is the"),
        ("Where's", "Where is"),
    ],
)
def test_a_question_is_judged_alike_in_its_short_form(short: str, long: str) -> None:
    assert after(short) == after(long)
    assert after(short, CALM) == after(long, CALM)


def test_a_curly_apostrophe_is_one_too() -> None:
    assert after("What’s the capital of France?") == after("What's the capital of France?")


@given(st.text(), st.floats(-100, 100), st.sampled_from(["en", "de"]))
def test_any_text_has_an_answer_between_the_shortest_and_the_longest(text: str, margin: float, language: str) -> None:
    for delays in DELAYS.values():
        assert delays.finished_ms <= after(text, delays, margin, language) <= delays.broken_ms


# --- the sound ------------------------------------------------------------------------------------


def frames(*pcm: bytes) -> list[Heard]:
    return [Heard(number * FRAME_NS, sound == LOUD, sound) for number, sound in enumerate(pcm)]


def test_the_margin_is_the_last_sound_above_the_silence() -> None:
    heard = frames(*[QUIET] * 5, *[LOUD] * 20, *[QUIET] * 10)
    assert margin_db(heard, 25 * FRAME_NS) == pytest.approx(72.2, abs=0.1)  # 20 log10(4096)


def test_only_the_last_sound_counts() -> None:
    assert margin_db(frames(*[LOUD] * 20, *[QUIET] * 8, *[QUIET] * 10), 28 * FRAME_NS) == 0


def test_digital_silence_has_a_level() -> None:
    assert margin_db(frames(LOUD, bytes(FRAME_BYTES)), FRAME_NS) == pytest.approx(81.9, abs=0.1)


@pytest.mark.parametrize("last_voiced_ns", [0, 5 * FRAME_NS])
def test_without_sound_or_silence_there_is_no_margin(last_voiced_ns: int) -> None:
    assert margin_db(frames(*[LOUD] * 5), last_voiced_ns) == 0


def test_a_configuration_makes_the_rule() -> None:
    heard = frames(*[LOUD] * 20, *[QUIET] * 10)
    for text, quick, calm in (("Where is the spare key?", 350, 750), ("And then I", 1200, 1200)):
        assert confirm_after("quick", "en")(text, heard, 20 * FRAME_NS) == quick
        assert confirm_after("calm", "en")(text, heard, 20 * FRAME_NS) == calm
    assert confirm_after("quick", "de")("Where is the spare key?", heard, 20 * FRAME_NS) == 665
