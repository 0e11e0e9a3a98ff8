"""Who may speak to a daemon: the kernel's word on the peer, or its key, before its first message.

libzmq asks a ZAP handler (ZeroMQ RFC 27) about every new connection. For an ipc peer the address is
"localhost:UID:GID:PID", taken from SO_PEERCRED. A socket with a ZAP domain also refuses everything that is not a
current ZMTP handshake, so that raw connections never reach the application. A peer over a network has proved its key
by then (CURVE, ZeroMQ RFC 26): the handler says whether it is allowed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import zmq
from zmq.utils import z85

log = logging.getLogger(__name__)

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"timmy"
_REQUEST_FRAMES = 8  # routing id, empty, version, request id, domain, address, identity, mechanism
_NULL, _CURVE = b"NULL", b"CURVE"
_KEY_BYTES = 32


def allowed_uids() -> frozenset[int]:
    """This user, and root, who could read our memory anyway."""
    return frozenset({os.getuid(), 0})


def refusal(uid: int | None, allowed: frozenset[int]) -> str:
    """What the log says of a peer on this machine that may not come in."""
    return f"refused a connection of uid {uid}: only {sorted(allowed)} may speak to this daemon"


def peer_uid(address: bytes) -> int | None:
    """The uid in a ZAP address of an ipc peer; None for anything else."""
    host, *parts = address.split(b":")
    return int(parts[0]) if host == b"localhost" and len(parts) == 3 and parts[0].isdigit() else None


def new_secret() -> str:
    """A secret key. Its public one can be typed as an argument: it does not begin like an option."""
    while True:
        public, secret = zmq.curve_keypair()
        if public[:1].isalnum():
            return secret.decode("ascii")


def public_of(secret: str) -> str:
    """The public key that belongs to a secret one."""
    return zmq.curve_public(secret.encode("ascii")).decode("ascii")


def user_of(frame: zmq.Frame) -> str:
    """Who sent the message of which this is a frame, as the handler named it: the digits of a uid, or a key. Empty
    when it named nobody."""
    try:
        user = frame.get("User-Id")
    except zmq.ZMQError:
        return ""
    return user if isinstance(user, str) else ""


class Gatekeeper:
    """The ZAP handler of one context. `answer` is called whenever its socket is readable. `member` says of other
    uids whether they may come in, `admits` of keys whether they may come in from a network."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        member: Callable[[int], bool] = lambda uid: False,
        admits: Callable[[str], bool] = lambda key: False,
    ) -> None:
        self._member = member
        self._admits = admits
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ZAP_ENDPOINT)
        self._allowed = allowed_uids()

    def answer(self, frames: list[bytes]) -> list[bytes]:
        """The reply to one ZAP request."""
        if len(frames) < _REQUEST_FRAMES:
            return []
        route, _, version, request_id, _, address, _, mechanism, *credentials = frames
        user = self._by_key(address, credentials) if mechanism == _CURVE else self._by_uid(address, mechanism)
        verdict = [b"200", b"OK", user.encode(), b""] if user else [b"400", b"not allowed", b"", b""]
        return [route, b"", version, request_id, *verdict]

    def _by_uid(self, address: bytes, mechanism: bytes) -> str:
        """The name of a peer on this machine that may come in, else nothing."""
        uid = peer_uid(address) if mechanism == _NULL else None
        if uid in self._allowed or (uid is not None and self._member(uid)):
            return str(uid)
        log.warning("%s", refusal(uid, self._allowed))
        return ""

    def _by_key(self, address: bytes, credentials: list[bytes]) -> str:
        """The key of a peer on a network that may come in, else nothing."""
        if len(credentials) == 1 and len(credentials[0]) == _KEY_BYTES:
            key = z85.encode(credentials[0]).decode("ascii")
            if self._admits(key):
                return key
            log.warning("refused a connection from %s: its key is not allowed here: %s", address.decode(), key)
        return ""
