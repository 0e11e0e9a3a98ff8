"""What the preprocessor remembers: SQLite and sqlite-vec, as the memory daemon has them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import sqlite_vec


class Store:
    """Every utterance is stored, as it was there; only what is `kept` can be recalled."""

    def __init__(self, path: Path, dimensions: int) -> None:
        self._connection = apsw.Connection(str(path))
        self._connection.enable_load_extension(True)
        self._connection.load_extension(sqlite_vec.loadable_path())
        self._connection.enable_load_extension(False)
        self._connection.pragma("journal_mode", "WAL")
        self._connection.execute(
            f"""
            CREATE TABLE utterance (id INTEGER PRIMARY KEY, text TEXT NOT NULL, importance INTEGER NOT NULL);
            CREATE VIRTUAL TABLE vector USING vec0 (
                embedding float[{dimensions}] distance_metric = cosine, kept boolean
            );
            """
        )

    def add(self, text: str, importance: int, kept: bool, vector: Sequence[float]) -> None:
        """On the disk when it returns."""
        with self._connection:
            self._connection.execute("INSERT INTO utterance (text, importance) VALUES (?, ?)", (text, importance))
            id_ = self._connection.last_insert_rowid()
            self._connection.execute(
                "INSERT INTO vector (rowid, embedding, kept) VALUES (?, ?, ?)", (id_, _packed(vector), kept)
            )

    def nearest(self, vector: Sequence[float], limit: int) -> list[str]:
        """The texts kept that are nearest to `vector`, nearest first."""
        rows: list[Any] = self._connection.execute(
            "SELECT text FROM vector JOIN utterance ON utterance.id = vector.rowid"
            " WHERE embedding MATCH ? AND k = ? AND kept = 1 ORDER BY distance",
            (_packed(vector), limit),
        ).fetchall()
        return [text for (text,) in rows]

    def close(self) -> None:
        self._connection.close()


def _packed(vector: Sequence[float]) -> bytes:
    return struct.pack(f"{len(vector)}f", *vector)
