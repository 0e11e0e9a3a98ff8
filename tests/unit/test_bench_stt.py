"""How words are counted, what is said, and the figures themselves on the real model."""

from __future__ import annotations

import zlib
from array import array
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from daemons.config import Stt
from ipc.audio import STT_RATE, read_wav, silence
from tools.bench import noise
from tools.bench.stt import Clip, difference, invented, measure, prompts, word_errors, words_of
from tools.bench.stt import stt as command

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

few_words = st.lists(st.sampled_from("abc"), max_size=7)


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("where is the key", "where is the key", 0),
        ("where is the key", "where is a key", 1),
        ("where is the key", "where is key", 1),
        ("where is the key", "where is the the key", 1),
        ("where is the key", "", 4),
        ("", "thank you", 2),
        ("a b c d", "b c d a", 2),
    ],
)
def test_a_word_error_is_a_word_changed_missing_or_added(said: str, heard: str, errors: int) -> None:
    assert word_errors(said.split(), heard.split()) == errors


@given(few_words, few_words, few_words)
def test_word_errors_are_a_distance(one: list[str], two: list[str], three: list[str]) -> None:
    assert (word_errors(one, two) == 0) == (one == two)
    assert word_errors(one, two) == word_errors(two, one)
    assert word_errors(one, three) <= word_errors(one, two) + word_errors(two, three)
    assert abs(len(one) - len(two)) <= word_errors(one, two) <= max(len(one), len(two))


def test_words_have_no_case_and_no_punctuation() -> None:
    assert words_of("Where's the KEY, please? (Re-read.)") == ["wheres", "the", "key", "please", "re", "read"]


def test_a_difference_is_that_of_the_rates() -> None:
    assert difference([1, 0, 1, 0], [5, 5, 5, 5])["points"] == 10
    assert difference([0] * 30, [7] * 30) == {"points": 0, "low": 0, "high": 0}
    mixed = difference([1, -1] * 40, [10] * 80)
    assert mixed["low"] < mixed["points"] == 0 < mixed["high"]


def test_noises_are_of_every_kind_and_the_same_every_time() -> None:
    made = noise.clips(2 * len(noise.KINDS))
    assert len({name for name, _ in made}) == len(made)
    assert made == noise.clips(2 * len(noise.KINDS))
    heights = {name: max(map(abs, array("h", pcm))) for name, pcm in made}
    assert [name for name, height in heights.items() if not height] == ["silence -50 dB", "silence -38 dB"]
    assert all(height <= 32768 / 79 for height in heights.values()), "-38 dB at most"


@pytest.mark.models
def test_words_in_noise_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    question = read_wav(EXAMPLES / "2-capital.wav") + silence(1500)
    monkeypatch.setattr(noise, "clips", lambda count: [("nothing", silence(2000)), ("somebody", question)][:count])
    found = invented(2)
    assert (found["clips"], found["with_words"]) == (2, 1)
    assert found["found"][0].startswith("somebody: What is the capital")


def test_prompts_are_those_that_can_be_compared_and_are_not_kept_for_acceptance(tmp_path: Path) -> None:
    names = [f"name-{number}" for number in range(39)] + ["dictate/name"]
    (tmp_path / "dictate").mkdir()
    texts = dict.fromkeys(names, "Please say this again.")
    texts |= {
        "tones": "[three rising tones]",
        "nine": "Press nine to go on.",
        "ten": "Press 10 now, please.",
        "no": "No.",
    }
    for name in texts:
        (tmp_path / f"{name}.g722").write_bytes(b"\xfa" * STT_RATE)  # 64 kbit/s: 2 s
    texts["gone"] = "There is no such recording."
    lines = "\n".join(["; a comment", "", *(f"{name}: {text}" for name, text in texts.items())])
    even = [name for name in names if zlib.crc32(f"{Path(name).name}.g722".encode()) % 2 == 0]
    assert "dictate/name" in even
    assert 5 < len(even) < 35
    clips = prompts(tmp_path, lines, 100)
    assert len(clips) == len(even)
    assert {(clip.text, len(clip.pcm)) for clip in clips} == {("Please say this again.", 2 * STT_RATE * 2)}
    assert len(prompts(tmp_path, lines, 5)) == 5


@pytest.mark.models
def test_the_bundled_questions_are_understood_with_both_contexts() -> None:
    said = [
        Clip("What is the capital of France?", read_wav(EXAMPLES / "2-capital.wav")),
        Clip("When does the plumber come?", read_wav(EXAMPLES / "3-plumber.wav")),
    ]
    figures = measure(said, Stt())
    assert list(figures["contexts"]) == ["short", "30 s"]
    more = figures["more_word_errors_points"]
    assert more["low"] <= more["points"] <= more["high"]
    for row in figures["contexts"].values():
        assert row["word_errors_percent"] < 20
        assert 0 < row["ms"]["p50"] <= row["ms"]["p90"]
        assert row["second_readings_percent"] == 0


@pytest.mark.models
def test_without_recorded_prompts_the_voice_speaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tools.bench.stt.PROMPTS", tmp_path / "none")
    done = CliRunner().invoke(command, ["--clips", "2", "--noises", "2"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "2 recordings" in done.output
    assert "Words were found in 0 of 2 clips" in done.output
    assert "sudo apt install asterisk-core-sounds-en" in done.output
