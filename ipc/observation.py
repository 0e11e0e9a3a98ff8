"""What a daemon publishes, to observers on this machine: ZMTP over plain sockets, on the daemon's own loop.

It is not libzmq's XPUB, since an observer can abort a process that has one (docs/adr/021-observation.md). What it says
and what waits for it is in observing.py.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ipc import limits, zmtp
from ipc.complaints import Complaints
from ipc.links import credentials
from ipc.observing import Outbox, Subscriber
from ipc.security import allowed_uids, refusal
from ipc.zmtp import Violation

_BACKLOG = 100
"""Connections that wait to be accepted, as at a socket of libzmq."""

_ACCEPTS_A_TURN = 8
_READ_BYTES = 1024
"""Of one observer in a turn of the loop: 500 of the shortest words take less than a millisecond."""


class _Connection:
    __slots__ = ("due", "handshake", "outbox", "socket", "subscriber", "who", "writing")

    def __init__(self, held: socket.socket, who: str) -> None:
        self.socket = held
        self.who = who
        """By the kernel's word."""
        self.handshake: asyncio.TimerHandle
        """Ends it, unless the handshake is done by then."""
        self.subscriber = Subscriber()
        self.outbox = Outbox()
        self.due = False
        """It is written to in this turn of the loop."""
        self.writing = False
        """It is written to when it can take more."""


