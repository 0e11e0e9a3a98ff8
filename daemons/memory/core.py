"""What is worth keeping, in which words, and which memories answer a question. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ipc import limits
from ipc.messages import Memory
from ipc.text import printable

IMPORTANCES = range(6)
"""0: small talk or a question, 5: must not be forgotten."""

ASKED_IMPORTANCE = 4
"""What a person asks to be remembered is at least this important, whatever the classifier thinks of it."""

WORD_WEIGHT = 0.1
"""Added to the relevance when a memory has all the words that matter in a question (docs/adr/004-relevance.md)."""

MARGIN = 0.2
"""A memory this much less relevant than the best one answers another question."""

WORDS_MAX = 32
"""Words of a question that are looked up; the first ones of a longer text."""

# --- what was said, as a fact ---

_ADDRESS = r"(?:(?:hey|hi|okay|ok|so|and|well|now|please|timmy)\b[\s,.!]*)*"
_POLITE = r"(?:(?:(?:can|could|will|would) you|(?:i (?:want|need|would like)|i'd like) you to|you (?:should|must)) )?"
_OPEN = r"(?:remember|(?:don't|do not|never) forget|(?:keep|bear) in mind)[\s,.:]+"
_FACT = r"(?:that\b[\s,]*|(?!(?:that|to|when|how|me|you|us|this|it|what|where|who|whose|which|why|if|whether)\b))"
_WITH_THAT = r"(?:(?:make|take) a note|note|take note|note down|make sure you remember)[\s,.:]+that\b[\s,]*"
_REQUEST = re.compile(f"{_ADDRESS}{_POLITE}(?:please )?(?:{_OPEN}{_FACT}|{_WITH_THAT})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fact:
    """`text` as the person said it, without the request to remember it; `asked`: there was one."""

    text: str
    asked: bool


def fact(heard: str) -> Fact:
    """The plain fact in what was heard: "Please remember that the bell rings." is "the bell rings."."""
    said = " ".join(printable(heard).replace("’", "'").split())
    request = _REQUEST.match(said)
    rest = said[request.end() :] if request else ""
    if not has_word(rest):
        return Fact(said, False)
    return Fact(f"{rest[:-1]}." if rest.endswith("?") else rest, True)  # "Can you remember that ...?"


def grade(fact: Fact, importance: int) -> int:
    """The importance of a fact that the classifier gives `importance`."""
    return max(importance, ASKED_IMPORTANCE) if fact.asked else importance


def keeps(fact: Fact, importance: int, keep_importance: int, always: bool) -> bool:
    """Whether to store it. What holds no word is never stored."""
    return has_word(fact.text) and (always or importance >= keep_importance)


def has_word(text: str) -> bool:
    """Whether anything is said in it."""
    return any(char.isalnum() for char in text)


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)}
_ARTICLES = frozenset({"a", "an", "the"})


def same_key(text: str) -> str:
    """Equal for the same fact in the same words, whatever the transcriber made of capitals, points and numbers."""
    words = re.findall(r"[\w']+", text.casefold())
    return " ".join(_DIGITS.get(word, word) for word in words if word not in _ARTICLES)


def is_vector(values: Sequence[float], dimensions: int) -> bool:
    """Whether it can be compared with others of so many dimensions."""
    return len(values) == dimensions and all(map(math.isfinite, values))


# --- which memories answer ---

_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about am an and any anything are as at be been but by called can could did do does for from had has have
        he her hers him his how i if in into is it its just know let like may me might mine must my name no not of on
        or our ours please put remember shall she should so some someone something tell than that the their them then
        there these they this those to too us was we were what when where which who whom whose why will with would
        yes you your yours""",
    )
)


def telling_words(text: str) -> list[str]:
    """The words of a question that tell what it is about, each once. Stop words make nothing relevant."""
    words = re.findall(r"\w+", re.sub(r"\w+n't\b|'\w*", "", text.casefold().replace("’", "'")))
    return list(dict.fromkeys(word for word in words if word not in _STOP_WORDS))[:WORDS_MAX]


@dataclass(frozen=True, slots=True)
class Hit:
    """A candidate: `cosine` of its vector and the question's, `words` of the question's telling words in it."""

    id: int
    text: str
    importance: int
    told_s: float
    cosine: float
    words: int


def relevance(hit: Hit, telling: int) -> float:
    """Of a hit to a question with so many telling words: -1..1, 1 for the same sentence."""
    return max(-1.0, min(1.0, hit.cosine + (WORD_WEIGHT * hit.words / telling if telling else 0.0)))


def relevant(hits: Iterable[Hit], telling: int, least: float, limit: int) -> list[Memory]:
    """The memories to answer with, best first; of equally relevant ones that told last comes first."""
    scored = sorted(((relevance(hit, telling), hit) for hit in hits), key=lambda pair: (-pair[0], -pair[1].told_s))
    if not scored:
        return []
    gate = max(least, scored[0][0] - MARGIN)
    answers = [
        Memory(id=hit.id, text=hit.text, importance=hit.importance, created_s=hit.told_s, score=score)
        for score, hit in scored[:limit]
        if score >= gate
    ]
    return fitting(answers)


def fitting(memories: Sequence[Memory]) -> list[Memory]:
    """As many of the first ones as one reply may hold; always the first."""
    size = 0
    for index, memory in enumerate(memories[: limits.LIST_MAX_ITEMS]):
        size += len(memory.text)
        if index and size > limits.PAGE_MAX_CHARS:
            return list(memories[:index])
    return list(memories[: limits.LIST_MAX_ITEMS])
