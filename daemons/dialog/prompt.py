"""The prompt: fixed persona, then the history (append only), and last the notes, the time and the question.

The start stays byte for byte the same from turn to turn, so that the model's prefix cache holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ipc.messages import ChatMessage

HISTORY_MAX_CHARS = 6000
"""About 1,500 tokens: leaves half of the smallest context for notes, question and answer."""

PERSONA = (
    "You are {name}, a friendly voice assistant at home. Answer in one or two short sentences. "
    "When notes are given, answer from the notes."
)


class Prompter:
    """The prompts of one conversation. `clock` gives the time in words."""

    def __init__(self, name: str, persona: str, history_turns: int, clock: Callable[[], str]) -> None:
        self._system = ChatMessage(role="system", content=(persona or PERSONA).replace("{name}", name))
        self._limit = history_turns
        self._clock = clock
        self._history: list[tuple[str, str]] = []

    def start(self) -> list[ChatMessage]:
        """What every prompt to come begins with."""
        messages = [self._system]
        for heard, said in self._history:
            messages += [ChatMessage(role="user", content=heard), ChatMessage(role="assistant", content=said)]
        return messages

    def question(self, text: str, notes: Sequence[str]) -> list[ChatMessage]:
        """The whole prompt for a question."""
        lines = [f"Time: {self._clock()}."]
        if notes:
            lines = ["Notes:", *(f"- {note}" for note in notes), *lines]
        return [*self.start(), ChatMessage(role="user", content="\n".join([*lines, text]))]

    def append(self, heard: str, said: str) -> None:
        """Adds an exchange. A history that is full loses its older half at once: one cache miss, not one a turn."""
        self._history.append((heard, said))
        while self._history and self._full():
            self._history = self._history[(len(self._history) + 1) // 2 :]

    def _full(self) -> bool:
        size = sum(len(heard) + len(said) for heard, said in self._history)
        return len(self._history) > self._limit or size > HISTORY_MAX_CHARS
