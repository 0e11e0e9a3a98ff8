"""The database of the memories: how each version is made from the one before."""

from __future__ import annotations

APPLICATION_ID = 0x54694D65
"""Marks the file as ours (sqlite3 PRAGMA application_id)."""

MIGRATIONS = (
    """
    CREATE TABLE memory (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        text TEXT NOT NULL,
        same_key TEXT NOT NULL UNIQUE,
        importance INTEGER NOT NULL CHECK (importance BETWEEN 0 AND 5),
        told_s REAL NOT NULL
    ) STRICT;
    CREATE TABLE embedder (
        name TEXT NOT NULL,
        dimensions INTEGER NOT NULL
    ) STRICT;
    CREATE VIRTUAL TABLE memory_fts USING fts5 (
        text, content = 'memory', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
    );
    INSERT INTO memory_fts (memory_fts, rank) VALUES ('secure-delete', 1);
    CREATE TRIGGER memory_added AFTER INSERT ON memory BEGIN
        INSERT INTO memory_fts (rowid, text) VALUES (new.id, new.text);
    END;
    CREATE TRIGGER memory_removed AFTER DELETE ON memory BEGIN
        INSERT INTO memory_fts (memory_fts, rowid, text) VALUES ('delete', old.id, old.text);
    END;
    CREATE TRIGGER memory_changed AFTER UPDATE OF text ON memory BEGIN
        INSERT INTO memory_fts (memory_fts, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO memory_fts (rowid, text) VALUES (new.id, new.text);
    END;
    """,
)
"""MIGRATIONS[n] makes version n + 1 (PRAGMA user_version) of version n; version 0 is an empty file."""

VERSION = len(MIGRATIONS)


def vectors(dimensions: int) -> str:
    """Makes the empty table of vectors. Its width depends on the embedder, so it is no migration."""
    return f"""
    DROP TABLE IF EXISTS memory_vec;
    CREATE VIRTUAL TABLE memory_vec USING vec0 (
        embedding float[{dimensions}] distance_metric = cosine, chunk_size = 256
    );
    """
