"""ZeroMQ sockets with every setting that matters, set before bind or connect, and why."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

from ipc import limits
from ipc.errors import EndpointError
from ipc.security import DOMAIN, public_of

log = logging.getLogger(__name__)

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]
Frame = zmq.Frame


class Keys(NamedTuple):
    """What a caller over a network needs: the public key of who it calls, and its own secret one."""

    theirs: str
    secret: str


_EVERY = {
    zmq.LINGER: 250,  # ms for last words at shutdown; the default waits for ever
    zmq.HANDSHAKE_IVL: limits.HANDSHAKE_MS,  # a peer that connects and says nothing is dropped
    zmq.MAXMSGSIZE: max(limits.HEADER_MAX_BYTES, limits.PAYLOAD_MAX_BYTES),  # per frame; parts are counted apart
    zmq.SNDHWM: 2000,  # never reached by a peer that obeys its credit
    zmq.RCVHWM: 2000,
}
# Of a caller on a network only, where nobody else tells that a link is cut. libzmq 4.3.5 aborts when a heartbeat is due
# on a connection that its peer has closed while what came was not taken any more (`_io_error` in
# stream_engine_base.cpp): the queue is full, or the socket is being closed and still has something to send.
_BEATS = {
    zmq.HEARTBEAT_IVL: 1000,  # answered by the I/O thread: proves the process, not the loop
    zmq.HEARTBEAT_TIMEOUT: 3000,
    zmq.HEARTBEAT_TTL: 3000,
}
_AGAIN = {
    zmq.RECONNECT_IVL: 50,
    zmq.RECONNECT_IVL_MAX: 250,  # a try costs microseconds; with longer pauses a restarted daemon is found late
}
_CLIENT = {
    zmq.IMMEDIATE: 1,  # queue nothing for a peer that is not there
    zmq.RCVHWM: 0,  # the credit that was granted is the limit; see _BEATS
    **_AGAIN,
}
_SERVER = {
    zmq.ROUTER_MANDATORY: 1,  # a send to a peer that left is an error, not silence
    zmq.ZAP_ENFORCE_DOMAIN: 1,  # no handler, no connection
    zmq.SNDHWM: limits.UNREAD_MAX_MESSAGES,
    # A queue that is never full: a peer that fills it, hangs up, and has a heartbeat among what waits, aborts libzmq
    # otherwise. What waits is bounded by Intake.
    zmq.RCVHWM: 0,
}
_VIEWED = {
    zmq.ZAP_ENFORCE_DOMAIN: 1,
    zmq.LINGER: 0,
    zmq.MAXMSGSIZE: limits.SUBSCRIPTION_MAX_BYTES,  # every byte of a topic costs fifty
    zmq.SNDHWM: limits.OBSERVATION_BACKLOG_MAX,
    zmq.RCVHWM: 16,  # libzmq takes in all that waits at once, and with more would not come to an end
}
_FAR = {
    zmq.HANDSHAKE_IVL: limits.FAR_HANDSHAKE_MS,
    zmq.TCP_KEEPALIVE: 1,  # who went without a word would be sent to for hours where no heartbeats are
    zmq.TCP_KEEPALIVE_IDLE: 5,
    zmq.TCP_KEEPALIVE_INTVL: 2,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.IPV6: 1,
}
_FAR_CLIENT = {
    **_FAR,
    **_BEATS,
    zmq.CONNECT_TIMEOUT: limits.FAR_CONNECT_MS,  # the kernel's own pauses grow to many seconds while a link is cut
}
_BATCH = 64
"""Messages read before other callbacks of the loop get their turn; of one message, frames that count as a message."""

# As plain numbers: what pyzmq has are enums, and each `|` or `&` of those costs as much as a send.
_NOW = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT) | int(zmq.SNDMORE)
_READABLE = int(zmq.POLLIN)


def _new(context: Context, kind: int, options: dict[Any, int]) -> Socket:
    socket = context.socket(kind)
    for option, value in {**_EVERY, **options}.items():
        socket.setsockopt(option, value)
    return socket


def router(context: Context, path: Path, fd: int | None = None) -> Socket:
    """A bound ROUTER that lets in whom the context's Gatekeeper lets in. `fd`: the listening socket, where somebody
    else has bound it to `path` and keeps it."""
    _seed()
    socket = _new(context, zmq.ROUTER, _SERVER)
    socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
    if fd is not None:
        socket.setsockopt(zmq.USE_FD, fd)
    socket.bind(f"ipc://{path}")
    return socket


def _seed() -> None:
    """libzmq counts the connections of a ROUTER from rand(), which it does not seed. A peer may give itself a name in
    its handshake, and the number of a connection to come for a name aborts libzmq: nobody shall know it."""
    ctypes.CDLL(None).srand(secrets.randbits(32))


def publisher(context: Context) -> Socket:
    """An XPUB for viewers on a network, not yet bound, that lets in whom the context's Gatekeeper lets in. Slow readers
    lose, the daemon does not wait."""
    socket = _new(context, zmq.XPUB, _VIEWED)
    socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
    return socket


class Door:
    """An endpoint of a socket on a network, beside one that it may have on this machine: who comes in has to prove a
    key. While this machine does not have the address it is tried again. When more connections are open than there can
    be guests it is shut for a moment, and with it they are: without descriptors libzmq would end the process."""

    def __init__(self, socket: Socket, endpoint: str, secret: str) -> None:
        """Raises EndpointError when the endpoint cannot be had: somebody else listens there."""
        self._socket, self._endpoint = socket, endpoint
        self.trouble = ""
        """Why nobody can come in; empty while it is open."""
        self._again: asyncio.TimerHandle | None = None
        self._open: set[int] = set()
        """Descriptors of the connections that came in here."""
        # They hold for what is bound from now on, and no more for what was.
        socket.setsockopt(zmq.USE_FD, -1)
        for option, value in {**_FAR, zmq.CURVE_SERVER: 1, zmq.MAXMSGSIZE: _sealed(socket)}.items():
            socket.setsockopt(option, value)
        socket.setsockopt_string(zmq.CURVE_SECRETKEY, secret)
        self._bound = self._bind()

    def start(self) -> None:
        """On the running loop."""
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._events = Reader(self._monitor, self._happened, frames_max=2)
        if not self._bound:
            self._wait("this machine has no such address (yet); it is tried again")

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._events.close()
        self._socket.disable_monitor()
        self._monitor.close(linger=0)

    def _happened(self, frames: list[bytes]) -> None:
        event = parse_monitor_message(frames)
        if not event["endpoint"].startswith(b"tcp:"):
            return
        if event["event"] == zmq.EVENT_DISCONNECTED:
            self._open.discard(event["value"])
        elif self._bound:
            self._open.add(event["value"])
            if len(self._open) > limits.FAR_CONNECTIONS_MAX:
                self._socket.unbind(self._endpoint)
                self._bound = False
                self._open.clear()
                self._wait(f"over {limits.FAR_CONNECTIONS_MAX} connections, shut for a moment")

    def _wait(self, why: str) -> None:
        self.trouble = f"{self._endpoint}: {why}"
        log.warning("%s", self.trouble)
        self._try_later()

    def _try_later(self) -> None:
        self._again = asyncio.get_running_loop().call_later(limits.DOOR_RETRY_S, self._try)

    def _try(self) -> None:
        try:
            self._bound = self._bind()
        except EndpointError as error:
            self.trouble = str(error)
            log.error("%s", error)
        if self._bound:
            self.trouble = ""
            log.info("listening at %s", self._endpoint)
        else:
            self._try_later()

    def _bind(self) -> bool:
        try:
            self._socket.bind(self._endpoint)
        except zmq.ZMQError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
                return False
            raise EndpointError(f"{self._endpoint}: {error.strerror}; see network.listen and network.port") from None
        return True


def subscriber(context: Context, endpoint: str, keys: Keys | None = None) -> Socket:
    """A SUB that gets all that a daemon publishes. What it does not read in time the daemon drops. See _BEATS why it
    has none."""
    socket = _new(context, zmq.SUB, {**_AGAIN, zmq.LINGER: 0})
    _prove(socket, keys)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(endpoint)
    return socket


def dealer(context: Context, keys: Keys | None = None) -> Socket:
    """A DEALER, not yet connected: its monitor has to be there first. `keys`: it is to connect over a network."""
    socket = _new(context, zmq.DEALER, _CLIENT)
    _prove(socket, keys)
    return socket


def _prove(socket: Socket, keys: Keys | None) -> None:
    if keys is None:
        return
    for option, value in {**_FAR_CLIENT, zmq.MAXMSGSIZE: _sealed(socket)}.items():
        socket.setsockopt(option, value)
    socket.setsockopt_string(zmq.CURVE_SERVERKEY, keys.theirs)
    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, public_of(keys.secret))
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keys.secret)


def _sealed(socket: Socket) -> int:
    """The longest frame of a socket once it is encrypted."""
    return int(socket.getsockopt(zmq.MAXMSGSIZE)) + limits.FAR_EXTRA_BYTES


def receive_bounded(socket: Socket, frames: list[bytes], frames_max: int) -> bool:
    """Adds the next frames of a message to `frames`, which are at most `frames_max` + 1 in the end: a message of any
    number costs no memory. False: it has more of them, and others want their turn. Raises zmq.Again when there is
    nothing."""
    for _ in range(_BATCH):
        part = socket.recv(_NOW, copy=False)
        if len(frames) <= frames_max:
            frames.append(part.bytes)
        if not part.more:
            return True
    return False


def receive(socket: Socket) -> Frame | None:
    """The next frame of a message, or of the next message; None: there is none."""
    try:
        return socket.recv(_NOW, copy=False)
    except zmq.Again:
        return None


def source(part: Frame) -> tuple[int, str]:
    """The descriptor on which a frame came, which may be closed by now, and the peer's address as ZAP has it. (-1, "")
    of a peer that did not complete a handshake, which none of ours lets in."""
    try:
        return int(part.get(zmq.SRCFD)), str(part.get("Peer-Address"))
    except zmq.ZMQError:
        return -1, ""


def send_now(socket: Socket, frames: Sequence[bytes]) -> bool:
    """Sends a message of several frames; False: the peer is not there, or does not read. Never blocks."""
    try:
        for frame in frames[:-1]:
            socket.send(frame, _MORE)
        socket.send(frames[-1], _NOW)
    except zmq.ZMQError:
        return False
    return True


class Reader:
    """Calls `on_message` for what arrives on a socket, from the running loop.

    The descriptor of a zmq socket signals edges: it has to be drained, and looked at again after every
    send, which `sent` does.
    """

    def __init__(self, socket: Socket, on_message: Callable[[list[bytes]], None], frames_max: int) -> None:
        self._socket = socket
        self._on_message = on_message
        self._frames_max = frames_max
        self._frames: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.getsockopt(zmq.FD))
        self._scheduled: asyncio.Handle | None = None
        self._draining = False
        self._loop.add_reader(self._fd, self._drain)
        self.sent()

    def sent(self) -> None:
        """To be called after each send: the edge may have been consumed by it."""
        if self._scheduled is None and not self._draining and self._readable():
            self._scheduled = self._loop.call_soon(self._drain)

    def _readable(self) -> bool:
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & _READABLE)

    def _drain(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        # What is sent meanwhile need not look: this does, after each message.
        self._draining = True
        for _ in range(_BATCH):
            if not self._take():
                self._draining = False
                return
        self._draining = False
        self.sent()

    def _take(self) -> bool:
        """Deals with one message, or a part of it; whether more waits."""
        try:
            whole = receive_bounded(self._socket, self._frames, self._frames_max)
        except zmq.Again:
            return False
        if whole:
            frames, self._frames = self._frames, []
            try:
                self._on_message(frames)
            except Exception:
                log.exception("a message could not be dealt with")
        return not self._socket.closed and self._readable()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        if self._scheduled is not None:
            self._scheduled.cancel()
