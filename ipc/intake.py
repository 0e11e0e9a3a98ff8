"""What callers send, taken out of the ROUTER as it comes and handed on one message a peer in turn.

libzmq reads from a connection as fast as its peer writes. A limit to its queue (ZMQ_RCVHWM) would slow that peer down,
but libzmq 4.3.5 aborts the process when such a peer hangs up (`_SERVER` in sockets.py). So that queue has no limit, and
is emptied many times as fast as messages are dealt with: what a peer has waiting is known here, and who is over the
quota is cut off. Everybody else keeps turns of their own meanwhile.
"""

from __future__ import annotations

import ctypes
import logging
from collections import deque
from collections.abc import Callable

from ipc import limits
from ipc.accounts import wait_together, waits
from ipc.links import Link
from ipc.processes import Processes
from ipc.security import user_of
from ipc.sockets import Frame, Reader, Socket, receive, source

log = logging.getLogger(__name__)

_FRAMES_MAX = limits.FRAMES_MAX + 2  # the route, and one too many, which shows that it is too many
_FRAMES_A_TURN = 256
"""Frames that are taken out for each message that is dealt with."""

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Only glibc has it, and only glibc needs it: it keeps up to 100 MB of a message of 130 MB that is over."""

OnPeerFrames = Callable[[bytes, list[bytes]], None]
OnFlood = Callable[[bytes, str], None]
OnGone = Callable[[bytes], None]


class _Inbox:
    """What came from a peer and waits. `size` in bytes; `closed`: it was cut off."""

    __slots__ = ("closed", "link", "route", "size", "waiting")

    def __init__(self, route: bytes, link: Link) -> None:
        self.route = route
        self.link = link
        self.waiting: deque[tuple[list[bytes], int, str]] = deque()
        self.size = 0
        self.closed = False

    @property
    def share(self) -> float:
        """Of the quota."""
        return max(len(self.waiting) / limits.BACKLOG_MAX_MESSAGES, self.size / limits.BACKLOG_MAX_BYTES)


class Intake(Reader):
    """Calls `deliver` with the route of a peer and the frames of a message, at most FRAMES_MAX + 1; `flooded` with the
    route of one that has too much waiting, and which quota that is; `gone` with that of one whose process has ended, of
    which nothing comes any more; `admit` with whether others may come in: not while
    what a peer has sent that was cut off is in the way, or it would come back and heap up more than is taken out.
    `named`, where it is given, is told before each message who sent it, as the gatekeeper named it."""

    def __init__(
        self,
        socket: Socket,
        deliver: OnPeerFrames,
        flooded: OnFlood,
        gone: OnGone,
        admit: Callable[[bool], None],
        named: Callable[[str], None] | None = None,
    ) -> None:
        self._shut = False
        self._named = named
        self._deliver = deliver
        self._flooded = flooded
        self._gone = gone
        self._processes = Processes(self._left)
        self._admit = admit
        self._inboxes: dict[bytes, _Inbox] = {}
        self._turns: deque[_Inbox] = deque()
        self._messages = self._bytes = 0
        self._size = 0
        super().__init__(socket, lambda frames: None, _FRAMES_MAX)

    def who(self, route: bytes) -> str:
        """Whose connection it is."""
        inbox = self._inboxes.get(route)
        return inbox.link.who if inbox is not None else "a peer that is gone"

    def cut(self, route: bytes, alone: bool) -> list[bytes]:
        """Ends a connection, and unless `alone` the others of its process, which would only go on; what they have sent
        is void. The routes of those that had not ended already."""
        inbox = self._inboxes.get(route)
        if inbox is None or inbox.closed or self._socket.closed:
            return []
        together = [inbox]
        if inbox.link.is_of_a_process and not alone:
            together = [each for each in self._inboxes.values() if each.link.address == inbox.link.address]
        self._shut = True
        self._admit(False)
        if self._scheduled is None:  # nothing may be there any more, and then nothing else calls
            self._scheduled = self._loop.call_soon(self._drain)
        return [each.route for each in together if not each.closed and self._close(each)]

    def _close(self, inbox: _Inbox) -> bool:
        inbox.closed = True
        self._messages -= len(inbox.waiting)
        self._bytes -= inbox.size
        inbox.size = 0
        inbox.waiting.clear()
        self._loop.call_later(limits.CLIENT_SILENCE_S, self._bury, inbox)
        return inbox.link.cut()

    def _bury(self, inbox: _Inbox) -> None:
        """What libzmq had read from it still comes for a while, and must not look like a new peer."""
        if self._shut:
            self._loop.call_later(limits.CLIENT_SILENCE_S, self._bury, inbox)
        else:
            del self._inboxes[inbox.route]

    def forget(self, route: bytes) -> None:
        """A peer that says nothing any more. If it does, it is a new one."""
        inbox = self._inboxes.get(route)
        if inbox is not None and not inbox.waiting and not inbox.closed:
            del self._inboxes[route]

    def _left(self, pid: int) -> None:
        """What it has sent and nobody has looked at nobody waits for any more."""
        for inbox in [each for each in self._inboxes.values() if each.link.pid == pid and not each.closed]:
            self._close(inbox)
            self._gone(inbox.route)

    def close(self) -> None:
        self._turns.clear()
        self._processes.close()
        super().close()

    def _readable(self) -> bool:
        return bool(self._turns) or super()._readable()

    def _take(self) -> bool:
        """Takes out some of what is there, and deals with one message."""
        if self._fill() and self._shut:
            self._shut = False
            _give_back()
            self._admit(True)
        if self._turns:
            self._hand_on(self._turns.popleft())
        return not self._socket.closed and self._readable()

    def _fill(self) -> bool:
        """Whether it came to the end of what was there."""
        messages = 0
        for _ in range(_FRAMES_A_TURN):
            # To look costs as much as to take a message, but half as much as to find none. The first is likely there.
            likely = messages != 1 and not (messages == 0 and self._turns)
            if not self._frames and not likely and not super()._readable():
                return True
            part = receive(self._socket)
            if part is None:
                return True
            if len(self._frames) < _FRAMES_MAX:
                self._frames.append(part.bytes)
            self._size += len(part)
            if not part.more:
                messages += 1
                self._came(part)
        return False

    def _came(self, last: Frame) -> None:
        (route, *frames), size = self._frames, self._size
        self._frames, self._size = [], 0
        inbox = self._inboxes.get(route)
        if inbox is None:
            inbox = self._inboxes[route] = _Inbox(route, Link.at(*source(last)))
            if inbox.link.pid:
                self._processes.watch(inbox.link.pid)
        if inbox.closed:
            return
        if not inbox.waiting:
            self._turns.append(inbox)
        inbox.waiting.append((frames, size, user_of(last) if self._named else ""))
        inbox.size += size
        self._messages += 1
        self._bytes += size
        if over := waits(len(inbox.waiting), inbox.size):
            self._flooded(route, over)
        elif over := wait_together(self._messages, self._bytes):
            self._flooded(max(self._inboxes.values(), key=lambda each: each.share).route, over)

    def _hand_on(self, inbox: _Inbox) -> None:
        if not inbox.waiting:
            return  # cut off meanwhile
        frames, size, user = inbox.waiting.popleft()
        inbox.size -= size
        self._messages -= 1
        self._bytes -= size
        if inbox.waiting:
            self._turns.append(inbox)
        if self._named is not None:
            self._named(user)
        try:
            self._deliver(inbox.route, frames)
        except Exception:
            log.exception("a message could not be dealt with")


def _give_back() -> None:
    """What was sent without measure is freed by now; the system gets it back. 100 MB take some 10 ms."""
    if _trim is not None:
        _trim(0)
