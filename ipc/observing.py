"""One observer as its publisher sees it: what it says, and what waits for it. Pure."""

from __future__ import annotations

from collections import deque

from ipc import limits, zmtp
from ipc.accounts import Recent
from ipc.zmtp import COMMAND, MORE, Violation

_READY = zmtp.ready(b"XPUB")
_KINDS = (b"SUB", b"XSUB")

_CONTEXT_MAX_BYTES = 16
"""Of a PING, by RFC 37."""

_ANSWERS_MAX = 16
"""PONGs that wait; further ones are not given. Who sends a PING and reads in between has one."""

_BATCH_BYTES = 64 * 1024
"""What is written at once, and one message more."""


class Subscriber:
    """What a peer has said, from its greeting on. Only SUB and XSUB are let through the handshake."""

    __slots__ = ("_buffer", "_continued", "_greeted", "_words", "shaken", "topics")

    def __init__(self) -> None:
        self.shaken = False
        """The handshake is done."""
        self.topics: set[bytes] = set()
        """Beginnings of topics. One that is subscribed to twice is cancelled once, as with libzmq: a SUB does the
        counting, and says its last cancel only."""
        self._buffer = bytearray()
        self._greeted = self._continued = False
        self._words = Recent(1)

    def hear(self, data: bytes, now_ns: int) -> list[bytes]:
        """What to answer. `now_ns`: monotonic. Raises Violation for a peer that has to go."""
        self._buffer += data
        answers: list[bytes] = []
        at = 0
        if not self._greeted:
            if not zmtp.greeted(self._buffer):
                return answers
            self._greeted, at = True, zmtp.GREETING_BYTES
            answers.append(_READY)
        while (found := zmtp.cut(self._buffer, at, limits.SUBSCRIPTION_MAX_BYTES)) is not None:
            flags, start, at = found
            if answer := self._take(flags, bytes(self._buffer[start:at]), now_ns):
                answers.append(answer)
        del self._buffer[:at]
        return answers

    def wants(self, topic: bytes) -> bool:
        return any(topic[:size] in self.topics for size in range(len(topic) + 1))

    def _take(self, flags: int, body: bytes, now_ns: int) -> bytes:
        if self._words.add(1, now_ns) > limits.SUBSCRIPTIONS_MAX:
            raise Violation(f"over {limits.SUBSCRIPTIONS_MAX:,} words within a second")
        if flags & COMMAND:
            return self._obey(*zmtp.parted(body))
        if not self.shaken:
            raise Violation("a message before the end of its handshake")
        if not self._continued:
            self._said(body)
        self._continued = bool(flags & MORE)
        return b""

    def _obey(self, name: bytes, data: bytes) -> bytes:
        if not self.shaken:
            self._shake(name, data)
        elif name == b"PING":
            if not 2 <= len(data) <= 2 + _CONTEXT_MAX_BYTES:
                raise Violation("a PING that is none")
            return zmtp.command(b"PONG", data[2:])
        elif name == b"SUBSCRIBE":
            self._subscribe(data)
        elif name == b"CANCEL":
            self.topics.discard(data)
        return b""

    def _shake(self, name: bytes, data: bytes) -> None:
        kind = zmtp.properties(data).get(b"socket-type", b"") if name == b"READY" else b""
        if kind not in _KINDS:
            raise Violation(f"it is no subscriber: {name!r} {kind!r}")
        self.shaken = True

    def _said(self, body: bytes) -> None:
        """A message: a subscription in the words of ZMTP 3.0, or one that is nobody's business."""
        if body[:1] == b"\x01":
            self._subscribe(body[1:])
        elif body[:1] == b"\x00":
            self.topics.discard(body[1:])

    def _subscribe(self, topic: bytes) -> None:
        self.topics.add(topic)
        if len(self.topics) > limits.SUBSCRIPTIONS_MAX:
            raise Violation(f"over {limits.SUBSCRIPTIONS_MAX:,} subscriptions")


class Outbox:
    """What waits until a peer has read what came before. Beyond the limits whole messages are lost, the newest."""

    __slots__ = ("_answers", "_batch", "_bytes", "_messages", "_unwritten")

    def __init__(self) -> None:
        self._answers: deque[bytes] = deque()
        self._messages: deque[bytes] = deque()
        self._batch = 0
        """How many of the messages, the first ones, are in what is being written."""
        self._bytes = 0
        self._unwritten = memoryview(b"")

    def add(self, message: bytes) -> bool:
        """False: it is lost."""
        size = self._bytes + len(message)
        if len(self._messages) >= limits.OBSERVATION_BACKLOG_MAX or size > limits.OBSERVATION_BACKLOG_MAX_BYTES:
            return False
        self._messages.append(message)
        self._bytes = size
        return True

    def answer(self, unit: bytes) -> None:
        """Goes before the messages, and never into one."""
        if len(self._answers) < _ANSWERS_MAX:
            self._answers.append(unit)

    def next(self) -> memoryview:
        """What to write now, empty when there is nothing. To be followed by `wrote`."""
        if not self._unwritten:
            parts, size = [*self._answers], 0
            self._answers.clear()
            for message in self._messages:
                if size >= _BATCH_BYTES:
                    break
                parts.append(message)
                size += len(message)
                self._batch += 1
            self._unwritten = memoryview(b"".join(parts))
        return self._unwritten

    def wrote(self, size: int) -> bool:
        """So many bytes of it. Whether that was all there is."""
        self._unwritten = self._unwritten[size:]
        if self._unwritten:
            return False
        for _ in range(self._batch):
            self._bytes -= len(self._messages.popleft())
        self._batch = 0
        return not self._messages and not self._answers
