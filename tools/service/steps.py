"""What installing and uninstalling do, one step after the other: shown first, then done."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ipc.errors import TimmyError


class StepError(TimmyError):
    """A step failed."""


@dataclass(frozen=True, slots=True)
class Write:
    path: Path
    text: str

    def __str__(self) -> str:
        return f"write   {self.path}"

    def do(self) -> None:
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = self.path.with_name(f".{self.path.name}.new")
        fresh.write_text(self.text, "utf-8")
        fresh.chmod(0o644)
        fresh.replace(self.path)


@dataclass(frozen=True, slots=True)
class Link:
    path: Path
    target: Path

    def __str__(self) -> str:
        return f"link    {self.path} -> {self.target}"

    def do(self) -> None:
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(self.target)


@dataclass(frozen=True, slots=True)
class Remove:
    """A file or link, and then the folders in `made` above it that are empty."""

    path: Path
    made: frozenset[Path] = frozenset()

    def __str__(self) -> str:
        return f"remove  {self.path}"

    def do(self) -> None:
        self.path.unlink(missing_ok=True)
        for folder in self.path.parents:
            if folder not in self.made or not folder.is_dir() or any(folder.iterdir()):
                return
            folder.rmdir()


@dataclass(frozen=True, slots=True)
class RemoveAll:
    """A folder and all in it."""

    path: Path

    def __str__(self) -> str:
        return f"remove  {self.path} and all in it"

    def do(self) -> None:
        if self.path.is_dir():
            shutil.rmtree(self.path)


@dataclass(frozen=True, slots=True)
class Run:
    """A command. With `lenient` its failure is no matter: what it ends is not there."""

    command: Sequence[str]
    lenient: bool = False
    environ: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"run     {' '.join([*(f'{name}={value}' for name, value in self.environ.items()), *self.command])}"

    def do(self) -> None:
        done = subprocess.run(
            self.command, env=os.environ | self.environ, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode and not self.lenient:
            said = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["without a word"]
            raise StepError(f"{' '.join(self.command)} failed: {said[-1]}")


Step = Write | Link | Remove | RemoveAll | Run


def missing_folders(paths: Iterable[Path]) -> frozenset[Path]:
    """The folders above some files that are not there yet: to be removed with them."""
    return frozenset(parent for path in paths for parent in path.parents if not parent.exists())
