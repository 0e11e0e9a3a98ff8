"""What of a text is read aloud."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.speakable import portions, speakable


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("**Bold**, _slanted_ and `code`.", "Bold, slanted and code."),
        ("<b>Hi</b> [there](http://example.org).", "Hi there."),
        ("# Title\n- one\n- two", "Title, one, two"),
        ("Sunny 😀🌞 today 👍🏽!", "Sunny today!"),
        ("It is 20 °C, 5 % rain & 3 €.", "It is 20 °C, 5 % rain & 3 €."),
        ("a\x00b\x07c\ttab", "a b c tab"),
        ("co\u00adoperate", "cooperate"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("[[raw phonemes]]", "raw phonemes"),
        ("cafe\u0301", "café"),
        ("Straße, 東京", "Straße, 東京"),
    ],
)
def test_markup_and_what_cannot_be_heard_are_left_out(text: str, read: str) -> None:
    assert speakable(text) == read


@pytest.mark.parametrize(
    "text", ["", "  \n\t ", "...", "?!", "😀", "***", "\x00", "\u200b\ufe0f", "[[", "<b></b>", "- "]
)
def test_what_holds_nothing_to_read_is_empty(text: str) -> None:
    assert speakable(text) == ""


@given(st.text(max_size=200))
def test_any_text_becomes_one_clean_line(text: str) -> None:
    read = speakable(text)
    assert read == " ".join(read.split())
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Cf") for char in read)
    assert not set(read) & set("[]{}<>*_`#|\\^~")


@given(st.text(alphabet="ab .,;", max_size=300), st.integers(20, 80))
def test_portions_keep_every_word_in_order_within_the_limit(text: str, most: int) -> None:
    pieces = portions(text, most)
    assert all(0 < len(piece) <= most for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_portions_are_cut_after_punctuation() -> None:
    text = "This is the first sentence of three. And then, after it, there comes a second one that is long."
    assert portions(text, 60) == [
        "This is the first sentence of three.",
        "And then, after it, there comes a second one that is long.",
    ]
    assert portions("no marks at all in these words", 13) == ["no marks at", "all in these", "words"]
