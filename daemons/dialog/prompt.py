"""The prompt: fixed persona and examples, then the history (append only), and last notes, time and question.

The start stays byte for byte the same from turn to turn, so that the model's prefix cache holds.
The wording was chosen by measurement with the embedded model (docs/adr/003-prompt.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ipc.limits import TEXT_MAX_CHARS
from ipc.messages import ChatMessage

HISTORY_MAX_CHARS = 6000
"""About 1,500 tokens: leaves half of the default context for notes, question and answer."""

NOTE_MAX_CHARS = 400
"""A memory may be a whole message; its beginning says what it is about."""

PERSONA = "You are {name}, a helpful voice assistant. Answer in one short sentence."

_NOTES = "I told you before:"
_EXAMPLES = (
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    (f"{_NOTES} The cat is called Misty.\nWhat is the cat called?", "The cat is called Misty."),
    ("Remember that the meeting is on Friday at three.", "I will remember that the meeting is on Friday at three."),
    (f"{_NOTES} The meeting is on Friday at three.\nWhen is the meeting?", "The meeting is on Friday at three."),
)
_ASKS_FOR_TIME = re.compile(
    r"\b(time|date|day|month|year) is it\b|\bwhat(?:'s| is) the (time|date|day|month|year)\b"
    r"|\b(today|tonight|tomorrow|yesterday|now)\b",
    re.IGNORECASE,
)
"""The embedded model answers worse from its notes with the time beside them (10 of 14 against 14), so it is
told the time only when that is asked for."""


class Prompter:
    """The prompts of one conversation. `clock` gives the time in words."""

    def __init__(self, name: str, persona: str, history_turns: int, clock: Callable[[], str]) -> None:
        self._clock = clock
        self._history: list[tuple[str, str]] = []
        self.adopt(name, persona, history_turns)

    def adopt(self, name: str, persona: str, history_turns: int) -> None:
        """Who the assistant is from now on; the history stays."""
        system = (persona or PERSONA).replace("{name}", name)
        self._fixed = [ChatMessage(role="system", content=system), *_exchanges(_EXAMPLES)]
        self._limit = history_turns

    def start(self) -> list[ChatMessage]:
        """What every prompt to come begins with."""
        return [*self._fixed, *_exchanges(self._history)]

    def question(self, text: str, notes: Sequence[str]) -> list[ChatMessage]:
        """The whole prompt for a question."""
        lines = [text]
        if _ASKS_FOR_TIME.search(text):
            lines.insert(0, f"It is {self._clock()}.")
        if notes:
            lines.insert(0, " ".join([_NOTES, *(_sentence(note) for note in notes)]))
        content = "\n".join(lines)
        if len(content) > TEXT_MAX_CHARS:  # the question alone fills a message: what surrounds it stays out
            content = text
        return [*self.start(), ChatMessage(role="user", content=content)]

    def append(self, heard: str, said: str) -> None:
        """Adds an exchange. A history that is full loses its older half at once: one cache miss, not one a turn."""
        self._history.append((heard, said))
        while self._history and self._full():
            self._history = self._history[(len(self._history) + 1) // 2 :]

    def _full(self) -> bool:
        size = sum(len(heard) + len(said) for heard, said in self._history)
        return len(self._history) > self._limit or size > HISTORY_MAX_CHARS


def _exchanges(pairs: Sequence[tuple[str, str]]) -> list[ChatMessage]:
    return [
        ChatMessage(role=role, content=text)
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _sentence(note: str) -> str:
    """A note on one line, with a capital and a full stop: data of the prompt, never its structure."""
    plain = " ".join(note.split())
    if len(plain) > NOTE_MAX_CHARS:
        plain = plain[:NOTE_MAX_CHARS].rpartition(" ")[0] or plain[:NOTE_MAX_CHARS]
    return plain[:1].upper() + plain[1:] + ("" if plain.endswith((".", "!", "?")) else ".")
