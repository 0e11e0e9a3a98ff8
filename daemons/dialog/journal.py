"""What is still to be offered to the memory, kept on disk until the memory has taken it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec

from daemons.dialog.effects import Store
from ipc.errors import CallError, Code

log = logging.getLogger(__name__)

MAX_ENTRIES = 1000
"""Weeks of conversation with the memory away; the oldest go first."""


class Journal:
    """A queue of Store, as JSON lines in a file of its owner alone. Survives kill -9: each version of the file replaces
    the one before whole. A line that somebody else damaged is skipped, and said so.

    A change holds at once; a thread brings it to the disk, since a slow disk must not hold up a turn. Versions go
    there one after the other, and one that was overtaken meanwhile is left out. Belongs to one event loop."""

    def __init__(self, path: Path) -> None:
        """Raises CallError(STORE_READ_ONLY) when the folder cannot be made or the file not be read."""
        self._path = path
        self.trouble = ""
        """Why the last change did not reach the disk, else empty."""
        self._stale = False
        self._writing: asyncio.Task[None] | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._entries: deque[Store] = deque(_read(path), maxlen=MAX_ENTRIES)
        except OSError as error:
            detail = f"{path} cannot be used ({error.strerror}): check who owns it and its folder, or set TIMMY_STATE"
            raise CallError(Code.STORE_READ_ONLY, detail) from None

    @property
    def first(self) -> Store | None:
        return self._entries[0] if self._entries else None

    def add(self, entry: Store) -> None:
        """At the end of the queue."""
        if len(self._entries) == MAX_ENTRIES:
            log.warning("the memory has been away for too long: the oldest of %d entries is lost", MAX_ENTRIES)
        self._entries.append(entry)
        self._save()

    def taken(self, entry: Store) -> None:
        """`entry`, which was the first, is in the memory's hands."""
        if self.first is entry:  # else it was pushed out meanwhile
            self._entries.popleft()
            self._save()

    def withdraw(self, entry: Store) -> None:
        """`entry` is not to be offered any more; without it in the queue nothing changes."""
        if entry in self._entries:
            self._entries.remove(entry)
            self._save()

    async def written(self) -> None:
        """Returns when every change so far is on disk, or `trouble` says why not; then it goes there with the next
        change."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    def _save(self) -> None:
        self._stale = True
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._keep_writing())

    async def _keep_writing(self) -> None:
        while self._stale:
            self._stale = False
            try:
                await asyncio.to_thread(_replace, self._path, tuple(self._entries))
            except OSError as error:
                self.trouble = f"{self._path} cannot be written: {error.strerror}"
                log.warning("%s", self.trouble)
            else:
                self.trouble = ""


def _replace(path: Path, entries: Iterable[Store]) -> None:
    """Whole and atomic: there are rarely more than two entries."""
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for entry in entries:
            file.write(msgspec.json.encode(entry) + b"\n")
        file.flush()
        os.fdatasync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # else a power failure may bring the version before back
    finally:
        os.close(folder)


def _read(path: Path) -> list[Store]:
    entries = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            entries.append(msgspec.json.decode(line, type=Store))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.warning("%s: a line cannot be read and is skipped: %s", path, error)
    return entries
