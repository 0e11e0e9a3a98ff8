"""Telling the supervisor how it goes: sd_notify(3) in a few lines. `timmy up` listens as systemd does."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Sends e.g. "READY=1" or "STATUS=loading" to NOTIFY_SOCKET; without one there is nobody to tell. A supervisor
    that is gone is no reason to stop working, nor not to clean up: it is logged."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)
            channel.sendall(state.encode())
    except OSError as error:
        log.warning("the supervisor cannot be told %r at %s: %s", state, path, error.strerror)
