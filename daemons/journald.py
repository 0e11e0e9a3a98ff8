"""Log records for systemd's journal, with fields: `journalctl REQUEST_ID=...` is the story of a turn.

The journal's native protocol is a datagram of NAME=value lines (systemd's JOURNAL_NATIVE_PROTOCOL). Where stderr is
not the journal, records stay the lines they are.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ipc.marks import Mark, Note, Stage
from ipc.text import printable

SOCKET = Path("/run/systemd/journal/socket")

READY = "06ef0be434cb42cd814009b5b5c02b54"
STOPPING = "ddc1142fd1ed4b79a2f939782fbfd1ad"
RELOADED = "66c86211660248de9aef6c37fb06c2b2"
REFUSED = "ffc801039b714b5c9a64f5279602b5b2"
FAILED = "704cd9874b8c4e9ea83e89eae090824b"
TURN = "ac9a5a116b5540e8ae5ab43fe4c18221"
STAGE = "af533a211ee74b43b43272c241a42400"
NOTE = "faadbe37a3ac4871a7c232640c09ece4"
"""MESSAGE_IDs: what kind of record it is, whatever its words (docs/systemd.md lists them)."""

_FIELDS = ("message_id", "request_id")
_DEBUG, _INFO = 7, 6
_QUIET = frozenset({Stage.SENT, Stage.RECEIVED})
"""Every hop has these; `timmy latency show` shows them."""


def about(message_id: str = "", rid: bytes = b"") -> dict[str, str]:
    """For a record's `extra`: what kind it is and of which request."""
    return {"message_id": message_id, "request_id": rid.hex()}


def stderr_is_journal(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether systemd has connected stderr to the journal (JOURNAL_STREAM, systemd.exec(5))."""
    info = os.fstat(sys.stderr.fileno())
    return environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"


class JournalHandler(logging.Handler):
    """Sends records and the stages of turns to the journal. What it does not take goes to stderr, as a line."""

    def __init__(self, daemon: str, path: Path = SOCKET) -> None:
        super().__init__()
        self._daemon = daemon
        self._path = path
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        fields = {
            "MESSAGE": "\n".join(printable(line) for line in self.format(record).split("\n")),
            "PRIORITY": str(_priority(record.levelno)),
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
        }
        self._send(fields | {name.upper(): str(getattr(record, name, "")) for name in _FIELDS})

    def marked(self, marks: Iterable[Mark], notes: Iterable[Note]) -> None:
        """Stages of turns, in the words of `ipc.marks`; T_NS is when (monotonic), ARG its number."""
        for rid, stage, t_ns, arg in marks:
            if stage not in _QUIET:
                name = Stage(stage).name.lower()
                told = {"STAGE": name, "T_NS": str(t_ns), "ARG": str(arg), "MESSAGE": f"{name} {arg}" if arg else name}
                self._send(told | _kind(STAGE, rid))
        for note in notes:
            self._send({"MESSAGE": f"{note.key}: {printable(note.text)}", **_kind(NOTE, note.rid)})

    def _send(self, fields: Mapping[str, str]) -> None:
        own = {"DAEMON": self._daemon, "SYSLOG_IDENTIFIER": f"timmy-{self._daemon}"}
        data = b"".join(_field(name, value) for name, value in (own | dict(fields)).items() if value)
        try:
            self._channel.sendto(data, str(self._path))
        except OSError:
            print(f"{self._daemon}: {fields['MESSAGE']}", file=sys.stderr)

    def close(self) -> None:
        self._channel.close()
        super().close()


def _kind(message_id: str, rid: bytes) -> dict[str, str]:
    return {"MESSAGE_ID": message_id, "REQUEST_ID": rid.hex(), "PRIORITY": str(_DEBUG)}


def _field(name: str, value: str) -> bytes:
    """A value of several lines goes with its length."""
    data = value.encode("utf-8", "replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"


def _priority(level: int) -> int:
    """Of syslog(3)."""
    steps = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, _INFO))
    return next((priority for least, priority in steps if level >= least), _DEBUG)
