"""A disk under SQLite that fills up, and a process or a machine that goes down at one of its operations."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import apsw

SECTOR = 512


class Fate(Enum):
    """What happens at the operation that is named."""

    KILLED = "killed"  # the process is killed; what it wrote is with the kernel, the last write in part
    POWER = "power"  # the machine stops: what was not synchronised is there, lost or garbled, sector by sector
    FULL = "full"  # nothing more can be written until `free` is called


@dataclass(frozen=True, slots=True)
class _Write:
    path: Path
    offset: int
    size: int
    before: bytes


@dataclass(slots=True)
class Disk:
    """What becomes the default disk of the process by `install`. `at`: the number of the operation, from 1."""

    fate: Fate
    at: int
    chance: random.Random
    operations: int = 0
    full: bool = False
    _pending: list[_Write] = field(default_factory=list)

    def install(self) -> apsw.VFS:
        return _Vfs(self)

    def free(self) -> None:
        """There is room again."""
        self.full = False

    def down(self) -> None:
        """The end of this process, as its fate wills it."""
        if self.fate is Fate.POWER:
            for write in reversed(self._pending):
                self._spoil(write)
        os.kill(os.getpid(), signal.SIGKILL)

    def due(self) -> bool:
        """Counts an operation: is it the one?"""
        self.operations += 1
        return self.operations == self.at

    def write(self, file: _File, data: bytes, offset: int) -> None:
        due = self.due()
        if self.full or (due and self.fate is Fate.FULL):
            self.full = True
            raise apsw.FullError("no room")
        if self.fate is Fate.POWER:
            self._pending.append(_Write(file.path, offset, len(data), _part(file.path, offset, len(data))))
        part = self.chance.randrange(len(data) + 1) if due else len(data)
        file.really_write(data[:part], offset)
        if due:
            self.down()

    def sync(self, file: _File, flags: int) -> None:
        if self.due() and self.fate is not Fate.FULL:
            self.down()
        file.really_sync(flags)
        self._pending = [write for write in self._pending if write.path != file.path]

    def truncate(self, file: _File, size: int) -> None:
        if self.due() and self.fate is not Fate.FULL:
            self.down()
        file.really_truncate(size)

    def _spoil(self, write: _Write) -> None:
        """What a power failure leaves of it. Nothing beside what was written is touched."""
        with write.path.open("r+b") as file:
            for start in range(0, write.size, SECTOR):
                size = min(SECTOR, write.size - start)
                fate = self.chance.randrange(3)
                if fate:
                    before = write.before[start : start + size].ljust(size, b"\0")
                    file.seek(write.offset + start)
                    file.write(before if fate == 1 else self.chance.randbytes(size))


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__("faulty", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        if name is None:  # a temporary file: nobody misses it
            return apsw.VFSFile("unix", name, flags)
        return _File(self._disk, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename, flags: list[int]) -> None:
        self._disk = disk
        self.path = Path(name if isinstance(name, str) else name.filename())
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.write(self, bytes(data), offset)

    def xSync(self, flags: int) -> None:
        self._disk.sync(self, flags)

    def xTruncate(self, newsize: int) -> None:
        self._disk.truncate(self, newsize)

    def really_write(self, data: bytes, offset: int) -> None:
        if data:
            super().xWrite(data, offset)

    def really_sync(self, flags: int) -> None:
        super().xSync(flags)

    def really_truncate(self, size: int) -> None:
        super().xTruncate(size)


def _part(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
