"""Text as a voice can read it: no control characters, no mark-up, no emoji."""

from __future__ import annotations

import re
import unicodedata

_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_TAG = re.compile(r"<(?:[/!?]?[A-Za-z]|!--|[|｜])[^<>]{0,200}>|\[/?INST\]")
"""Tags, comments, and what a chat template marks roles with."""
_UNCLOSED = re.compile(r"(?:<(?:[/!?|｜A-Za-z][^<>]{0,200})?|!?\[[^\[\]\n]{0,100}(?:\](?:\([^()\s]{0,200})?)?|!)\Z")
_LINE_END = re.compile(r"(?<=\w)[^\S\n]*\n\s*")
_BULLET = re.compile(r"^[^\S\n]*+([-*+•]|#{1,6})\s+", re.MULTILINE)
_MARKUP = str.maketrans(dict.fromkeys("*_#~`|\\^<>[]{}", " "))
_SPOKEN_SYMBOLS = "%&+=@$€£¥°"
_SPACES = re.compile(r"\s+")
_LOST_SPACE = re.compile(r"\s+(?=[.,;:!?])")


def speakable(text: str) -> str:
    """What of `text` can be read aloud, on one line; empty when nothing can."""
    text = unicodedata.normalize("NFC", text)
    text = _BULLET.sub("", unmarked(text))
    text = _LINE_END.sub(", ", text).translate(_MARKUP)
    text = "".join(_heard(char) for char in text)
    text = _LOST_SPACE.sub("", _SPACES.sub(" ", text)).strip()
    return text if any(char.isalnum() or char in _SPOKEN_SYMBOLS for char in text) else ""


def unmarked(text: str) -> str:
    """`text` without the mark-up that can be longer than a word: tags, comments, addresses of links."""
    return _TAG.sub(" ", _LINK.sub(r"\1", text))


def closed(text: str) -> int:
    """How much of the beginning of `text` holds no mark-up that more text could complete."""
    unclosed = _UNCLOSED.search(text)
    return unclosed.start() if unclosed else len(text)


def _heard(char: str) -> str:
    category = unicodedata.category(char)
    if category[0] in "CZ" or (category in {"So", "Sk"} and char not in _SPOKEN_SYMBOLS):
        return "" if category == "Cf" else " "  # a joiner or soft hyphen stands inside a word
    return "" if "\ufe00" <= char <= "\ufe0f" else char  # says how an emoji looks


def portions(text: str, most: int) -> list[str]:
    """`text` in pieces of at most `most` characters, cut after punctuation if possible, else between words."""
    pieces = []
    while len(text) > most:
        cut = _last_cut(text[:most])
        pieces.append(text[:cut].strip())
        text = text[cut:].strip()
    return [piece for piece in [*pieces, text] if piece]


def _last_cut(head: str) -> int:
    for marks in (". ", "! ", "? "), (", ", "; ", ": "), (" ",):
        at = max(head.rfind(mark) for mark in marks)
        if at > len(head) // 3:
            return at + len(marks[0])
    return len(head)
