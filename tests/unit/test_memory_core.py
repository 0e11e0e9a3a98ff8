"""Which words are kept, and which memories answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.memory import core
from daemons.memory.core import Fact, Hit
from ipc import limits
from ipc.messages import Memory


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        ("Remember that the plumber comes on Tuesday at nine.", "the plumber comes on Tuesday at nine."),
        ("remember my sister's birthday is in March", "my sister's birthday is in March"),
        ("Please remember, the bell rings twice.", "the bell rings twice."),
        ("Timmy, please remember that I like tea.", "I like tea."),
        ("Hey Timmy! Remember: the gate is locked.", "the gate is locked."),
        ("Don’t forget that Emma cannot eat eggs.", "Emma cannot eat eggs."),
        ("Do not forget the rent is due.", "the rent is due."),
        ("Keep in mind that Olga is away.", "Olga is away."),
        ("Make a note that we are out of oil.", "we are out of oil."),
        ("Can you remember that I parked on level three?", "I parked on level three."),
        ("I'd like you to remember that my name is Bob.", "my name is Bob."),
        ("  Remember \n that\tit   rains. ", "it rains."),
    ],
)
def test_a_request_leaves_the_plain_fact(heard: str, text: str) -> None:
    assert core.fact(heard) == Fact(text, asked=True)


@pytest.mark.parametrize(
    "heard",
    [
        "The plumber comes on Tuesday.",
        "I remember that the bell rang.",
        "Do you remember that day?",
        "Remember to buy milk.",
        "Remember when we went to Rome?",
        "Remember that.",
        "Remember.",
        "Note the time.",
        "",
    ],
)
def test_anything_else_stays_as_it_was_said(heard: str) -> None:
    assert core.fact(heard) == Fact(heard, asked=False)


def test_control_characters_are_not_kept() -> None:
    assert core.fact("the\x00key\x1b is\u2028here") == Fact("the key is here", asked=False)


def test_what_was_asked_for_is_important() -> None:
    assert core.grade(Fact("x", asked=True), 1) == core.ASKED_IMPORTANCE
    assert core.grade(Fact("x", asked=True), 5) == 5
    assert core.grade(Fact("x", asked=False), 1) == 1


@pytest.mark.parametrize(
    ("text", "importance", "always", "kept"),
    [
        ("the key is here", 2, False, True),
        ("the key is here", 1, False, False),
        ("the key is here", 0, True, True),
        ("...", 5, True, False),
        ("🎉", 5, True, False),
    ],
)
def test_keeps_what_is_important_enough(text: str, importance: int, always: bool, kept: bool) -> None:
    assert core.keeps(Fact(text, asked=False), importance, 2, always) is kept


def test_the_same_fact_has_the_same_key() -> None:
    assert core.same_key("The plumber comes at nine.") == core.same_key("the plumber comes, at 9")
    assert core.same_key("The plumber comes at nine.") != core.same_key("The plumber comes at ten.")


def test_telling_words_are_those_that_tell() -> None:
    assert core.telling_words("Where's the spare key? I don't know where my key is!") == ["spare", "key"]
    assert core.telling_words("What is it?") == []
    assert core.telling_words('spare" OR * NEAR(key) 🎉 sister’s') == ["spare", "near", "key", "sister"]
    assert len(core.telling_words(" ".join(f"word{n}" for n in range(99)))) == core.WORDS_MAX


@given(st.text())
def test_any_text_is_a_fact_and_a_question(text: str) -> None:
    fact = core.fact(text)
    assert fact.text == " ".join(fact.text.split())
    assert all(core.has_word(word) or word == "_" * len(word) for word in core.telling_words(text))
    assert core.keeps(fact, 5, 2, always=False) is core.has_word(text)


def hit(id_: int, cosine: float, words: int = 0, told_s: float = 0.0) -> Hit:
    return Hit(id_, f"memory {id_}", 3, told_s, cosine, words)


def ids(memories: list[Memory]) -> list[int]:
    return [memory.id for memory in memories]


def test_relevance_counts_meaning_and_words_and_stays_in_bounds() -> None:
    assert core.relevance(hit(1, 0.5, 1), 2) == pytest.approx(0.5 + core.WORD_WEIGHT / 2)
    assert core.relevance(hit(1, 0.5), 0) == 0.5
    assert core.relevance(hit(1, 0.99, 2), 2) == 1.0
    assert core.relevance(hit(1, -1.0000001), 0) == -1.0


def test_only_what_is_relevant_enough_answers_best_first() -> None:
    hits = [hit(1, 0.55), hit(2, 0.7), hit(3, 0.49), hit(4, 0.2, 1)]
    answers = core.relevant(hits, 1, 0.5, 10)
    assert ids(answers) == [2, 1]
    assert answers[0] == Memory(id=2, text="memory 2", importance=3, created_s=0.0, score=0.7)
    assert core.relevant(hits, 1, 0.8, 10) == []
    assert core.relevant([], 1, 0.5, 10) == []
    assert ids(core.relevant(hits, 1, 0.5, 1)) == [2]


def test_what_is_far_behind_the_best_does_not_answer() -> None:
    assert ids(core.relevant([hit(1, 0.9), hit(2, 0.75), hit(3, 0.6)], 0, 0.5, 10)) == [1, 2]


def test_of_equals_the_one_told_last_comes_first() -> None:
    assert ids(core.relevant([hit(1, 0.6, told_s=1.0), hit(2, 0.6, told_s=2.0)], 0, 0.5, 10)) == [2, 1]


def test_a_reply_fits_the_wire() -> None:
    def memory(id_: int, chars: int) -> Memory:
        return Memory(id=id_, text="x" * chars, importance=3, created_s=0.0)

    small = [memory(n, 10) for n in range(300)]
    assert len(core.fitting(small)) == limits.LIST_MAX_ITEMS
    large = [memory(n, 5000) for n in range(5)]
    assert ids(core.fitting(large)) == [0, 1]
    assert ids(core.fitting([memory(1, limits.PAGE_MAX_CHARS + 1), memory(2, 1)])) == [1]
    assert core.fitting([]) == []
