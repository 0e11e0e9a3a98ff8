"""Clauses: cut early, never inside a number, a time, an abbreviation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.dialog.clauses import FIRST_CLAUSE_WORDS, LATER_CLAUSE_WORDS, ClauseCutter
from daemons.speakable import speakable
from ipc.limits import TEXT_MAX_CHARS


def cut(text: str, step: int = 3) -> list[str]:
    cutter = ClauseCutter()
    clauses = [clause for i in range(0, len(text), step) for clause in cutter.feed(text[i : i + step])]
    return clauses + cutter.flush()


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("Paris.", ["Paris."]),
        ("It is nine. He comes at ten. ", ["It is nine.", "He comes at ten."]),
        ("Well yes, it does. No.", ["Well yes,", "it does.", "No."]),
        ("Yes, it does.", ["Yes, it does."]),
        ("Pi is 3.14 and a day has 86,400 seconds.", ["Pi is 3.14 and a day has", "86,400 seconds."]),
        ("Ask Dr. Smith at 9:30 a.m. today. Then call.", ["Ask Dr. Smith at 9:30 a.m. today.", "Then call."]),
        ("Mr. J. Doe lives here.", ["Mr. J. Doe lives here."]),
        ("1. Open it. 2. Close it.", ["1. Open it.", "2. Close it."]),
        ("One line\nanother line", ["One line,", "another line"]),
        ("**Bold** and `code` 😀 it is.", ["Bold and code it is."]),
        ("Really?! Yes.", ["Really?!", "Yes."]),
        ("😀 🎉", []),
        (" \n\t ", []),
        ("...", []),
    ],
)
def test_clauses(text: str, clauses: list[str]) -> None:
    assert cut(text) == clauses


def test_a_sentence_without_a_pause_is_cut_between_words() -> None:
    text = " ".join(f"word{i}x" for i in range(60))
    clauses = cut(text)
    assert len(clauses[0].split()) == FIRST_CLAUSE_WORDS
    assert len(clauses[1].split()) == LATER_CLAUSE_WORDS
    assert " ".join(clauses) == text


def test_a_later_clause_is_cut_at_its_last_pause() -> None:
    words = " ".join(["go"] * 10)
    assert cut(f"Yes. {words}, {words} {words}")[1] == f"{words},"


def test_a_number_stays_with_its_unit() -> None:
    assert cut("I think that it is about 12 miles from here")[0] == "I think that it is about"


# Links and tags lose their inner parts as a whole, which a cut could fall into.
plain = st.text(st.characters(exclude_characters="[]()<>&"), max_size=300)


@given(plain, st.integers(1, 20))
def test_nothing_that_can_be_spoken_is_lost(text: str, step: int) -> None:
    heard = "".join(cut(text, step))
    assert [c for c in heard if c.isalnum()] == [c for c in speakable(text) if c.isalnum()]


@given(st.text(max_size=300))
def test_clauses_are_clean(text: str) -> None:
    for clause in cut(text):
        assert clause
        assert clause == clause.strip()
        assert clause.isprintable()
        assert not set(clause) & set("*_#~`|\\^<>[]{}")


@pytest.mark.parametrize("piece", ["a" * 10, "." * 10, '!"' * 5, "," + "'" * 9, "\n" * 10, "_" * 10])
def test_an_answer_without_a_pause_holds_nobody_up(piece: str) -> None:
    """With time that grows with the cube of its length, this would not end."""
    cutter = ClauseCutter()
    for _ in range(TEXT_MAX_CHARS // 10):
        cutter.feed(piece)
    assert len(cutter.flush()) == ("a" in piece)


def test_a_question_of_empty_lines_is_read_at_once() -> None:
    assert speakable("\n" * TEXT_MAX_CHARS + "- word") == "word"
