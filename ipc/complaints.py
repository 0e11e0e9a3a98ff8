"""What peers do wrong, in the log, without letting them fill it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ipc import limits

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    said_s: float
    held: int = 0
    latest: str = ""


class Complaints:
    """Those of one daemon. The first about somebody is a line at once; what follows is counted, and told in a line
    after COMPLAINT_INTERVAL_S. `now_s` is a clock that does not go back."""

    def __init__(self, daemon: str) -> None:
        self._daemon = daemon
        self._entries: dict[str, _Entry] = {}

    def add(self, who: str, sentence: str, now_s: float) -> None:
        """`who` is the same for all connections of a process: one that comes back is no stranger."""
        entry = self._entries.get(who)
        if entry is None:
            self._make_room(now_s)
            self._entries[who] = _Entry(now_s)
            log.warning("%s: %s", self._daemon, sentence)
            return
        entry.held += 1
        entry.latest = sentence
        if now_s - entry.said_s >= limits.COMPLAINT_INTERVAL_S:
            self._tell(entry, now_s)

    def look(self, now_s: float) -> bool:
        """Tells what was held back long enough, and forgets who has behaved for CLIENT_SILENCE_S. To be called now and
        then, as long as there is somebody whom it has not forgotten: which it returns."""
        for who, entry in list(self._entries.items()):
            if now_s - entry.said_s < limits.COMPLAINT_INTERVAL_S:
                continue
            if entry.held:
                self._tell(entry, now_s)
            elif now_s - entry.said_s >= limits.CLIENT_SILENCE_S:
                del self._entries[who]
        return bool(self._entries)

    def close(self) -> None:
        """Tells all that was held back."""
        for entry in self._entries.values():
            if entry.held:
                self._tell(entry, entry.said_s)
        self._entries.clear()

    def _tell(self, entry: _Entry, now_s: float) -> None:
        log.warning("%s: %s (the latest of %d more)", self._daemon, entry.latest, entry.held)
        entry.said_s, entry.held = now_s, 0

    def _make_room(self, now_s: float) -> None:
        if len(self._entries) >= limits.PEERS_MAX:
            oldest = min(self._entries, key=lambda who: self._entries[who].said_s)
            entry = self._entries.pop(oldest)
            if entry.held:
                self._tell(entry, now_s)
