"""A voice that speaks in pieces says what it would say as a whole."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons import catalogue
from daemons.engines import piper_voice
from daemons.engines.piper_graph import divide
from daemons.engines.piper_voice import FIRST_FRAMES, GROWTH, Voice, _spans

pytestmark = pytest.mark.models

TEXT = "Your train leaves at half past eight from platform two, and the plumber comes on Tuesday at nine."
HOP = 256
RATE = 22_050


@pytest.fixture(scope="module")
def voice() -> Voice:
    return Voice(catalogue.resolve("tts", "joe"), "cpu", 2)


def frames_of(voice: Voice, text: str) -> Any:
    (phonemes,) = voice._piper.phonemize(text)
    return voice._frames_of(phonemes)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing else to do."""
    monkeypatch.setattr(piper_voice, "MARGIN", 0.0)


@pytest.mark.usefixtures("fast")
def test_the_pieces_are_the_whole(voice: Voice) -> None:
    frames = frames_of(voice, TEXT)
    pieces = list(voice._pieces(frames))
    whole = voice._decode(frames)
    together = np.concatenate(pieces)
    assert together.shape == whole.shape
    assert np.abs(together - whole).max() < piper_voice.SAME
    assert [piece.size // HOP for piece in pieces] == [end - start for start, end in _spans(frames.shape[-1])]


def test_a_busy_machine_gives_no_beginning_that_nothing_would_follow_in_time(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piper_voice, "MARGIN", float("inf"))
    frames = frames_of(voice, TEXT)
    (piece,) = voice._pieces(frames)
    assert piece.size == frames.shape[-1] * HOP


def test_what_waited_is_given_when_it_lasts_for_the_next_piece(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """The first piece takes a second for 28 frames, every later one no time."""

        times = itertools.chain([0.0, 1.0], itertools.repeat(1.0))

        def perf_counter(self) -> float:
            return next(self.times)

    monkeypatch.setattr(piper_voice, "time", Clock())
    spans = _spans(frames_of(voice, TEXT).shape[-1])
    sizes = [piece.size // HOP for piece in voice._pieces(frames_of(voice, TEXT)[..., : spans[3][1]])]
    assert sizes == [spans[1][1], *(end - start for start, end in _spans(spans[3][1])[2:])]


@given(st.integers(1, 2000))
def test_pieces_grow_and_none_is_shorter_than_the_first(total: int) -> None:
    spans = _spans(total)
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == total
    sizes = [end - start for start, end in spans]
    assert sizes[:-1] == [FIRST_FRAMES * GROWTH**n for n in range(len(sizes) - 1)]
    assert min(sizes) >= min(total, FIRST_FRAMES)


def test_too_little_around_a_piece_would_be_noticed(voice: Voice) -> None:
    frames = frames_of(voice, TEXT)
    whole = voice._decode(frames)
    piece = voice._piece(frames, 30, 60, 4)
    assert np.abs(piece - whole[30 * HOP : 60 * HOP]).max() > piper_voice.SAME


def test_a_voice_that_depends_on_more_than_is_tried_speaks_as_a_whole(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piper_voice, "AROUND", (1, 2))
    whole = Voice(catalogue.resolve("tts", "joe"), "cpu", 2)
    assert [piece == b"" for piece in whole.speak("Hello there.")] == [False, True]


def test_a_voice_that_shall_not_give_pieces_does_not() -> None:
    whole = Voice(catalogue.resolve("tts", "joe"), "cpu", 2, pieces=False)
    assert [piece == b"" for piece in whole.speak(TEXT)] == [False, True]


def test_a_sentence_ends_with_an_empty_piece(voice: Voice) -> None:
    pieces = list(voice.speak("Yes. Of course."))
    assert [n for n, piece in enumerate(pieces) if not piece][-1] == len(pieces) - 1
    assert pieces.count(b"") == 2


def test_all_sentences_are_as_loud_as_the_voice_makes_them_and_none_is_cut_off(voice: Voice) -> None:
    for text in ("Yes,", "The plumber", TEXT, "No! Really?"):
        samples = np.frombuffer(b"".join(voice.speak(text)), "<i2").astype(np.int32)
        peak = np.abs(samples).max() / 32767
        assert 0.4 < peak < 1.0


def test_what_is_too_loud_is_bent_not_cut() -> None:
    loud = np.frombuffer(piper_voice._pcm(np.linspace(0, 3, 3000, dtype=np.float32)), "<i2").astype(np.int32)
    assert (np.diff(loud) >= 0).all()
    assert loud[-1] <= 32767
    assert np.diff(loud).max() < 40
    quiet = np.array([0.5, -0.5], np.float32)
    assert list(np.frombuffer(piper_voice._pcm(quiet.copy()), "<i2")) == [16383, -16383]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_an_error_and_no_noise(value: float) -> None:
    with pytest.raises(ArithmeticError, match="timmy models verify"):
        piper_voice._pcm(np.array([0.1, value], np.float32))


@pytest.mark.usefixtures("fast")
def test_a_voice_stopped_gives_no_further_piece(voice: Voice) -> None:
    pieces = voice.speak(TEXT)
    next(pieces)
    voice.stop()
    with pytest.raises(Exception, match=re.compile("terminate", re.IGNORECASE)):
        list(pieces)
    voice.stop(False)
    assert list(voice.speak("Yes."))


def test_a_network_of_another_make_is_not_divided(tmp_path: Path) -> None:
    content = catalogue.resolve("tts", "joe").read_bytes()
    other = tmp_path / "other.onnx"
    other.write_bytes(content.replace(b"/dec/conv_pre/Conv", b"/vec/conv_pre/Conv"))
    assert divide(other) is None


def test_a_network_of_another_make_speaks_as_a_whole(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piper_voice, "divide", lambda path: None)
    other = Voice(catalogue.resolve("tts", "joe"), "cpu", 2)
    pieces = list(other.speak("The plumber comes on Tuesday."))
    assert [piece == b"" for piece in pieces] == [False, True]
    assert _seconds(pieces) == pytest.approx(_seconds(voice.speak("The plumber comes on Tuesday.")), rel=0.3)


def _seconds(pieces: Iterator[bytes] | list[bytes]) -> float:
    return len(b"".join(pieces)) / 2 / RATE


def test_the_parts_hold_what_the_whole_holds_once() -> None:
    path = catalogue.resolve("tts", "joe")
    parts = divide(path)
    assert parts is not None
    whole = path.stat().st_size
    assert 0.95 * whole < len(parts.encoder) + len(parts.decoder) < 1.02 * whole
