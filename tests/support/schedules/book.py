"""The records of many conversations in one house, and the services that write them while they work on real sockets."""

from __future__ import annotations

import re
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

from daemons.dialog import effects as d
from daemons.dialog import service as dialog_service
from daemons.dialog.core import Conversation
from daemons.dialog.effects import Work
from daemons.dialog.hearing import Hearing
from daemons.dialog.service import DialogService
from daemons.memory.service import MemoryService
from daemons.stt.service import SttService
from daemons.tts import effects as s
from daemons.tts import service as tts_service
from daemons.tts.core import SpeakingCore
from daemons.tts.service import TtsService
from daemons.tts.wire import WireSpeaker
from ipc.call import Call
from ipc.messages import Body, Result
from tests.support.schedules.record import Event, Record, note_effect, note_heard

NUMBERED = 1000
"""Samples of an utterance bear its number and this."""


class Book:
    """One record a conversation, by its name: three digits, with which its words begin."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.remembered: set[tuple[bytes, str]] = set()
        """What the memory was offered."""
        self.works: dict[int, tuple[str, Work]] = {}
        """Whose sound it is, by the number that its samples bear."""
        self.silenced: set[int] = set()
        self.unnoted: list[int] = []
        """Of `silenced`, whose end is not in the record yet."""
        self.spoken: dict[tuple[str, str], Work] = {}

    def note(self, conversation: str, kind: str, *data: Any) -> None:
        if record := self.records.get(conversation):
            record.events.append(Event(time.monotonic_ns(), kind, data))

    def note_all(self, kind: str, *data: Any) -> None:
        for name in self.records:
            self.note(name, kind, *data)

    def noting(self, conversation: str) -> Callable[..., None]:
        return partial(self.note, conversation)


def place_of(text: str) -> str:
    """The conversation that words belong to."""
    found = re.search(r"\b(\d{3})\d{4}\b", text)
    return found[1] if found else ""


def number_in(pcm: bytes) -> int:
    """The utterance that a frame belongs to, 0 for silence."""
    return next((sample - NUMBERED for sample in array("h", pcm) if sample), 0)


# --- dialog ---


class NotingDialog(DialogService):
    """Writes down what is decided, while it lives."""

    book: Book
    alive = True

    def die(self) -> None:
        """Nothing comes of what is done from now on to clean up: a killed process does not."""
        self.alive = False
        for conversation in self._each():
            assert isinstance(conversation, NotingConversation)
            conversation.alive = False

    def act(self, conversation: Conversation, effects: list[d.Effect]) -> None:
        if not self.alive:
            return
        for effect in effects:
            note_effect(self.book.noting(conversation.name), effect)
            if isinstance(effect, d.SpeakClause):
                self.book.spoken[conversation.name, effect.text] = effect.work
        super().act(conversation, effects)


class NotingHearing(Hearing):
    book: Book

    def _heard(self, item: Body) -> None:
        name = getattr(item, "conversation", "")
        note_heard(self.book.noting(name), item, self._conversation(name).phase)
        super()._heard(item)


class NotingConversation(Conversation):
    """What people ask, and that stt is lost."""

    book: Book
    alive = True

    def _note(self, kind: str, *data: Any) -> None:
        if self.alive:
            self.book.note(self.name, kind, *data)

    def ask(self, turn: bytes, text: str, aloud: bool, now_ns: int) -> list[d.Effect]:
        self._note("typed", turn)
        return super().ask(turn, text, aloud, now_ns)

    def cancel(self, turn: bytes, now_ns: int) -> list[d.Effect]:
        effects = super().cancel(turn, now_ns)
        if effects:
            self._note("unwanted", turn)
        return effects

    def hearing_lost(self, now_ns: int) -> list[d.Effect]:
        self._note("lost")
        return super().hearing_lost(now_ns)


# --- stt, memory ---


class NotingStt(SttService):
    book: Book

    async def _listen(self, call: Call) -> Result:
        self.book.note_all("back", "dialog")
        return await super()._listen(call)

    def _mute(self, call: Call) -> Result:
        self.book.note(call.body.conversation, "mute", call.body.from_ns, call.body.lease_ms)
        return super()._mute(call)


class NotingMemory(MemoryService):
    book: Book

    async def _remember(self, call: Call) -> Result:
        self.book.remembered.add((call.rid, call.body.heard))
        return await super()._remember(call)


# --- tts ---


class NotingVoice(SpeakingCore):
    """Has every sample bear the number of its utterance."""

    book: Book

    def __init__(self, sample_rate: int) -> None:
        super().__init__(sample_rate)
        self._conversations: dict[int, str] = {}

    def speak(self, utterance: int, conversation: str, hold: bool) -> list[s.Effect]:
        self._conversations[utterance] = conversation
        return super().speak(utterance, conversation, hold)

    def clause(self, utterance: int, text: str, now_ns: int) -> list[s.Effect]:
        name = self._conversations[utterance]
        self.book.works.setdefault(utterance, (name, self.book.spoken[name, text]))
        return super().clause(utterance, text, now_ns)

    def audio(self, utterance: int, index: int, pcm: bytes, now_ns: int) -> list[s.Effect]:
        numbered = array("h", [NUMBERED + utterance]) * (len(pcm) // 2)
        return super().audio(utterance, index, numbered.tobytes(), now_ns)

    def cancel(self, utterance: int) -> list[s.Effect]:
        if utterance in self.book.works and utterance not in self.book.silenced:
            self.book.silenced.add(utterance)
            self.book.unnoted.append(utterance)
        return super().cancel(utterance)


class NotingTts(TtsService):
    book: Book

    def _do(self, effects: list[s.Effect]) -> None:
        """A request's end is noted when its sound has been cut, which is in the same step, and stamped then."""
        super()._do(effects)
        while self.book.unnoted:
            name, work = self.book.works[self.book.unnoted.pop()]
            self.book.note(name, "silenced", work)


class NotingSpeaker(WireSpeaker):
    book: Book

    def _take(self, t_ns: int, pcm: bytes, last: bool) -> None:
        if (number := number_in(pcm)) in self.book.silenced:
            name, work = self.book.works[number]
            self.book.note(name, "stale", work)
        super()._take(t_ns, pcm, last)


@contextmanager
def writing(book: Book) -> Iterator[None]:
    """Has all that the services do meanwhile written into `book`."""
    with ExitStack() as stack:
        for kind in (
            NotingDialog,
            NotingHearing,
            NotingConversation,
            NotingStt,
            NotingMemory,
            NotingVoice,
            NotingTts,
            NotingSpeaker,
        ):
            stack.enter_context(mock.patch.object(kind, "book", book, create=True))
        stack.enter_context(mock.patch.object(dialog_service, "Hearing", NotingHearing))
        stack.enter_context(mock.patch.object(dialog_service, "Conversation", NotingConversation))
        stack.enter_context(mock.patch.object(tts_service, "SpeakingCore", NotingVoice))
        stack.enter_context(mock.patch.object(tts_service, "WireSpeaker", NotingSpeaker))
        yield
