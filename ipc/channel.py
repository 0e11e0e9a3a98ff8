"""One request as asyncio sees it: what Call (server) and Stream (client) have in common.

Credit is spent by `send` and earned as the application reads: half a window read, half a window granted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from ipc.codec import Message
from ipc.errors import CallCancelled, PeerGone
from ipc.marks import NO_MARKS, Marker, Stage
from ipc.messages import Body, CreditGrant
from ipc.session import Exchange, Session

Transmit = Callable[[Message], bool]


class Channel:
    """Items both ways under one exchange. `marks`: where its beginning and its end are marked."""

    def __init__(self, session: Session, exchange: Exchange, transmit: Transmit, marks: Marker = NO_MARKS) -> None:
        self._session = session
        self._exchange = exchange
        self._transmit = transmit
        self._marks = marks
        self._inbox: deque[tuple[Body, bytes]] = deque()
        self._changed = asyncio.Event()
        self._complete = False
        self._failure: BaseException | None = None
        self._window = exchange.receive_credit
        self._taken = 0

    @property
    def rid(self) -> bytes:
        return self._exchange.rid

    @property
    def epoch(self) -> int:
        return self._exchange.epoch

    async def send(self, item: Body, payload: bytes = b"") -> None:
        """Sends one item, after waiting for credit. Raises what ended the request, if it has ended."""
        while not self._exchange.send_credit:
            self._raise_if_over()
            self._changed.clear()
            await self._changed.wait()
        self._raise_if_over()
        self._put_or_fail(item, payload)

    def offer(self, item: Body, payload: bytes = b"") -> bool:
        """Sends one item if there is credit for it; False: it was not sent."""
        self._raise_if_over()
        if not self._exchange.send_credit:
            return False
        self._put_or_fail(item, payload)
        return True

    def __aiter__(self) -> AsyncIterator[tuple[Body, bytes]]:
        return self

    async def __anext__(self) -> tuple[Body, bytes]:
        """The peer's next item with its payload, until its stream is complete. Raises what ended the request."""
        while not self._inbox:
            if self._failure is not None:
                raise self._failure
            if self._complete:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        item = self._inbox.popleft()
        self._grant()
        return item

    def widen(self, window: int) -> None:
        """Lets the peer have `window` items under way from now on, if that is more than before: on a long way the usual
        ones are not back in time. Raises what ended the request."""
        self._raise_if_over()
        if window > self._window:
            self._put_or_fail(CreditGrant(n=window - self._window))
            self._window = window

    def _grant(self) -> None:
        self._taken += 1
        if self._taken * 2 >= self._window and not self._complete and not self._exchange.closed:
            self._put(CreditGrant(n=self._taken))
            self._taken = 0

    def _raise_if_over(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._exchange.closed:
            raise CallCancelled("the request has ended")

    def _put(self, body: Body, payload: bytes = b"") -> bool:
        """False, or LocalProtocolError: nothing went out, and the request stands as before."""
        message = self._session.stamp(self._exchange, body, payload)
        if not self._transmit(message):
            return False
        self._session.sent(self._exchange, message)
        return True

    def _put_or_fail(self, body: Body, payload: bytes = b"") -> None:
        if not self._put(body, payload):
            raise PeerGone("the peer left, or does not read")

    # --- called by the connection ---

    def mark(self, stage: Stage, t_ns: int) -> None:
        """The request or its terminal left, or has come."""
        if self._marks is not NO_MARKS:
            self._marks.mark(self._exchange.rid, stage, t_ns, self._exchange.epoch)

    def deliver(self, item: Body, payload: bytes) -> None:
        self._inbox.append((item, payload))
        self._changed.set()

    def credited(self) -> None:
        self._changed.set()

    def complete(self) -> None:
        """The peer's stream has come to its end."""
        self._complete = True
        self._changed.set()

    def fail(self, reason: BaseException) -> None:
        """The request is over; whoever waits on it gets `reason`."""
        self._failure = self._failure or reason
        self._changed.set()
