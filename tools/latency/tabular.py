"""Turns as CSV, a row each, and as JSON with everything that is known of them; and such JSON read back."""

from __future__ import annotations

import csv
import io
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from ipc.errors import EXIT_NO_INPUT, TimmyError
from ipc.text import printable
from tools.latency.exporting import utc
from tools.latency.reading import Losses
from tools.latency.stages import NAMES
from tools.latency.turns import Turn, hops

JSON_VERSION = 1
"""Raised when a reader of the older form would misread it; new fields alone do not raise it."""

COLUMNS = (
    *("rid", "begun", "conversation", "typed", "outcome", "complete", "first_audio_ms"),
    *(f"{name}_ms" for name in NAMES),
    *("words", "memories", "prompt_tokens", "cached_tokens", "missing", "heard"),
)

_FORMULA = tuple("=+-@＝＋－＠")
"""What spreadsheets take for the beginning of a formula."""


class ExportError(TimmyError):
    """A file that is no JSON export."""

    exit_status = EXIT_NO_INPUT


class Row(msgspec.Struct, frozen=True):
    """What `read_json` gives of a turn: what statistics ask of a `turns.Turn`, under its names; `rid` in hex."""

    rid: str
    begun_s: float
    conversation: str
    typed: bool
    outcome: str
    complete: bool
    first_audio_ms: float | None
    shares: dict[str, float] = msgspec.field(name="shares_ms")

    def shares_ms(self) -> dict[str, float]:
        """As of a Turn: each of NAMES and its share of `first_audio_ms`."""
        return {name: self.shares[name] for name in NAMES}


class _Version(msgspec.Struct, frozen=True):
    version: int


class _Document(msgspec.Struct, frozen=True):
    turns: list[Row]


def write_csv(turns: Iterable[Turn], file: IO[bytes]) -> int:
    """Writes COLUMNS and a row a turn, UTF-8, and returns how many. What is not known is an empty cell."""
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for turn in turns:
        count += 1
        writer.writerow(_cells(turn))
    text.detach()
    return count


def _cells(turn: Turn) -> Iterator[object]:
    yield turn.rid.hex()
    yield utc(turn).isoformat(timespec="milliseconds")
    yield harmless(turn.conversation)
    yield int(turn.typed)
    yield turn.outcome
    yield int(turn.complete)
    sounded = turn.first_audio_ms is not None
    yield f"{turn.first_audio_ms:.3f}" if sounded else None
    for share in turn.shares_ms().values():
        yield f"{share:.3f}" if sounded else None
    yield from (turn.words, turn.memories, turn.prompt_tokens, turn.cached_tokens)
    yield " ".join(turn.missing)
    yield harmless(turn.heard)


def harmless(text: str) -> str:
    """The text on one line, with an apostrophe before it where a spreadsheet would take it for a formula."""
    line = printable(text)
    return f"'{line}" if line.lstrip().startswith(_FORMULA) else line


def write_json(turns: Iterable[Turn], losses: Losses, file: IO[bytes]) -> int:
    """Writes one document, a turn a line, and returns how many are in it. One turn is held at a time."""
    count = 0
    file.write(b'{"version":%d,"turns":[' % JSON_VERSION)
    for turn in turns:
        file.write(b",\n" if count else b"\n")
        file.write(msgspec.json.encode(_everything(turn)))
        count += 1
    file.write(b'\n],"losses":' + msgspec.json.encode(losses.lines()) + b"}\n")
    return count


def _everything(turn: Turn) -> dict[str, Any]:
    """Times are ms after `begun_s`."""

    def at_ms(t_ns: int) -> float:
        return (t_ns - turn.origin_ns) / 1e6

    return {
        "rid": turn.rid.hex(),
        "host": turn.host.hex(),
        "begun": utc(turn).isoformat(timespec="milliseconds"),
        "begun_s": turn.begun_s,
        "conversation": turn.conversation,
        "typed": turn.typed,
        "outcome": turn.outcome,
        "complete": turn.complete,
        "first_audio_ms": turn.first_audio_ms,
        "shares_ms": turn.shares_ms(),
        "words": turn.words,
        "memories": turn.memories,
        "prompt_tokens": turn.prompt_tokens,
        "cached_tokens": turn.cached_tokens,
        "missing": turn.missing,
        "heard": turn.heard,
        "spans": [
            {
                "stage": span.stage,
                "daemon": span.daemon,
                "to_daemon": span.to_daemon,
                "start_ms": at_ms(span.start_ns),
                "end_ms": at_ms(span.end_ns),
                "share_ms": span.share_ns / 1e6,
            }
            for span in turn.spans
        ],
        "hops": [
            {
                "sender": hop.sender,
                "receiver": hop.receiver,
                "sent_ms": at_ms(hop.sent_ns),
                "received_ms": at_ms(hop.received_ns),
            }
            for hop in hops(turn)
        ],
        "marks": [
            {"at_ms": at_ms(mark.t_ns), "daemon": mark.daemon, "stage": mark.stage.name.lower(), "arg": mark.arg}
            for mark in turn.marks
        ],
    }


def read_json(path: Path) -> Iterator[Row]:
    """The turns of an export, in its order. Raises ExportError when it is none, before the first one."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            version = msgspec.json.decode(content, type=_Version).version
            if version > JSON_VERSION:
                raise ExportError(f"{path}: written by a newer version of Timmy (version {version})")
            rows = msgspec.json.decode(content, type=_Document).turns
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors; so is an empty file
        raise ExportError(f"{path}: not what `timmy latency export --json` writes: {error}") from None
    if strange := next((row for row in rows if set(row.shares) != set(NAMES)), None):
        raise ExportError(f"{path}: turn {strange.rid} has other stages than this version of Timmy")
    return iter(rows)
