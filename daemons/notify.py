"""Telling the supervisor how it goes: sd_notify(3) in a few lines. `timmy up` listens as systemd does."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Sends e.g. "READY=1" or "STATUS=loading" to NOTIFY_SOCKET; without one there is nobody to tell.
    Raises OSError when the socket is named but not there."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(address)
        channel.sendall(state.encode())
