"""Speech whose samples tell its words, and a house that hears them: python -m tests.campaigns.spoken BUG NAME ORDERS

That is `daemons.NAME.faked`, whose transcriber reads the words off the samples, with a bug of BUGS in it.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Mapping
from typing import Any

from daemons.dialog.core import Conversation
from daemons.dialog.effects import Report
from daemons.engines.base import Superseded, Transcript, never
from daemons.engines.fakes_stt import FakeTranscriber
from daemons.stt.service import KNOWN_CLIP
from daemons.stt.turn import Turn
from ipc.audio import FRAME_BYTES, read_wav
from tests.campaigns.altered import AlteredPlace, start
from tools.harness import House

WORDS_MAX = 20_000
_BASE = 1000


def frame(number: int, full_stop: bool) -> bytes:
    """20 ms of the word of this number, of which there are WORDS_MAX; `full_stop`: it ends a sentence."""
    return (array("h", [_BASE + number, _BASE + full_stop]) * (FRAME_BYTES // 4)).tobytes()


def word(number: int, full_stop: bool) -> str:
    return f"w{number}{'.' if full_stop else ''}"


def understood(pcm: bytes) -> str:
    """The words of whole frames."""
    words: list[str] = []
    for at in range(0, len(pcm), FRAME_BYTES):
        number, full_stop = array("h", pcm[at : at + 4])
        if number and words[-1:] != [said := word(number - _BASE, full_stop > _BASE)]:
            words.append(said)
    return " ".join(words)


# --- bugs ---


def lost_outcome() -> None:
    """Nothing comes of a turn whose voice has died."""
    Conversation.speech_failed = lambda self, work, detail, now_ns: []  # type: ignore[method-assign]


def second_outcome() -> None:
    """A turn that failed is told of as answered, too."""
    over = Conversation._over

    def altered(self: Conversation, outcome: str, detail: str) -> Any:
        turn, effects = self._turn, over(self, outcome, detail)
        assert turn is not None
        if outcome == "failed":
            effects.append(Report(turn.report(self.name, " ".join(turn.said), "answered", "")))
        return effects

    Conversation._over = altered  # type: ignore[method-assign]


def forgotten_words() -> None:
    """Who goes on after the end of a turn is heard with what he says then, alone."""
    Turn.words = lambda self, text: text  # type: ignore[method-assign]


def words_again() -> None:
    """What was answered is joined by what is said next."""
    begin = Conversation._begin

    def altered(self: Conversation, turn: Any, now_ns: int) -> Any:
        turn.heard = " ".join([*(heard for heard, _ in self.prompter._history), turn.heard])
        return begin(self, turn, now_ns)

    Conversation._begin = altered  # type: ignore[method-assign]


BUGS: Mapping[str, Callable[[], None]] = {
    each.__name__: each for each in (lost_outcome, second_outcome, forgotten_words, words_again)
}
SOUND = "none"
"""No bug at all."""


# --- the house ---


class HearingHouse(House):
    """A House whose stt hears what is said in `frame`s; its daemons have the bug."""

    def __init__(self, bug: str = SOUND) -> None:
        super().__init__()
        self.place = AlteredPlace(bug, "tests.campaigns.spoken")


def _read_words() -> None:
    known, usual = read_wav(KNOWN_CLIP), FakeTranscriber.transcribe

    def transcribe(
        self: FakeTranscriber, pcm: bytes, draft: bool = False, superseded: Superseded = never
    ) -> Transcript:
        heard = usual(self, pcm, draft, superseded)
        return heard if pcm == known or not heard.text else Transcript(understood(pcm), heard.no_speech)

    FakeTranscriber.transcribe = transcribe  # type: ignore[method-assign]


def main(bug: str, name: str) -> None:
    _read_words()
    if bug != SOUND:
        BUGS[bug]()
    start(name)


if __name__ == "__main__":
    main(*sys.argv[1:3])
