"""Who may speak to a daemon: the kernel's word on the peer, before its first message.

libzmq asks a ZAP handler (ZeroMQ RFC 27) about every new connection. For an ipc peer the address is
"localhost:UID:GID:PID", taken from SO_PEERCRED. A socket with a ZAP domain also refuses everything that is not a
current ZMTP handshake, so that raw connections never reach the application.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import zmq

log = logging.getLogger(__name__)

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"timmy"
_REQUEST_FRAMES = 8  # routing id, empty, version, request id, domain, address, identity, mechanism


def allowed_uids() -> frozenset[int]:
    """This user, and root, who could read our memory anyway."""
    return frozenset({os.getuid(), 0})


def peer_uid(address: bytes) -> int | None:
    """The uid in a ZAP address of an ipc peer; None for anything else."""
    host, *parts = address.split(b":")
    return int(parts[0]) if host == b"localhost" and len(parts) == 3 and parts[0].isdigit() else None


class Gatekeeper:
    """The ZAP handler of one context. `answer` is called whenever its socket is readable. `member` says of other
    uids whether they may come in."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], member: Callable[[int], bool] = lambda uid: False
    ) -> None:
        self._member = member
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ZAP_ENDPOINT)
        self._allowed = allowed_uids()

    def answer(self, frames: list[bytes]) -> list[bytes]:
        """The reply to one ZAP request."""
        if len(frames) < _REQUEST_FRAMES:
            return []
        route, _, version, request_id, _, address = frames[:6]
        uid = peer_uid(address)
        welcome = uid in self._allowed or (uid is not None and self._member(uid))
        if not welcome:
            log.warning("refused a connection of uid %s: only %s may speak to this daemon", uid, sorted(self._allowed))
        verdict = [b"200", b"OK", str(uid).encode(), b""] if welcome else [b"400", b"not this user", b"", b""]
        return [route, b"", version, request_id, *verdict]
