"""A caller without rules on a plain socket, that keeps account of what it is answered."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from ipc import codec
from ipc.codec import Message
from ipc.endpoints import socket_path
from ipc.ids import new_rid
from ipc.messages import Body, Cancel, Error, Ping, Pong, Welcome
from tests.campaigns.handmade import Peer
from tests.campaigns.ledger import Ledger
from tests.socket.rig import hello


class Caller:
    """Has said hello, unless it is told not to `greet`. Raises AssertionError when the daemon does what it must not,
    Gone when it hangs up."""

    def __init__(self, daemon: str, folder: Path, *, greet: bool = True) -> None:
        self.ledger = Ledger()
        self._epoch = 0
        self._peer = Peer(socket_path(daemon, folder))
        if greet:
            try:
                assert isinstance(self.ended(self.ask(hello())).body, Welcome)
            except BaseException:
                self._peer.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._peer.close()

    def ask(self, body: Body, rid: bytes = b"") -> tuple[bytes, int]:
        """Opens a request that has to end."""
        request = self.new(rid)
        self.say(request, body, 0)
        return request

    def new(self, rid: bytes = b"") -> tuple[bytes, int]:
        """A request that has to end; what opens it is still to be sent."""
        self._epoch += 1
        request = rid or new_rid(), self._epoch
        self.expect(request)
        return request

    def open(self, request: tuple[bytes, int]) -> bool:
        """No end of it was heard yet."""
        return request in self.ledger.open

    def expect(self, request: tuple[bytes, int]) -> None:
        """What goes out next has to be answered like a request."""
        self.ledger.asked(*request)

    def say(self, request: tuple[bytes, int], body: Body, seq: int) -> None:
        self.frames(*codec.encode(Message(request[0], seq, request[1], 0, body)))

    def frames(self, *frames: bytes) -> None:
        self._peer.send(*frames)

    def pour(self, data: bytes) -> None:
        """Bytes as they are."""
        self._peer.pour(data)

    def hear(self) -> Message:
        """The next message."""
        message = codec.decode(self._peer.receive())
        self.ledger.came(message)
        return message

    def ended(self, request: tuple[bytes, int]) -> Message:
        """The request's terminal. Whatever comes before it is taken into account."""
        while request not in self.ledger.ended:
            self.hear()
        return self.ledger.ended[request]

    def error(self, request: tuple[bytes, int]) -> str:
        """The code with which it failed."""
        body = self.ended(request).body
        assert isinstance(body, Error), f"{body.type_name()} instead of an error"
        return body.code

    def cancel(self, request: tuple[bytes, int], seq: int = 1) -> None:
        self.say(request, Cancel(reason="enough"), seq)
        self.ended(request)

    def still_served(self) -> None:
        """Everything that it asked has ended once, nothing else came, and it is answered."""
        answer = self.ended(self.ask(Ping())).body
        assert isinstance(answer, Pong), f"a ping is answered by {answer}"
        self.ledger.check()
