"""The memories on disk: SQLite in WAL mode, vectors by sqlite-vec, words by FTS5. One writer."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import apsw

from daemons.memory import schema
from daemons.memory.core import Hit
from daemons.memory.faults import explained, fault
from ipc.errors import Code
from ipc.messages import Memory

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]

_CANDIDATES = 20
"""Hits of each kind beyond what is asked for, so that merging has something to choose from."""

_BUSY_MS = 1000
"""How long another program's lock is waited for."""


class Store:
    """The open database. `store`, `forget` and `use_embedder` belong to one thread, `search` and `page` to another.

    What `store` and `forget` return is on the disk: synchronous=FULL, so neither a killed process nor a power
    failure undoes it (it costs 0.4 ms here, and nobody waits for it). All methods raise StoreError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with explained(path):
            _make_private(path)
            self._lock = _lock(path)
            try:
                self._writer = self._connect()
                self._check()
                self._prepare()
                self._reader = self._connect()
                self._reader.pragma("query_only", 1)
            except BaseException:
                os.close(self._lock)
                raise

    def close(self) -> None:
        """Leaves all in one file with an empty write-ahead log, if nothing stands in the way."""
        with explained(self._path):
            try:
                self._reader.close()
                with suppress(apsw.FullError):  # then the log stays, and loses nothing
                    self._merge_log()
            finally:
                self._writer.close()
                os.close(self._lock)

    # --- writing ---

    def use_embedder(self, name: str, dimensions: int, embed: Embed) -> int:
        """Vectors of another embedder are made anew, all or none. Returns how many."""
        with explained(self._path):
            if self._writer.execute("SELECT name, dimensions FROM embedder").get == (name, dimensions):
                return 0
            with self._writer:
                self._writer.execute(schema.vectors(dimensions))
                rows: list[Any] = self._writer.execute("SELECT id, text FROM memory").fetchall()
                for start in range(0, len(rows), 64):
                    part = rows[start : start + 64]
                    for (id_, _), vector in zip(part, embed([text for _, text in part]), strict=True):
                        self._add_vector(id_, vector)
                self._writer.execute("DELETE FROM embedder")
                self._writer.execute("INSERT INTO embedder VALUES (?, ?)", (name, dimensions))
        return len(rows)

    def store(self, text: str, same_key: str, importance: int, told_s: float, vector: Sequence[float]) -> int:
        """Its id. The same fact (by its key) is not stored twice: the one there is told anew and keeps its id."""
        with explained(self._path), self._writer:
            id_: int = self._writer.execute(
                "INSERT INTO memory (text, same_key, importance, told_s) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (same_key) DO UPDATE SET text = excluded.text, told_s = excluded.told_s,"
                " importance = max(importance, excluded.importance) RETURNING id",
                (text, same_key, importance, told_s),
            ).get
            self._writer.execute("DELETE FROM memory_vec WHERE rowid = ?", (id_,))
            self._add_vector(id_, vector)
        return id_

    def forget(self, ids: Sequence[int]) -> int:
        """Erases: the bytes are gone from the database and its log. Returns how many were there."""
        with explained(self._path):
            with self._writer:
                given = json.dumps(list(ids))
                gone = [
                    id_
                    for (id_,) in self._writer.execute(
                        "DELETE FROM memory WHERE id IN (SELECT value FROM json_each(?)) RETURNING id", (given,)
                    )
                ]
                for id_ in gone:
                    self._writer.execute("DELETE FROM memory_vec WHERE rowid = ?", (id_,))
            if not self._merge_log():
                raise apsw.BusyError("another program reads the write-ahead log")
        return len(gone)

    def _add_vector(self, id_: int, vector: Sequence[float]) -> None:
        self._writer.execute("INSERT INTO memory_vec (rowid, embedding) VALUES (?, ?)", (id_, _packed(vector)))

    def _merge_log(self) -> bool:
        """Empties the write-ahead log, which holds what was deleted, too. False: another program reads it."""
        [(busy, *_)] = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy

    # --- reading ---

    def search(self, vector: Sequence[float], words: Sequence[str], limit: int) -> list[Hit]:
        """Candidates by meaning and by words, in no order; `words` are counted as `Hit.words`."""
        packed, most = _packed(vector), limit + _CANDIDATES
        with explained(self._path), self._reader:
            near = self._ids("SELECT rowid FROM memory_vec WHERE embedding MATCH ? AND k = ?", packed, most)
            ids = json.dumps(sorted(near | self._with_words(words, most)))
            counts = [self._ids(_HAS_WORD, f'"{word}"', ids) for word in words]
            rows: list[Any] = self._reader.execute(_CANDIDATE_ROWS, (packed, ids)).fetchall()
        return [
            Hit(id_, text, grade, at, cosine, sum(id_ in found for found in counts))
            for id_, text, grade, at, cosine in rows
        ]

    def page(self, after_id: int, limit: int) -> tuple[list[Memory], int]:
        """Memories by id, and how many there are in all."""
        with explained(self._path), self._reader:
            rows: list[Any] = self._reader.execute(
                "SELECT id, text, importance, told_s FROM memory WHERE id > ? ORDER BY id LIMIT ?", (after_id, limit)
            ).fetchall()
            total: int = self._reader.execute("SELECT count(*) FROM memory").get
        return [Memory(id=id_, text=text, importance=grade, created_s=at) for id_, text, grade, at in rows], total

    def _with_words(self, words: Sequence[str], most: int) -> set[int]:
        """Quoted, so that no word is taken for an operator."""
        if not words:
            return set()
        query = " OR ".join(f'"{word}"' for word in words)
        return self._ids("SELECT rowid FROM memory_fts WHERE memory_fts MATCH ? ORDER BY rank LIMIT ?", query, most)

    def _ids(self, sql: str, *bindings: Any) -> set[int]:
        return {id_ for (id_,) in self._reader.execute(sql, bindings)}

    # --- opening ---

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path))
        connection.set_busy_timeout(_BUSY_MS)
        # A damaged database must not be written to, not even when it is closed.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.enable_load_extension(True)
        connection.load_extension(_vector_extension())
        connection.enable_load_extension(False)
        return connection

    def _check(self) -> None:
        """Raises StoreError unless this is a whole database of this program, or a new one."""
        version: int = self._writer.pragma("user_version")
        application: int = self._writer.pragma("application_id")
        if application != schema.APPLICATION_ID and self._writer.execute("SELECT count(*) FROM sqlite_schema").get:
            raise fault(Code.STORE_DAMAGED, self._path, "it belongs to another program")
        if version > schema.VERSION:
            raise fault(Code.STORE_NEWER, self._path, f"version {version}, this one knows {schema.VERSION}")
        if self._writer.readonly("main"):
            raise fault(Code.STORE_READ_ONLY, self._path, "no permission")
        finding: str = self._writer.execute("PRAGMA quick_check(1)").get
        if finding != "ok":
            raise fault(Code.STORE_DAMAGED, self._path, finding.splitlines()[-1])

    def _prepare(self) -> None:
        """Brings the database to the present version, all steps or none."""
        self._writer.pragma("journal_mode", "WAL")
        self._writer.pragma("synchronous", "FULL")
        self._writer.pragma("secure_delete", 1)
        version: int = self._writer.pragma("user_version")
        if version < schema.VERSION:
            with self._writer:
                for step in schema.MIGRATIONS[version:]:
                    self._writer.execute(step)
                self._writer.pragma("application_id", schema.APPLICATION_ID)
                self._writer.pragma("user_version", schema.VERSION)
        with suppress(apsw.FullError):  # what is in the log can be recalled from there
            self._merge_log()


_HAS_WORD = "SELECT rowid FROM memory_fts WHERE memory_fts MATCH ? AND rowid IN (SELECT value FROM json_each(?))"
_CANDIDATE_ROWS = (
    "SELECT memory.id, memory.text, importance, told_s, 1 - vec_distance_cosine(embedding, ?)"
    " FROM json_each(?) JOIN memory ON memory.id = value JOIN memory_vec ON memory_vec.rowid = value"
)


def _packed(vector: Sequence[float]) -> bytes:
    return struct.pack(f"{len(vector)}f", *vector)


def _make_private(path: Path) -> None:
    """The folder and the file are their owner's alone. What the owner may do with them is left as it is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(0o600)
    for place in (path.parent, path):
        mode = stat.S_IMODE(place.stat().st_mode)
        if mode & 0o077:
            place.chmod(mode & 0o700)


def _lock(path: Path) -> int:
    """Keeps a second writer out for as long as the descriptor stays open."""
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise fault(Code.STORE_LOCKED, path) from None
    return descriptor


def _vector_extension() -> str:
    """sqlite-vec's library. Its package is not imported for that: it would bring numpy along, which takes 100 ms."""
    found = find_spec("sqlite_vec")
    assert found is not None and found.origin is not None, "it is installed with this program"  # noqa: PT018
    return str(Path(found.origin).with_name("vec0"))
