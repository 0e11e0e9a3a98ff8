"""Cutting a stream of tokens into clauses that can be spoken while the model still writes.

The first clause is short, so that it sounds early; later ones are long, so that they sound natural. A cut is only
made where a person would breathe: never inside a number, a time, an abbreviation, a name or an address. Where it is
made depends on the text alone, not on the pieces that it comes in.
"""

from __future__ import annotations

import re
from itertools import islice

from daemons.speakable import closed, speakable, unmarked
from ipc.limits import TEXT_MAX_CHARS

CLAUSE_WORDS = (4, 10, 25)
"""A first, a second and any later clause without a pause is cut after so many words at the latest. Four words sound
longer than the model and the voice take for ten, and those longer than for twenty-five (docs/adr/010-first-clause.md).
"""

PAUSE_MIN_WORDS = (2, 5)
"""A comma ends a first and a second clause only after so many words: "Yes," alone sounds chopped."""

LEANING_MAX = 3
"""Where nobody would breathe between the words that may be cut apart, so many more are waited for."""

_ABBREVIATION = re.compile(
    r"[a-z](\.[a-z])*|mrs?|ms|dr|prof|st|no|vs|etc|[js]r|inc|ltd|co|dept|approx|est|fig|min|max|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun"
)
# What goes before and the possessive ++ keep a run of 8,000 letters or dots from being tried at each of its parts.
_WORD = re.compile(r"(?<!\S)\S++(?=\s)")
_HARD = re.compile(r"(?<![.!?…])[.!?…]++[\"')\]]*\s|\n")
_SOFT = re.compile(r"[,;:][\"')\]]*\s|\s[-–—]+\s")
_AROUND = "\"'()[]*_“”‘’"


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LEANING = _set(
    "a an the my your his her its our their this that these those some any no every each about above after against "
    "along among around as at before behind below beside between beyond by for from in inside into like near of off "
    "on onto out over past since than through till to toward under until up upon via with within without and or but "
    "nor because so if when while although though unless whether which who whom whose what where how why is are was "
    "were am be been being do does did has have had can could will would shall should may might must not i he she we "
    "they you it i'm i'll i've it's he's she's we're we'll they're you're there there's very too quite one two three "
    "four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million half"
)
"""Words that belong to what follows: articles, prepositions, conjunctions, auxiliaries, pronouns, numbers."""
_TRAILING = re.compile(r"[ap]\.?m\b.*|o['’]clock|percent|degrees?|\d.*|[-–—]+")
"""Words that belong to what goes before, or to a number."""
_TELLING = re.compile(r"\s+((?![adop])[^\W\d_])", re.IGNORECASE)
"""The first letter of a word that is none of those."""


class ClauseCutter:
    """Feed it text as it comes; it gives back clauses, cleaned for the voice."""

    def __init__(self, first_words: int = CLAUSE_WORDS[0]) -> None:
        """`first_words`: what a first clause without a pause has at most."""
        self._words = (first_words, *(max(first_words, later) for later in CLAUSE_WORDS[1:]))
        self._text = ""
        self._unclosed = ""  # may be the beginning of mark-up, within which there is no cut
        self._cuts = 0

    def feed(self, text: str) -> list[str]:
        """The clauses that are complete now, in order; often none."""
        text = self._unclosed + text
        whole = closed(text)
        self._text, self._unclosed = self._text + unmarked(text[:whole]), text[whole:]
        clauses = []
        while (end := self._cut()) is not None:
            clause, self._text = speakable(self._text[:end]), self._text[end:]
            if clause:
                clauses.append(clause)
                self._cuts += 1
        return clauses

    def flush(self) -> list[str]:
        """What is left when the stream has ended: one clause, or none."""
        clause, self._text, self._unclosed = speakable(self._text + self._unclosed), "", ""
        return [clause] if clause else []

    def _cut(self) -> int | None:
        """Where to cut now, or None to wait for more. What stands first in the text decides."""
        pause, length = self._at_pause(), self._at_length()
        if pause is not None and (length is None or pause <= length[0]):
            return pause
        if length is not None:
            return length[1]
        # Babble without a space: more than this fits into no message.
        return TEXT_MAX_CHARS if len(self._text) > TEXT_MAX_CHARS else None

    def _at_pause(self) -> int | None:
        """Behind the first pause that ends the clause."""
        hard = (match.end() for match in _HARD.finditer(self._text) if not self._abbreviates(match.start()))
        ends = [*islice(hard, 1)]
        if self._cuts < len(PAUSE_MIN_WORDS):
            least = PAUSE_MIN_WORDS[self._cuts]
            soft = (match.end() for match in _SOFT.finditer(self._text) if self._words_before(match.start(), least))
            ends += islice(soft, 1)
        return min(ends, default=None)

    def _words_before(self, at: int, least: int) -> bool:
        return len(self._text[:at].split(maxsplit=least)) >= least

    def _at_length(self) -> tuple[int, int] | None:
        """The place in the text that decides it, and where a clause that has grown too long is cut."""
        limit = self._words[min(self._cuts, len(self._words) - 1)]
        words = list(islice(_WORD.finditer(self._text), limit + 1 + LEANING_MAX))
        if not self._cuts and (early := self._at_first_letter(words, limit)):
            return early
        if len(words) <= limit:
            return None
        decided = words[limit].end() + 1
        pauses = [match.end() for match in _SOFT.finditer(self._text, 0, decided)]
        if pauses and self._cuts:
            return decided, pauses[-1]
        for place in range(limit, 1, -1):
            if _may_part(words[place - 1][0], words[place][0]):
                return decided, words[place - 1].end()
        for place in range(limit + 1, len(words)):
            if _may_part(words[place - 1][0], words[place][0]):
                return words[place].end() + 1, words[place - 1].end()
        return (words[-1].end() + 1, words[limit - 1].end()) if len(words) > limit + LEANING_MAX else None

    def _at_first_letter(self, words: list[re.Match[str]], limit: int) -> tuple[int, int] | None:
        """The same for a first clause whose next word has only begun: mostly its first letter tells enough, and the
        rest of it is a token or more away."""
        letter = _TELLING.match(self._text, words[limit - 1].end()) if len(words) >= limit else None
        if letter is None:
            return None
        texts = [*(word[0] for word in words[:limit]), letter[1]]
        for place in range(limit, 1, -1):
            if _may_part(texts[place - 1], texts[place]):
                return letter.end(), words[place - 1].end()
        return None

    def _abbreviates(self, dot: int) -> bool:
        if self._text[dot] != ".":
            return False
        word = self._text[:dot].rpartition(" ")[2].lower().lstrip("(\"'")
        # A number at the very start is a list's "1." and belongs to what follows.
        return bool(_ABBREVIATION.fullmatch(word)) or (word.isdigit() and self._starts(word))

    def _starts(self, word: str) -> bool:
        return self._text.lstrip().startswith(word)


def _may_part(word: str, following: str) -> bool:
    """Whether somebody would breathe between them: not after "the", nor in "5 p.m.", "Mount Everest", "Dr. Smith"."""
    bare, then = word.strip(_AROUND), following.strip(_AROUND)
    if bare.endswith(".") or bare[:1].isdigit() or bare.lower() in _LEANING:
        return False
    named = bare[:1].isupper() and then[:1].isupper()
    return not named and not _TRAILING.fullmatch(then.lower())
