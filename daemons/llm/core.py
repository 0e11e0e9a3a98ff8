"""What the llm daemon decides: which engine, whose turn it is, and what of the model's output is an answer."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from ipc.errors import CallError, Code
from ipc.limits import TEXT_MAX_CHARS

Engine = Literal["llama", "ollama", "openai"]

WAITING_MAX = 8
"""Requests in line behind the one that has the model: more wait longer than anybody would listen."""

CHECK_QUESTION = "What is the capital of France? Answer with one word."
CHECK_ANSWER = "paris"
CHECK_TOKENS = 24
"""What every model knows, and a damaged one does not."""

_KEPT = "\n\t"
_DROPPED = {"Cc", "Cf", "Cs", "Co"}  # control, format, surrogate, private
_JOINERS = "\u200c\u200d"  # format characters that scripts and emoji are written with


def choose(wanted: Engine | Literal["auto"], ollama_model: str, has_model: bool | None) -> tuple[Engine, str]:
    """The engine and the reason. `has_model`: whether a running Ollama has it, None where none runs."""
    if wanted != "auto":
        return wanted, f"llm.engine is {wanted!r}"
    if has_model is None:
        return "llama", "no Ollama runs"
    if has_model:
        return "ollama", f"a running Ollama has {ollama_model}"
    return "llama", f"the running Ollama lacks {ollama_model}"


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in the line. `prefill`: only reads a prompt, so that a later question is answered sooner."""

    prefill: bool
    yielding: bool = False
    """It was told to give up."""


class Line:
    """Who has the model: one at a time, in order of arrival. A question never waits for a prefill."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []

    @property
    def head(self) -> Ticket | None:
        """Who has the model."""
        return self._tickets[0] if self._tickets else None

    def join(self, ticket: Ticket) -> list[Ticket]:
        """Takes a place. Returns who must give up: all prefills for a question, those that wait for a newer one.

        They keep their place until they `leave`. Raises CallError(BUSY).
        """
        behind = self._tickets[1:] if ticket.prefill else self._tickets
        prefills = [other for other in behind if other.prefill]
        if len(self._tickets) - len(prefills) > WAITING_MAX:
            raise CallError(Code.BUSY, f"{WAITING_MAX} requests wait for the language model already: ask again later")
        self._tickets.append(ticket)
        told = [other for other in prefills if not other.yielding]
        for other in told:
            other.yielding = True
        return told

    def leave(self, ticket: Ticket) -> None:
        """Gives the place up, wherever in the line."""
        self._tickets.remove(ticket)


class Answer:
    """What the model gives becomes what is sent: printable, begun by a word, and of bounded length."""

    def __init__(self, max_tokens: int) -> None:
        self._room = max_tokens
        self._chars = TEXT_MAX_CHARS
        self._held = ""
        self._begun = False
        self.tokens = 0
        """Pieces that the model gave."""
        self.full = False
        """The model must be stopped: it went on beyond the limit."""

    def add(self, piece: str) -> str:
        """What of `piece` may be sent now; maybe nothing. Text before the first word is held back, without
        the white space it begins with. An answer ends where it would not fit one message any more."""
        if self.tokens == self._room:
            self.full = True
            return ""
        self.tokens += 1
        text = clean(piece[: TEXT_MAX_CHARS + 1])  # one character too many says that it is too long
        if not self._begun:
            text = (self._held + text).lstrip()
            self._begun = has_word(text)
            self._held = "" if self._begun else text[:TEXT_MAX_CHARS]
            text = text if self._begun else ""
        self.full = len(text) > self._chars
        sent = text[: self._chars]
        self._chars -= len(sent)
        return sent

    def check(self) -> None:
        """Raises CallError(EMPTY_ANSWER) if no word was given."""
        if not self._begun:
            raise CallError(
                Code.EMPTY_ANSWER, "the model gave an answer without words: ask in another way, or use another model"
            )


_BRACKET = re.compile(r"<(?=[|｜<]|/?[A-Za-z_])|\[(?=/?[A-Z_]+\])")


def disarmed(text: str) -> str:
    """`text` in which nothing is a control token of a model any more ("<|im_end|>", "</s>", "[INST]"): behind the
    bracket that begins one stands a space. What was said, and is remembered or repeated, cannot end its role."""
    return _BRACKET.sub(lambda bracket: f"{bracket[0]} ", text)


def clean(text: str) -> str:
    """`text` without control characters and what else has no shape. A carriage return is a line's end."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in text if char in _KEPT or char in _JOINERS or _printable(char))


def _printable(char: str) -> bool:
    return unicodedata.category(char) not in _DROPPED


def passes_check(said: str) -> bool:
    """Whether this answers CHECK_QUESTION."""
    return CHECK_ANSWER in said.casefold()


def has_word(text: str) -> bool:
    return any(char.isalnum() for char in text)
