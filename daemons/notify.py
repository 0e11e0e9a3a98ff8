"""Telling the supervisor how it goes: sd_notify(3) in a few lines. `timmy up` listens as systemd does."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Mapping

log = logging.getLogger(__name__)

WATCHDOG_SHARE = 3
"""The watchdog is fed this often within its time, so that one late feeding does no harm."""


WATCHDOG = "WATCHDOG=1"

_UNTOLD_MAX = 16
_untold: deque[str] = deque(maxlen=_UNTOLD_MAX)
"""What the supervisor had no room for."""


def notify(state: str) -> None:
    """Sends e.g. "READY=1" or "STATUS=loading" to NOTIFY_SOCKET; without one there is nobody to tell. Never waits: a
    supervisor that stands still reads nothing, and after ten or so (net.unix.max_dgram_qlen) there is no room for
    more. Those are told with the next one; a WATCHDOG is not, since it says that all is well now. A supervisor that is
    gone is no reason to stop working, nor not to clean up: it is logged."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    _untold.append(state)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
            channel.connect(address)
            while _untold:
                channel.sendall(_untold[0].encode())
                _untold.popleft()
    except BlockingIOError:
        if state == WATCHDOG:
            _untold.pop()
    except OSError as error:
        _untold.clear()
        log.warning("the supervisor cannot be told %r at %s: %s", state, path, error.strerror)


def notify_reloading() -> None:
    """The configuration is being read anew; READY=1 tells the end of it."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_period_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often this process has to say WATCHDOG=1 (sd_watchdog_enabled(3)); None: nobody waits for it."""
    limit_us = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
    return int(limit_us) / 1e6 / WATCHDOG_SHARE if meant and limit_us.isdigit() and int(limit_us) else None
