"""Cutting a stream of tokens into clauses that can be spoken while the model still writes.

The first clause is short, so that it sounds early; later ones are long, so that they sound natural. A cut is
only made where a person would breathe: never inside a number, a time, an abbreviation or an address.
"""

from __future__ import annotations

import re

from daemons.speakable import speakable
from ipc.limits import TEXT_MAX_CHARS

FIRST_CLAUSE_WORDS = 7
"""The first clause is cut here at the latest: about 2 s of speech, twice what synthesis of the next one takes."""

LATER_CLAUSE_WORDS = 25
"""A sentence without a pause is cut here at the latest: Piper makes this much in about half a second."""

SOFT_CUT_MIN_WORDS = 2
"""A comma ends the first clause only after this many words: "Yes," alone sounds chopped."""

_ABBREVIATION = re.compile(
    r"[a-z]|mrs?|ms|dr|prof|st|no|vs|etc|e\.g|i\.e|[ap]\.m|[js]r|inc|ltd|co|dept|approx|est|fig|min|max|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun"
)
# What goes before and the possessive ++ keep a run of 8,000 letters or dots from being tried at each of its parts.
_WORD = re.compile(r"(?<!\S)\S++(?=\s)")
_HARD = re.compile(r"(?<![.!?…])[.!?…]++[\"')\]]*\s|\n")
_SOFT = re.compile(r"[,;:][\"')\]]*\s|\s[-–—]+\s")


class ClauseCutter:
    """Feed it text as it comes; it gives back clauses, cleaned for the voice."""

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def feed(self, text: str) -> list[str]:
        """The clauses that are complete now, in order; often none."""
        self._text += text
        clauses = []
        while (end := self._cut()) is not None:
            clause, self._text = speakable(self._text[:end]), self._text[end:]
            if clause:
                clauses.append(clause)
                self._first = False
        return clauses

    def flush(self) -> list[str]:
        """What is left when the stream has ended: one clause, or none."""
        clause, self._text = speakable(self._text), ""
        return [clause] if clause else []

    def _cut(self) -> int | None:
        """Where to cut now, or None to wait for more."""
        for match in _HARD.finditer(self._text):
            if not self._abbreviates(match.start()):
                return match.end()
        if self._first:
            for match in _SOFT.finditer(self._text):
                if len(self._text[: match.start()].split()) >= SOFT_CUT_MIN_WORDS:
                    return match.end()
        return self._cut_at_length()

    def _cut_at_length(self) -> int | None:
        """A clause that has grown too long ends at its last pause, else between two words."""
        limit = FIRST_CLAUSE_WORDS if self._first else LATER_CLAUSE_WORDS
        words = [match.end() for match in _WORD.finditer(self._text)]
        if len(words) < limit:
            # Babble without a space: more than this fits into no message.
            return TEXT_MAX_CHARS if len(self._text) > TEXT_MAX_CHARS else None
        pauses = [match.end() for match in _SOFT.finditer(self._text)]
        end = pauses[-1] if pauses and not self._first else words[limit - 1]
        return self._outside_number(end)

    def _outside_number(self, end: int) -> int | None:
        """`end`, unless it would tear apart "5 p.m." or "12 Main Street": then a word earlier."""
        before = self._text[:end].rstrip().rpartition(" ")[0]
        torn = self._text[len(before) : end].strip()
        return len(before) + 1 if torn[:1].isdigit() and before else end

    def _abbreviates(self, dot: int) -> bool:
        if self._text[dot] != ".":
            return False
        word = self._text[:dot].rpartition(" ")[2].lower().lstrip("(\"'")
        # A number at the very start is a list's "1." and belongs to what follows.
        return bool(_ABBREVIATION.fullmatch(word)) or (word.isdigit() and self._starts(word))

    def _starts(self, word: str) -> bool:
        return self._text.lstrip().startswith(word)
