"""A small disk of its own for daemons, which can be filled: a tmpfs in a mount namespace that ends with the harness."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from ipc.errors import TimmyError

_READY = "mounted"
_CHUNK = bytes(65_536)


class DiskError(TimmyError):
    """There can be no small disk here."""


class SmallDisk:
    """A context manager: whoever is started by `entering` sees a disk of `size` bytes at `folder`; nobody else does."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        # Only root may mount; anybody may in a namespace in which he is root.
        self._own_users = os.geteuid() != 0

    def __enter__(self) -> Self:
        """Raises DiskError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        script = f'mount -t tmpfs -o size={self._size},mode=700 tmpfs "$0" && echo {_READY} && exec cat'
        users = ["--user", "--map-root-user"] if self._own_users else []
        self._holder = subprocess.Popen(
            ["unshare", *users, "--mount", "sh", "-c", script, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline().strip() != _READY:
            _, reason = self._holder.communicate()
            raise DiskError(f"no disk can be mounted here ({reason.strip()}): run as root, or allow user namespaces")
        return self

    def __exit__(self, *exc: object) -> None:
        self._holder.communicate()  # its input ends, and so does it

    @property
    def entering(self) -> Sequence[str]:
        """What goes before a command."""
        users = ["--user", "--preserve-credentials"] if self._own_users else []
        return ["nsenter", "--target", str(self._holder.pid), *users, "--mount", "--wd=."]

    @property
    def seen(self) -> Path:
        """Where the folder on that disk is for those outside."""
        return Path(f"/proc/{self._holder.pid}/root{self._folder}")

    def fill(self) -> None:
        """Not a byte more can be written."""
        with (self.seen / "ballast").open("ab", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(_CHUNK)

    def free(self) -> None:
        (self.seen / "ballast").unlink(missing_ok=True)

    def lock(self) -> None:
        """No file can be opened for writing, nor made or removed; what is open already can be written."""
        self._in_it('mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"')

    def unlock(self) -> None:
        """After each `lock` once."""
        self._in_it('umount --lazy "$0"')

    def _in_it(self, script: str) -> None:
        """Raises DiskError."""
        users = ["--user"] if self._own_users else []
        enter = ["nsenter", "--target", str(self._holder.pid), *users, "--mount"]
        done = subprocess.run([*enter, "sh", "-c", script, str(self._folder)], capture_output=True, text=True)
        if done.returncode:
            raise DiskError(f"the disk cannot be changed: {done.stderr.strip()}")
