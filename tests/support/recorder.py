"""A marker that a test can look into."""

from __future__ import annotations

import time

from ipc.marks import Mark, Marker, Note, Stage


class Recorder(Marker):
    """Keeps the marks in the order in which they were made."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.notes: list[Note] = []

    def mark(self, rid: bytes, stage: Stage, t_ns: int | None = None, arg: int = 0) -> None:
        self.marks.append(Mark(rid, stage, time.monotonic_ns() if t_ns is None else t_ns, arg))

    def note(self, rid: bytes, key: str, text: str) -> None:
        self.notes.append(Note(rid, key, text))

    def of(self, rid: bytes) -> list[Mark]:
        return [mark for mark in self.marks if mark.rid == rid]

    def told(self, rid: bytes) -> list[tuple[Stage, int]]:
        """Stage and argument of each mark of a request."""
        return [(mark.stage, mark.arg) for mark in self.of(rid)]
