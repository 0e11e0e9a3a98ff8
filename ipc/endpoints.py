"""Where the sockets lie, and who may use them. No zmq here."""

from __future__ import annotations

import fcntl
import os
import pwd
import socket
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ipc.errors import EndpointError
from ipc.limits import UNIX_PATH_MAX_BYTES

DAEMONS = ("stt", "dialog", "llm", "memory", "tts")

SYSTEM_RUNTIME = Path("/run/timmy")
"""Where the daemons are that systemd runs for the whole machine."""


def runtime_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """TIMMY_RUNTIME, else timmy in XDG_RUNTIME_DIR, else /tmp/timmy-UID. It need not exist."""
    if named := environ.get("TIMMY_RUNTIME"):
        return Path(named)
    if base := environ.get("XDG_RUNTIME_DIR"):
        return Path(base) / "timmy"
    return Path(f"/tmp/timmy-{os.getuid()}")


def daemons_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a caller finds the daemons: as `runtime_dir`, unless none of this user's own has a socket there and the
    machine's service has."""
    own = runtime_dir(environ)
    if environ.get("TIMMY_RUNTIME") or _has_sockets(own) or not _has_sockets(SYSTEM_RUNTIME):
        return own
    return SYSTEM_RUNTIME


def _has_sockets(folder: Path) -> bool:
    return os.access(folder, os.X_OK) and any(socket_path(daemon, folder).exists() for daemon in DAEMONS)


def socket_path(daemon: str, folder: Path | None = None) -> Path:
    """The socket for requests. Raises EndpointError when the path is longer than the kernel takes."""
    return _fitting((folder or runtime_dir()) / f"{daemon}.sock")


def observer_path(daemon: str, folder: Path | None = None) -> Path:
    """The socket for lossy observation."""
    return _fitting((folder or runtime_dir()) / f"{daemon}.pub.sock")


def _fitting(path: Path) -> Path:
    size = len(os.fsencode(path))
    if size > UNIX_PATH_MAX_BYTES:
        raise EndpointError(
            f"socket path of {size} bytes is too long, Unix sockets take {UNIX_PATH_MAX_BYTES}: "
            f"set TIMMY_RUNTIME to a shorter folder than {path.parent}"
        )
    return path


def claim_folder(folder: Path) -> Path:
    """Makes the socket folder (0700) or checks it: a real folder, ours or root's, closed to others.

    Clients check it as well: who owns the folder could put sockets of their own into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.lstat()
    except OSError as error:
        raise EndpointError(f"socket folder {folder}: {error.strerror}; set TIMMY_RUNTIME") from None
    if not stat.S_ISDIR(info.st_mode):
        raise EndpointError(f"socket folder {folder} is a link, not a folder: remove it")
    if info.st_uid not in (os.getuid(), 0):
        raise EndpointError(f"socket folder {folder} belongs to user {info.st_uid}: set TIMMY_RUNTIME")
    if info.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise EndpointError(f"socket folder {folder} is open to others: chmod 700 {folder}")
    return folder


def members(folder: Path) -> Callable[[int], bool]:
    """Who beside the owner may use the sockets in a folder: root's folder that is open to a group (0750) is for the
    users of that group, any other for nobody. What it gives says of a uid whether it is one of them."""
    info = folder.stat()
    group = info.st_gid if info.st_uid == 0 and info.st_mode & stat.S_IXGRP and info.st_gid else None
    return lambda uid: group is not None and group in groups_of(uid)


def groups_of(uid: int) -> list[int]:
    """The groups a user is in, as the system's files say now; none for one it does not know."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return []
    return os.getgrouplist(user.pw_name, user.pw_gid)


def nobody_listens(paths: Iterable[Path]) -> None:
    """Raises EndpointError when a socket is held by somebody: a `bind` would steal it."""
    for path in paths:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as caller:
            try:
                caller.connect(str(path))
            except BlockingIOError:  # its queue is full
                pass
            except OSError:
                continue
            raise EndpointError(
                f"{path} is held by systemd, which starts the daemon when it is called: `timmy status` shows it, "
                "systemctl --user stop timmy.target timmy-*.socket ends it"
            )


class Lock:
    """One daemon a name: a second `bind` on an ipc path would silently steal it from the first."""

    def __init__(self, path: Path) -> None:
        """Raises EndpointError when another process holds it. The file stays, the lock dies with us."""
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise EndpointError(f"lock file {path}: {error.strerror}; remove it or set TIMMY_RUNTIME") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise EndpointError(f"{path.stem} is running already (pid {holder})") from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)
