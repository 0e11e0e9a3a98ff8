"""Offering to the memory what the journal holds, when nothing else is in a hurry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from daemons.dialog.core import Conversation
from daemons.dialog.effects import Store
from daemons.dialog.journal import Journal
from daemons.dialog.peers import Peer
from daemons.dialog.turn import Phase
from ipc.errors import CallError, Code, LocalProtocolError, TimmyError
from ipc.messages import Remember

log = logging.getLogger(__name__)

TTL_MS = 10_000
RETRY_S = 1.0
CALM_S = 0.5
"""Nothing is begun sooner after a turn was in hand: who asks again at once does not meet a memory at work."""
RESTFUL = (Phase.IDLE, Phase.SOUNDING)
"""Phases of a turn in which nothing is to be done in a hurry."""
REFUSALS = frozenset({Code.BAD_MESSAGE, Code.BAD_REQUEST})


class Storing:
    """Offers what was said to the memory, in order, until it has been taken.

    It waits while anybody speaks or any answer is made, and gives up what it has begun when that begins: both need the
    processor more, and what is offered again is stored once. A turn in hand may still be revoked, so its words wait
    until it is over, and a moment longer."""

    def __init__(self, journal: Journal, memory: Peer) -> None:
        self._journal, self._memory = journal, memory
        self._hurry = False
        self._in_hand: frozenset[bytes] = frozenset()
        self._calm_s = 0.0
        self._due = asyncio.Event()
        self._offering: asyncio.Task[bool] | None = None

    def look(self, conversations: Iterable[Conversation]) -> None:
        """To be called whenever a conversation or the journal has changed."""
        known = list(conversations)
        self._hurry = any(each.phase not in RESTFUL for each in known)
        in_hand = frozenset(each.in_hand for each in known if each.in_hand)
        if in_hand != self._in_hand:
            self._in_hand, self._calm_s = in_hand, asyncio.get_running_loop().time() + CALM_S
        self._decide()

    def _decide(self) -> None:
        first = self._journal.first
        if first is not None and not self._hurry and first.turn not in self._in_hand:
            self._due.set()
            return
        self._due.clear()
        if self._offering is not None:
            self._offering.cancel()
            self._offering = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._due.wait()
            if (early_s := self._calm_s - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(early_s)
                continue
            entry = self._journal.first
            assert entry is not None
            offering = asyncio.get_running_loop().create_task(self._offer(entry))
            self._offering = offering
            try:
                await asyncio.wait([offering])
            finally:
                offering.cancel()
            if not offering.cancelled() and offering.result():
                self._offering = None
                self._journal.taken(entry)
                self._decide()

    async def _offer(self, entry: Store) -> bool:
        """Whether nothing is left to be done with it."""
        await self._journal.written()
        try:
            client = await self._memory.ready()
            await client.request(Remember(heard=entry.heard), rid=entry.turn, ttl_ms=TTL_MS)
        except TimmyError as error:
            if not _refused(error):
                log.warning("not remembered yet: %s", error)
                await asyncio.sleep(RETRY_S)
                return False
            log.error("given up, the memory cannot take it: %s", error)
        return True


def _refused(error: TimmyError) -> bool:
    """It is these very words: another try would end the same, and hold up all that come after them."""
    return isinstance(error, LocalProtocolError) or (isinstance(error, CallError) and error.code in REFUSALS)
