"""What can be wrong with the database, each as one line that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from ipc.errors import CallError, Code


class StoreError(CallError):
    """The store cannot do what it was asked; `code` is one of STORE_*, or ENGINE_FAILED when the disk fails."""


_TEXTS = {
    Code.STORE_LOCKED: "{path} is in use by another program: close it (fuser {path} tells which) and try again",
    Code.STORE_READ_ONLY: "{path} cannot be written ({reason}): check who owns it and its folder (ls -la {folder})",
    Code.STORE_DAMAGED: "{path} is damaged ({reason}) and was left as it is: put a copy of yours in its place, "
    "or move it away to begin with no memories (mv {path} {path}.damaged)",
    Code.STORE_NEWER: "{path} was written by a newer version of this program ({reason}): install that version",
    Code.STORE_FULL: "{path} cannot grow, the disk is full: free some space; what is stored is safe",
    Code.ENGINE_FAILED: "{path} cannot be read or written, the disk fails: {reason}",
}


def fault(code: Code, path: Path, reason: object = "") -> StoreError:
    return StoreError(code, _TEXTS[code].format(path=path, folder=path.parent, reason=reason))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raises StoreError for whatever SQLite or the file system finds wrong."""
    try:
        yield
    except apsw.Error as error:
        if (code := _code(error)) is None:
            raise  # a mistake in this program
        raise fault(code, path, str(error).splitlines()[0]) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise fault(Code.STORE_FULL if full else Code.STORE_READ_ONLY, path, error.strerror) from error


def _code(error: apsw.Error) -> Code | None:
    kinds: dict[type[apsw.Error], Code] = {
        apsw.BusyError: Code.STORE_LOCKED,
        apsw.LockedError: Code.STORE_LOCKED,
        apsw.ReadOnlyError: Code.STORE_READ_ONLY,
        apsw.CantOpenError: Code.STORE_READ_ONLY,
        apsw.PermissionsError: Code.STORE_READ_ONLY,
        apsw.CorruptError: Code.STORE_DAMAGED,
        apsw.NotADBError: Code.STORE_DAMAGED,
        apsw.FullError: Code.STORE_FULL,
        apsw.IOError: Code.ENGINE_FAILED,
    }
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), None)