class Observation:
    """The publisher of one daemon. An observer without measure is disconnected, and costs others nothing but that
    nobody new is let in for a moment."""

    def __init__(self, daemon: str, path: Path, fd: int | None, member: Callable[[int], bool]) -> None:
        """`fd`: the listening socket that somebody else has bound to `path`; it stays open, and its path stays.
        `member`: whether a uid may observe that is neither this user's nor root's. Raises OSError."""
        self.subscriptions = 0
        """Of all observers."""
        self._member = member
        self._allowed = allowed_uids()
        self._complaints = Complaints(daemon)
        self._connections: set[_Connection] = set()
        self._takers: dict[bytes, list[_Connection]] = {}
        """Who gets a topic, as far as that was asked since the last subscription. A daemon has some dozens of them."""
        self._due: list[_Connection] = []
        self._looking: asyncio.TimerHandle | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._path = path if fd is None else None
        self._listener = _bound(path) if fd is None else socket.socket(fileno=fd)
        self._listener.setblocking(False)

    def start(self) -> None:
        """On the running loop."""
        self._loop = asyncio.get_running_loop()
        self._open()

    def publish(self, topic: bytes, frames: Sequence[bytes]) -> None:
        """`topic` and the frames after it. It is written when this turn of the loop is over: what else is published
        until then goes with it."""
        takers = self._takers.get(topic)
        if takers is None:
            takers = self._takers[topic] = [each for each in self._connections if each.subscriber.wants(topic)]
        if not takers:
            return
        message = zmtp.multipart([topic, *frames])
        for each in takers:
            if each.outbox.add(message) and not each.writing and not each.due:
                each.due = True
                if not self._due:
                    self._loop.call_soon(self._flush)
                self._due.append(each)

    def close(self) -> None:
        """What was published goes out as far as its observers take it now."""
        self._flush()
        for each in list(self._connections):
            self._forget(each)
        for timer in (self._resting, self._looking):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self._listener)
        self._complaints.close()
        self.abandon()

    def abandon(self) -> None:
        """Gives the listening socket up, where it was not started."""
        if self._path is None:
            self._listener.detach()
        else:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    # --- who comes ---

    def _open(self) -> None:
        """Lets observers in, if there is room."""
        self._resting = None
        if len(self._connections) < limits.OBSERVERS_MAX:
            self._loop.add_reader(self._listener, self._accept)
        else:
            self._loop.remove_reader(self._listener)

    def _rest(self, seconds: float) -> None:
        """They wait meanwhile, in the kernel's queue."""
        self._loop.remove_reader(self._listener)
        if self._resting is not None:
            self._resting.cancel()
        self._resting = self._loop.call_later(seconds, self._open)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                held, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor is left
                self._complain("", f"lets no observer in for the moment: {error.strerror}")
                self._rest(limits.REOPEN_S)
                return
            held.setblocking(False)
            self._greet(held)
            if len(self._connections) >= limits.OBSERVERS_MAX:
                self._open()
                return

    def _greet(self, held: socket.socket) -> None:
        """Nothing is read from it before the kernel has said whose it is."""
        pid, uid, _ = credentials(held)
        if uid not in self._allowed and not self._member(uid):
            held.close()
            self._complain(f"uid {uid}", refusal(uid, self._allowed))
            return
        connection = _Connection(held, f"uid {uid}, pid {pid}")
        connection.handshake = self._loop.call_later(limits.HANDSHAKE_MS / 1000, self._drop, connection)
        self._connections.add(connection)
        self._loop.add_reader(held, self._heard, connection)
        connection.outbox.answer(zmtp.GREETING)
        self._write(connection)

    # --- what they say ---

    def _heard(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        subscriber, before = connection.subscriber, len(connection.subscriber.topics)
        try:
            answers = subscriber.hear(data, time.monotonic_ns())
        except Violation as violation:
            self._cut(connection, str(violation))
            return
        if subscriber.shaken:
            connection.handshake.cancel()
        self._takers.clear()
        self._count(len(subscriber.topics) - before)
        for answer in answers:
            connection.outbox.answer(answer)
        if answers and connection in self._connections:
            self._write(connection)

    def _count(self, more: int) -> None:
        self.subscriptions += more
        if self.subscriptions > limits.SUBSCRIPTIONS_MAX_OF_ALL:
            most = max(self._connections, key=lambda each: len(each.subscriber.topics))
            self._cut(most, f"most of over {limits.SUBSCRIPTIONS_MAX_OF_ALL:,} subscriptions of all are its own")

    def _cut(self, connection: _Connection, why: str) -> None:
        """Nobody new is let in for a moment, or who comes again at once would keep the daemon busy."""
        self._complain(connection.who, f"an observer ({connection.who}) is disconnected: {why}")
        self._drop(connection)
        self._rest(limits.REOPEN_S)

    def _drop(self, connection: _Connection) -> None:
        self._forget(connection)
        if self._resting is None:
            self._open()

    def _forget(self, connection: _Connection) -> None:
        connection.handshake.cancel()
        self._loop.remove_reader(connection.socket)
        self._loop.remove_writer(connection.socket)
        connection.socket.close()
        self._connections.discard(connection)
        self._takers.clear()
        self.subscriptions = sum(len(each.subscriber.topics) for each in self._connections)

    def _complain(self, who: str, sentence: str) -> None:
        self._complaints.add(who, sentence, self._loop.time())
        if self._looking is None:
            self._looking = self._loop.call_later(limits.COMPLAINT_INTERVAL_S, self._look)

    def _look(self) -> None:
        held = self._complaints.look(self._loop.time())
        self._looking = self._loop.call_later(limits.COMPLAINT_INTERVAL_S, self._look) if held else None

    # --- what they are told ---

    def _flush(self) -> None:
        due, self._due = self._due, []
        for connection in due:
            connection.due = False
            if connection in self._connections:
                self._write(connection)

    def _write(self, connection: _Connection) -> None:
        """As much as one call takes; the rest when it can take more."""
        try:
            size = connection.socket.send(connection.outbox.next())
        except BlockingIOError:
            size = 0
        except OSError:
            self._drop(connection)
            return
        done = connection.outbox.wrote(size)
        if done and connection.writing:
            self._loop.remove_writer(connection.socket)
        elif not done and not connection.writing:
            self._loop.add_writer(connection.socket, self._write, connection)
        connection.writing = not done


def _bound(path: Path) -> socket.socket:
    """A listening socket. What lies at the path is nobody's: its owner would have the lock, or be listening."""
    with suppress(FileNotFoundError):
        path.unlink()
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.bind(str(path))
        held.listen(_BACKLOG)
    except OSError:
        held.close()
        raise
    return held
