"""Exactly one terminal: an account of the requests of a caller that follows no rules of its own."""

from __future__ import annotations

from ipc.codec import Message
from ipc.messages import Kind
from ipc.session import TERMINALS


class Ledger:
    """Told of every request that went out and of all that came. Raises AssertionError for what must not be."""

    def __init__(self) -> None:
        self.open: set[tuple[bytes, int]] = set()
        self.ended: dict[tuple[bytes, int], Message] = {}
        """Each request's terminal."""
        self.items = 0

    def asked(self, rid: bytes, epoch: int) -> None:
        """A request went out that must end. One under the same id that was open is superseded, and must end, too."""
        self.open.add((rid, epoch))

    def came(self, message: Message) -> None:
        """Anything from the daemon."""
        request, name = (message.rid, message.epoch), message.body.type_name()
        if request in self.ended:
            before = self.ended[request].body.type_name()
            raise AssertionError(f"{name} after {before}: a request's end is its end ({message.rid.hex()})")
        if request not in self.open:
            raise AssertionError(f"{name} for a request that nobody made ({message.rid.hex()})")
        if message.body.KIND in TERMINALS:
            self.open.remove(request)
            self.ended[request] = message
        else:
            self.items += message.body.KIND is Kind.DOWN

    def check(self) -> None:
        """When all should have ended."""
        if self.open:
            rids = ", ".join(rid.hex() for rid, _ in sorted(self.open)[:3])
            raise AssertionError(f"{len(self.open)} requests without an end: {rids}")
