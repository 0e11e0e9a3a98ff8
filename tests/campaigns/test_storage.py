"""The campaigns against what is stored find what they look for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from daemons.dialog import journal as journal_module
from daemons.dialog.effects import Store as Promise
from daemons.dialog.journal import Journal
from daemons.memory.store import Store
from tests.campaigns import journal, store


class _Lazy(Store):
    """Leaves it to the kernel when rows reach the disk."""

    def _prepare(self) -> None:
        super()._prepare()
        self._writer.pragma("synchronous", "OFF")


class _Hasty(Store):
    """Two transactions for a row and its vector."""

    def store(self, text: str, same_key: str, importance: int, told_s: float, vector: Sequence[float]) -> int:
        id_: int = self._writer.execute(
            "INSERT INTO memory (text, same_key, importance, told_s) VALUES (?, ?, ?, ?) RETURNING id",
            (text, same_key, importance, told_s),
        ).get
        self._add_vector(id_, vector)
        return id_


class _Forgetful(Store):
    """Acknowledges a row that it has not written."""

    def store(self, text: str, same_key: str, importance: int, told_s: float, vector: Sequence[float]) -> int:
        if same_key.startswith("row17 "):
            return 17
        return super().store(text, same_key, importance, told_s, vector)


@pytest.mark.parametrize("planted", [_Lazy, _Hasty, _Forgetful])
def test_a_store_that_loses_rows_is_found(planted: type[Store]) -> None:
    with pytest.raises(AssertionError, match=r"cut Cut\(seed='1:\d+'"):
        store.run(60, 1, planted)


def _in_place(path: Path, entries: Iterable[Promise]) -> None:
    """Writes over the version before."""
    import msgspec

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for entry in entries:
            file.write(msgspec.json.encode(entry) + b"\n")
        file.flush()
        os.fdatasync(file.fileno())


def _unsynchronised(path: Path, entries: Iterable[Promise]) -> None:
    """Trusts that what is renamed is also on the disk."""
    _in_place(path.with_suffix(".half"), entries)
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(path.with_suffix(".half").read_bytes())
    fresh.replace(path)


class InPlace(Journal):
    def __init__(self, path: Path) -> None:
        journal_module._replace = _in_place
        super().__init__(path)


class Unsynchronised(Journal):
    def __init__(self, path: Path) -> None:
        journal_module._replace = _unsynchronised
        super().__init__(path)


class Hopeful(Journal):
    """Says that it is written when it has hardly begun."""

    async def written(self) -> None:
        """At once."""


@pytest.mark.parametrize("planted", [InPlace, Unsynchronised, Hopeful])
def test_a_journal_that_loses_promises_is_found(planted: type[Journal]) -> None:
    with pytest.raises(AssertionError, match=r"cut Cut\(seed='1:\d+'"):
        journal.run(60, 1, planted)
