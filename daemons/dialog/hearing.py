"""The standing request to stt: everything that is heard, in every conversation."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from daemons.dialog.core import Conversation
from daemons.dialog.effects import Effect
from daemons.dialog.followers import Followers
from daemons.dialog.peers import Peer
from ipc.errors import TimmyError
from ipc.marks import Marker, Stage
from ipc.messages import (
    Body,
    InputLost,
    Listen,
    Muted,
    Notice,
    Partial,
    SpeechStarted,
    TurnCandidate,
    TurnDropped,
    TurnFinal,
    TurnResumed,
)

log = logging.getLogger(__name__)

RETRY_S = 0.1


class Hearing:
    """Feeds what stt tells into the conversations; starts over when stt does."""

    def __init__(
        self,
        peer: Peer,
        conversation: Callable[[str], Conversation],
        act: Callable[[Conversation, list[Effect]], None],
        followers: Followers,
        every: Callable[[], list[Conversation]],
        marks: Marker,
    ) -> None:
        self._peer = peer
        self._conversation = conversation
        self._act = act
        self._followers = followers
        self._every = every
        self._marks = marks

    async def run(self) -> None:
        while True:
            try:
                client = await self._peer.ready()
                stream = client.open(Listen())
                for conversation in self._every():
                    self._act(conversation, conversation.hearing_back(time.monotonic_ns()))
                try:
                    async for item, _ in stream:
                        self._heard(item)
                finally:
                    stream.cancel()
            except TimmyError as error:
                log.info("not listening: %s", error)
            for conversation in self._every():
                self._act(conversation, conversation.hearing_lost(time.monotonic_ns()))
            await asyncio.sleep(RETRY_S)

    def _heard(self, item: Body) -> None:
        now_ns = time.monotonic_ns()
        if isinstance(item, TurnCandidate | TurnFinal):
            self._marks.mark(item.turn, Stage.HEARD, now_ns, len(item.text.split()))
        conversation = self._conversation(getattr(item, "conversation", ""))
        match item:
            case SpeechStarted():
                effects = conversation.speech_started(item.turn, item.t_ns, now_ns)
            case Partial():
                effects = conversation.partial(item.turn, item.text)
            case TurnCandidate():
                effects = conversation.candidate(item, now_ns)
            case TurnResumed():
                effects = conversation.resumed(item.turn, item.revision, item.t_ns, now_ns)
            case TurnFinal():
                effects = conversation.final(item, now_ns)
            case TurnDropped():
                effects = conversation.dropped(item.turn, item.reason, now_ns)
            case _:
                self._notice(conversation.name, item)
                return
        self._act(conversation, effects)

    def _notice(self, conversation: str, item: Body) -> None:
        """What a person should know, though no turn depends on it."""
        if isinstance(item, Muted) and item.dropped_ms:
            text = f"{item.dropped_ms / 1000:.1f} s of speech was not listened to while the answer sounded"
        elif isinstance(item, InputLost):
            text = f"the microphone is gone: {item.detail}" if item.detail else "the microphone is back"
        else:
            return
        self._followers.tell(conversation, Notice(text=text))
