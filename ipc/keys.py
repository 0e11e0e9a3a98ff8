"""The keys of a machine: its own secret, and the list of those that it allows. Files in one folder; no zmq here.

    secret    this machine's secret key, Z85 (40 characters), 0600
    allowed   one line a key: NAME ROLE KEY, 0600

Both are replaced whole, so that a reader sees the old one or the new one.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import tempfile
from collections.abc import Container, Iterable
from pathlib import Path

from ipc.access import Guest, Role
from ipc.errors import ConfigError
from ipc.messages import HOME

log = logging.getLogger(__name__)

KEY = r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}"
"""Z85 of 32 bytes (ZeroMQ RFC 32)."""

NAME = r"[a-z0-9][a-z0-9_.\-]{0,63}"
"""As a conversation is named: a satellite's name is its conversation."""

_LINE = re.compile(rf"({NAME}) ({'|'.join(Role)}) ({KEY})")


def secret_path(folder: Path) -> Path:
    return folder / "secret"


def allowed_path(folder: Path) -> Path:
    return folder / "allowed"


def read_secret(folder: Path) -> str:
    """This machine's secret key. Raises ConfigError where there is none, or others could read or replace it."""
    path = secret_path(folder)
    text = _read(path, f"this machine has no key: timmy keys new (looked for in {folder})")
    if not re.fullmatch(KEY, text.strip()):
        raise ConfigError(f"{path} holds no key: timmy keys new --replace")
    return text.strip()


def write_secret(folder: Path, secret: str) -> None:
    """Raises ConfigError."""
    _write(secret_path(folder), f"{secret}\n")


def read_allowed(folder: Path) -> list[Guest]:
    """The keys that are allowed; none where there is no list yet. Raises ConfigError: a line that cannot be read, or
    a file that others could read or replace."""
    path = allowed_path(folder)
    if not path.exists():
        return []
    return parse_allowed(_read(path, "it went away"), path)


def parse_allowed(text: str, path: Path) -> list[Guest]:
    """Raises ConfigError."""
    found: list[Guest] = []
    for number, line in enumerate(text.splitlines(), 1):
        matched = _LINE.fullmatch(line)
        if matched is None:
            raise ConfigError(f"{path}:{number}: not a line of NAME ROLE KEY; `timmy keys` writes this file")
        found.append(Guest(matched[3], Role(matched[2]), matched[1]))
    return found


def allow(folder: Path, guest: Guest) -> None:
    """Adds a key to the list. Raises ConfigError when it, or its name, is there already or cannot be."""
    if not re.fullmatch(KEY, guest.key):
        raise ConfigError(
            f"{guest.key!r} is no key: it has 40 characters, as `timmy keys show` prints it on the other machine"
        )
    if not re.fullmatch(NAME, guest.name) or guest.name == HOME:
        raise ConfigError(f"{guest.name!r} is no name for a key: 1 to 64 of a-z 0-9 _ . -, and not {HOME!r}")
    known = read_allowed(folder)
    for other in known:
        if guest.key == other.key:
            raise ConfigError(f"this key is allowed already, as {other.role} {other.name!r}")
        if guest.name == other.name:
            raise ConfigError(f"there is a key named {guest.name!r} already: timmy keys revoke {guest.name}")
    _write_allowed(folder, [*known, guest])


def revoke(folder: Path, name: str) -> Guest:
    """Takes the key of that name off the list. Raises ConfigError when there is none."""
    known = read_allowed(folder)
    gone = [guest for guest in known if guest.name == name]
    if not gone:
        names = ", ".join(guest.name for guest in known) or "none"
        raise ConfigError(f"no key is named {name!r}; allowed are: {names}")
    _write_allowed(folder, [guest for guest in known if guest.name != name])
    return gone[0]


def _write_allowed(folder: Path, guests: Iterable[Guest]) -> None:
    _write(allowed_path(folder), "".join(f"{guest.name} {guest.role} {guest.key}\n" for guest in guests))


def _write(path: Path, text: str) -> None:
    """Whole and 0600, in a folder of 0700."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_folder(path.parent)
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _read(path: Path, absent: str) -> str:
    try:
        _check_folder(path.parent)
        info = path.stat()
        if info.st_uid not in (os.getuid(), 0) or info.st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others: chmod 600 {path}; it must belong to who runs this")
        return path.read_text("ascii")
    except FileNotFoundError:
        raise ConfigError(absent) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} holds no keys: it is not ASCII") from None


def _check_folder(folder: Path) -> None:
    """Who can write the folder can put other keys there."""
    info = folder.stat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid not in (os.getuid(), 0) or info.st_mode & 0o077:
        raise ConfigError(f"{folder} is open to others: chmod 700 {folder}; it must belong to who runs this")


class Keyring:
    """The allowed keys as they are now: the list is read again when it has changed. One that cannot be read allows
    nobody."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError as `read_allowed`."""
        self._folder = folder
        self._path = allowed_path(folder)
        self._seen = self._identity()
        self._guests = {guest.key: guest for guest in read_allowed(folder)}

    def guest(self, key: str) -> Guest:
        """Who has this key; without a role when it is not allowed."""
        self._refresh()
        return self._guests.get(key) or Guest(key)

    def keys(self, roles: Container[Role]) -> frozenset[str]:
        """The keys that are allowed in these roles."""
        self._refresh()
        return frozenset(key for key, guest in self._guests.items() if guest.role in roles)

    def _refresh(self) -> None:
        now = self._identity()
        if now == self._seen:
            return
        self._seen = now
        try:
            self._guests = {guest.key: guest for guest in read_allowed(self._folder)}
        except ConfigError as error:
            log.error("no key is allowed: %s", error)
            self._guests = {}

    def _identity(self) -> tuple[int, int, int]:
        try:
            info = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (info.st_ino, info.st_mtime_ns, info.st_ctime_ns)
