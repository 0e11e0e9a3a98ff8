"""What a recording tells by itself, and how it is compared: on sound and figures whose truth is known."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from numpy.typing import NDArray

from ipc.audio import STT_RATE
from tools.bench import soundcard
from tools.bench.recorder import exchanges, voiced
from tools.bench.soundcard import SoundCard, SoundCardError
from tools.bench.truth import FADE, Wait, _histogram, compare, cut_off

RATE = 48_000
Channel = NDArray[np.int16]


def silence(seconds: float) -> Channel:
    return np.zeros(round(seconds * RATE), np.int16)


def tone(seconds: float, height: int = 10_000) -> Channel:
    """A sawtooth that ends at its height."""
    return (height - np.arange(round(seconds * RATE))[::-1] % 100 * (height // 100)).astype(np.int16)


def joined(*parts: Channel) -> Channel:
    return np.concatenate(parts)


def noise(length: int, height: int) -> Channel:
    return np.random.default_rng(7).integers(-height, height + 1, length).astype(np.int16)


def test_the_wait_is_from_the_last_voiced_to_the_first_audible_sample() -> None:
    questions = joined(silence(0.5), tone(1.0), silence(3.0), tone(0.7), silence(3.0))
    answers = joined(silence(2.25), tone(0.5), silence(3.0), tone(0.1), silence(2.35))
    assert len(questions) == len(answers)
    (first, second) = exchanges(questions, answers, RATE)
    assert first == pytest.approx((1.5, 0.75), abs=1e-4)
    assert second == pytest.approx((5.2, 0.55), abs=1e-4)


def test_a_question_with_a_short_pause_inside_is_one() -> None:
    questions = joined(silence(0.5), tone(0.5), silence(0.6), tone(0.5), silence(2.0))
    assert [each.asked_s for each in exchanges(questions, silence(4.1), RATE)] == pytest.approx([2.1])


def test_noise_and_the_decay_of_a_voice_are_no_speech() -> None:
    decay = (10_000 * 10 ** (-np.arange(RATE) / RATE * 60 / 20) * np.sign(np.sin(np.arange(RATE)))).astype(np.int16)
    questions = joined(silence(0.5), decay, silence(2.5))
    questions = questions + noise(len(questions), 4)
    answers = joined(silence(2.0), tone(0.5), silence(1.5)) + noise(len(questions), 4)
    ((asked_s, waited_s),) = exchanges(questions, answers, RATE)
    assert asked_s == pytest.approx(0.5 + 40 / 60, abs=0.01), "40 dB below the highest, and it falls 60 a second"
    assert waited_s == pytest.approx(2.0 - asked_s, abs=1e-4)


def test_what_sounds_before_the_question_ends_or_after_the_next_begins_is_not_its_answer() -> None:
    questions = joined(silence(0.5), tone(1.0), silence(2.0), tone(1.0), silence(1.0))
    answers = joined(silence(0.2), tone(0.5), silence(3.0), tone(0.5), silence(1.3))
    assert [each.waited_s for each in exchanges(questions, answers, RATE)] == [None, None]


def test_silence_holds_no_question() -> None:
    assert exchanges(silence(2.0), tone(2.0), RATE) == []


def test_voiced_counts_up_to_the_last_voiced_sample() -> None:
    assert voiced(np.array([0, 1000, -1000, 10, -10, 9, 0], np.int16)) == 5


def test_a_question_is_cut_where_it_is_still_loud() -> None:
    """Clicks every 20 ms that get quieter: the end is at the last one above -30 dB, and nothing of it is faded."""
    question = np.zeros(STT_RATE, np.int16)
    clicks = np.arange(0, STT_RATE, STT_RATE // 50)
    question[clicks] = 20_000 * 10 ** (-np.arange(len(clicks)) / 20)
    cut = cut_off(question)
    assert voiced(cut) == clicks[29] + 1
    assert cut[clicks[29]] == question[clicks[29]]
    assert len(cut) == voiced(cut) + FADE
    assert len(cut_off(question[: clicks[5] + 1])) == clicks[5] + 1


def wait(difference_ms: float, recording_ms: float = 800.0) -> Wait:
    return Wait(recording_ms, recording_ms + difference_ms)


def test_the_offset_comes_from_turns_that_are_not_compared() -> None:
    figures = compare([wait(-3), wait(-4), wait(-50), *(wait(ms) for ms in (-4, -6, 0, -1, -7))], 3)
    assert figures["offset_ms"] == -4
    assert figures["differences_ms"] == [0, -2, 4, 3, -3]
    assert figures["difference_ms"]["p50"] == 3
    assert (figures["difference_ms"]["max"], figures["turns"], figures["compared"]) == (4, 5, 5)
    assert figures["agrees"]


@pytest.mark.parametrize(
    "differences",
    [[6.0, -6.0] * 10, [0.0] * 17 + [21.0] * 3],
    ids=["the median is over 5 ms", "the 95th percentile is over 20 ms"],
)
def test_they_do_not_agree_when_a_target_is_passed(differences: list[float]) -> None:
    assert not compare([wait(0), *map(wait, differences)], 1)["agrees"]


@pytest.mark.parametrize("alone", [Wait(800.0, None), Wait(None, 800.0)])
def test_an_answer_that_only_one_of_both_has_is_no_agreement(alone: Wait) -> None:
    figures = compare([wait(0), wait(0), wait(0), alone], 1)
    assert (figures["in_one_only"], figures["compared"], figures["turns"]) == (1, 2, 3)
    assert not figures["agrees"]


def test_a_question_without_an_answer_is_in_neither() -> None:
    figures = compare([wait(0), wait(0), wait(0), Wait(None, None)], 1)
    assert (figures["in_one_only"], figures["compared"], figures["turns"]) == (0, 2, 3)
    assert figures["agrees"]


def test_without_answers_there_is_nothing_to_compare() -> None:
    with pytest.raises(click.ClickException, match="too few"):
        compare([Wait(None, None)] * 4, 1)


def test_the_plot_has_a_bar_for_each_two_milliseconds() -> None:
    title, *lines = _histogram([-3.0, 0.5, 0.5, 1.9])
    assert title.endswith("ms")
    assert [line.split() for line in lines] == [
        ["-4", "to", "-2", "█" * 13, "1"],
        ["-2", "to", "+0"],
        ["+0", "to", "+2", "█" * 40, "3"],
    ]


def test_without_pulseaudio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SoundCardError, match="apt install pulseaudio pulseaudio-utils"), SoundCard():
        pass
    assert soundcard.missing_packages()[:2] == ["pulseaudio", "pulseaudio-utils"]
