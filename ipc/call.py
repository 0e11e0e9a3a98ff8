"""One request as its handler sees it, and what its outcome is to the caller."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ipc import limits
from ipc.access import Guest
from ipc.channel import Channel, Transmit
from ipc.errors import CallCancelled, CallError, Code, LocalProtocolError, TimmyError
from ipc.marks import NO_MARKS, Marker, Stage
from ipc.messages import Body, Cancelled, Error, Result
from ipc.session import Exchange, Session

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Caller:
    """A connection as handlers know it: the same for all its requests."""

    farewells: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What is called when it is over, under a name each: a later one of that name takes its place."""


class Call(Channel):
    """One request as its handler sees it. `body` is the request, `received_ns` when it came."""

    def __init__(
        self,
        session: Session,
        exchange: Exchange,
        transmit: Transmit,
        body: Any,
        marks: Marker = NO_MARKS,
        guest: Guest | None = None,
        caller: Caller | None = None,
    ) -> None:
        super().__init__(session, exchange, transmit, marks)
        self.body = body
        self.guest = guest
        """Who asks, if it came from a network; None: somebody on this machine."""
        self.caller = caller or Caller()
        self.before_cut: Callable[[], None] | None = None
        """Called when the request is ended before its handler has ended it, and before the caller is told: for what
        must be over by then. The handler's task is cancelled after it."""
        self.received_ns = time.monotonic_ns()
        self.mark(Stage.RECEIVED, self.received_ns)

    def finish(self, terminal: Body) -> None:
        """Sends the terminal. One that does not fit the wire is replaced by an error that does."""
        now_ns = time.monotonic_ns()
        try:
            left = self._put(terminal)
        except LocalProtocolError as error:
            log.error("a result cannot be sent: %s", error)
            left = self._put(Error(code=Code.INTERNAL, detail=str(error)[: limits.TEXT_MAX_CHARS]))
        if left:
            self.mark(Stage.SENT, now_ns)
        self._session.end(self._exchange)
        self.fail(CallCancelled("the request has ended"))


Handler = Callable[[Call], Awaitable[Result] | Result]
"""Returns the result or raises CallError. A coroutine runs as a task; a plain function answers at once."""


def checked(daemon: str, outcome: object) -> Body:
    """The terminal for what a handler of `daemon` returned."""
    if isinstance(outcome, Result):
        return outcome
    return failure(daemon, TypeError(f"a handler returned {type(outcome).__name__}, not a result"))


def failure(daemon: str, error: Exception) -> Body:
    """The terminal for what a handler of `daemon` raised. What nobody expected is told in the log alone."""
    if isinstance(error, CallCancelled):
        return Cancelled(reason=str(error)[: limits.NAME_MAX_CHARS])
    if isinstance(error, CallError):
        # From us, `peer_gone` says that we are gone. A daemon that we asked is another matter.
        code = Code.UPSTREAM_DOWN if error.code is Code.PEER_GONE else error.code
        return Error(code=code, detail=str(error)[: limits.TEXT_MAX_CHARS])
    if not isinstance(error, TimmyError):
        log.error("a handler of %s failed", daemon, exc_info=error)
    detail = str(error) if isinstance(error, TimmyError) else f"{daemon} failed inside; its log says how"
    return Error(code=Code.INTERNAL, detail=detail[: limits.TEXT_MAX_CHARS])
