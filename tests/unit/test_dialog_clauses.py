"""Clauses: cut early, never inside a number, a time, an abbreviation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.dialog.clauses import CLAUSE_WORDS, ClauseCutter
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
        ("Pi is 3.14 and a day has 86,400 seconds.", ["Pi is 3.14 and a day", "has 86,400 seconds."]),
        ("Ask Dr. Smith at 9:30 a.m. today. Then call.", ["Ask Dr. Smith", "at 9:30 a.m. today.", "Then call."]),
        ("The capital of France is Paris.", ["The capital of France", "is Paris."]),
        ("The plumber comes on Tuesday at nine.", ["The plumber comes", "on Tuesday at nine."]),
        (
            "It opens at nine o'clock and closes at 5 p.m. sharp.",
            ["It opens", "at nine o'clock and closes at 5 p.m. sharp."],
        ),
        ("Meet at 10 Downing Street at 5 p.m. sharp.", ["Meet at 10 Downing Street", "at 5 p.m. sharp."]),
        ("Mount Everest is 8,848 metres high.", ["Mount Everest", "is 8,848 metres high."]),
        (
            "Write to anna@example.org or see www.example.org today.",
            ["Write to anna@example.org", "or see www.example.org today."],
        ),
        ("It weighs twenty five percent more than before.", ["It weighs", "twenty five percent more than before."]),
        ("He was born in the U.S. in 1961 or so.", ["He was born", "in the U.S. in 1961 or so."]),
        ("Mr. J. Doe lives here.", ["Mr. J. Doe lives", "here."]),
        ("1. Open it. 2. Close it.", ["1. Open it.", "2. Close it."]),
        ("One line\nanother line", ["One line,", "another line"]),
        ("**Bold** and `code` 😀 it is.", ["Bold and code", "it is."]),
        ("Really?! Yes.", ["Really?!", "Yes."]),
        ("😀 🎉", []),
        (" \n\t ", []),
        ("...", []),
    ],
)
def test_clauses(text: str, clauses: list[str]) -> None:
    assert cut(text) == clauses


@pytest.mark.parametrize(
    ("begun", "clauses"),
    [
        ("The capital of France i", ["The capital of France"]),
        ("The plumber comes on T", ["The plumber comes"]),
        ("The capital of France", []),
        ("The capital of France ", []),
        ("The shop closes five p", []),
        ("The rose costs fifty d", []),
        ("She lives near Mount E", ["She lives"]),
        ("We all go there –", []),
        ("We all go there 9", []),
        ('We all go there "', []),
        ("On a the of b", []),
        ("Yes. We all go there w", ["Yes."]),
        ("We all go there. W", ["We all go there."]),
    ],
)
def test_a_first_clause_is_cut_as_soon_as_the_next_word_begins(begun: str, clauses: list[str]) -> None:
    assert ClauseCutter().feed(begun) == clauses


def test_clauses_without_a_pause_grow() -> None:
    text = " ".join(f"word{i}x" for i in range(90))
    clauses = cut(text)
    assert [len(clause.split()) for clause in clauses[:4]] == [*CLAUSE_WORDS, CLAUSE_WORDS[-1]]
    assert " ".join(clauses) == text


@pytest.mark.parametrize("first", [2, 7, 25])
def test_the_first_clause_may_be_longer_or_shorter_and_none_after_it_is_shorter(first: int) -> None:
    cutter = ClauseCutter(first)
    clauses = cutter.feed(" ".join(f"word{i}x" for i in range(120)))
    lengths = [len(clause.split()) for clause in clauses[:3]]
    assert lengths == [first, max(first, CLAUSE_WORDS[1]), CLAUSE_WORDS[2]]


def test_a_later_clause_is_cut_at_its_last_pause() -> None:
    words = " ".join(["go"] * 10)
    assert cut(f"Yes. Fine. {words}, {words} {words}")[2] == f"{words},"


def test_a_second_clause_is_cut_at_a_pause_that_does_not_chop_it() -> None:
    assert cut("Yes. Well, if you go there, take bread. ")[1:] == ["Well, if you go there,", "take bread."]


def test_words_that_lean_on_what_follows_wait_for_it() -> None:
    assert cut("It is on the table and not below.") == ["It is on the table", "and not below."]
    assert cut("we are on the way to it and so are you and they")[0] == "we are on the way"
    assert cut("in on at by of to for and so it is the way")[0] == "in on at by", "nobody waits for ever"


PIECES = (
    *(
        "the ",
        "spare key ",
        "is ",
        "at 5 p.m. ",
        "5:30 ",
        "a.m. ",
        "3.14 ",
        "1,000 ",
        "Dr. ",
        "St. ",
        "Mount ",
        "Everest, ",
    ),
    *(
        "nine ",
        "o'clock ",
        "10 Downing ",
        "a@b.org ",
        "e.g. ",
        "... ",
        "yes, ",
        "go. ",
        "- ",
        "\n",
        "? ",
        '"so," ',
        "Bruno ",
    ),
)

# Links and tags lose their inner parts as a whole, which a cut could fall into.
plain = st.text(st.characters(exclude_characters="[]()<>&"), max_size=300)


@given(plain, st.integers(1, 20))
def test_nothing_that_can_be_spoken_is_lost(text: str, step: int) -> None:
    heard = "".join(cut(text, step))
    assert [c for c in heard if c.isalnum()] == [c for c in speakable(text) if c.isalnum()]


@given(st.one_of(plain, st.lists(st.sampled_from(PIECES)).map("".join)), st.data())
def test_the_cuts_do_not_depend_on_the_pieces(text: str, data: st.DataObject) -> None:
    cutter, clauses, at = ClauseCutter(), [], 0
    while at < len(text):
        size = data.draw(st.integers(1, 12))
        clauses += cutter.feed(text[at : at + size])
        at += size
    assert clauses + cutter.flush() == cut(text, len(text) or 1)


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


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("It is <prosody rate='fast and loud, as ever'>noon</prosody> here.", ["It is noon here."]),
        ("Look at [the first of many](http://x.invalid/a,b) links.", ["Look at the first", "of many links."]),
        ("Well. <!-- this, that and the other thing --> Yes.", ["Well.", "Yes."]),
        ("Noon.<|im_end|><|im_start|>user", ["Noon.", "user"]),
        ("It is 3 <4, and [so on", ["It is 3 4,", "and so on"]),
    ],
)
def test_mark_up_is_not_cut_and_not_spoken(text: str, clauses: list[str]) -> None:
    for size in (1, 3, len(text)):
        cutter = ClauseCutter()
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        said = [clause for piece in pieces for clause in cutter.feed(piece)] + cutter.flush()
        assert said == clauses, size
