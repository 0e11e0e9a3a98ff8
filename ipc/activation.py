"""Sockets that systemd holds for a daemon and passes to it when it starts (sd_listen_fds(3)).

Such a socket is there before its daemon and outlives it: who connects meanwhile waits in its queue.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import NamedTuple

from ipc.endpoints import observer_path, socket_path
from ipc.errors import EndpointError

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Passed(NamedTuple):
    """Descriptors of the sockets for requests and for observation, bound and listening."""

    requests: int
    observers: int


def passed_sockets(daemon: str, folder: Path, environ: MutableMapping[str, str] = os.environ) -> Passed | None:
    """What was passed to this process, None when nothing was. What this process starts inherits none of it.

    Sockets that bear another name than the daemon's are closed: they are not for it. Raises EndpointError when one
    of the two is missing or lies elsewhere.
    """
    named = _named(environ)
    if named is None:
        return None
    found: dict[Path, int] = {}
    for fd, name in named:
        path = _listening_at(fd) if name in ("", daemon) else None
        if path is None:
            os.close(fd)
            continue
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)  # a caller that has left again must not hold up the others
        found[path] = fd
    wanted = Passed(*(found.pop(path(daemon, folder), -1) for path in (socket_path, observer_path)))
    if -1 in wanted:
        raise EndpointError(
            f"systemd passed no sockets {daemon}.sock and {daemon}.pub.sock in {folder}: "
            f"see ListenStream and FileDescriptorName={daemon} in the .socket unit, and TIMMY_RUNTIME in the .service"
        )
    for fd in found.values():
        os.close(fd)
    return wanted


def _named(environ: MutableMapping[str, str]) -> list[tuple[int, str]] | None:
    """The descriptors and their names, empty where none were given. The variables are taken out."""
    pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or not count.isdigit():
        return None
    given = names.split(":") if names else [""] * int(count)
    return list(zip(range(FIRST_FD, FIRST_FD + int(count)), given, strict=False))


def _listening_at(fd: int) -> Path | None:
    """Where a Unix stream socket listens; None for any other descriptor."""
    try:
        with socket.socket(fileno=os.dup(fd)) as held:
            listens = held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if held.family is not socket.AF_UNIX or held.type is not socket.SOCK_STREAM or not listens:
                return None
            return Path(os.fsdecode(held.getsockname()))
    except OSError:
        return None
