"""Trace marks: when each stage of a request happened, kept in files under the state folder. traces.py reads them.

A mark costs a tuple in a ring; a thread writes them out. A file is MAGIC and blocks, a block its length, the
CRC-32 of its payload and the payload (both numbers unsigned, 32 bits, little-endian). The first payload is a
Header as msgpack; each other one is COUNTS (marks and notes lost before it, bytes of notes in it), the notes as a
msgpack list of [rid, key, text], and then the marks, MARK each. What could not be kept is counted in the next
block that can be written, never silent.

Format 1 had no notes and no `host`: its blocks begin with the lost marks alone.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from ipc.ids import BOOT_ID

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
MAGIC = b"TIMMYTRC"
SUFFIX = ".marks"

RING_MARKS = 16_384
"""Marks that wait to be written: 400 turns."""

DRAIN_S = 0.5
"""A crash loses at most so much."""

FILE_MAX_BYTES = 2 * 1024 * 1024
"""A file is followed by another beyond this (60,000 marks), so that old ones can be removed and each be read whole."""

CAP_BYTES = 64 * 1024 * 1024
"""All files of a folder together. The oldest are removed for a new one."""

_WRITERS = 5
"""Daemons that share a folder: so many files may grow at a time, so the cap holds room for them."""

_BLOCK_MARKS = 4096
_BLOCK_NOTES = 64
_RING_NOTES = 256
BLOCK_MAX_BYTES = 4 * 1024 * 1024
"""No block is longer: 64 notes of the longest text, and the marks."""
FRAME = struct.Struct("<II")
COUNTS = struct.Struct("<II")
MARK = struct.Struct("<16sHqq")


class Stage(IntEnum):
    """What a mark says happened. Files carry the names, so numbers may change. Without a word on it, `arg` is 0.

    Of what goes over the wire only requests and their terminals are marked, never an audio frame or a token, and
    none of what keeps a connection (`hello`, `ping`, `status`). PROTOCOL.md says where exactly each stage lies.
    """

    SPEECH_STARTED = 24  # stt: capture time of the first voiced sample
    LAST_VOICED = 1  # stt: capture time of the last voiced sample; arg: revision
    ENDPOINT_CANDIDATE = 2  # stt: a silence that may end the turn; arg: revision
    ENDPOINT_CONFIRMED = 3  # stt: the silence that ends it; arg: revision
    TRANSCRIPT = 4  # stt: the text of a revision is complete; arg: revision
    TEXT_SENT = 25  # stt: a candidate or a final goes to dialog; arg: revision
    HEARD = 26  # dialog: it has come, or a typed question; arg: its words
    RECALL_START = 5  # dialog: memory is asked
    RECALL_END = 6  # dialog: it has answered, or cannot; arg: memories
    PROMPT_BUILT = 7  # dialog: the prompt is made; arg: its messages
    STABLE_TOKENS = 31  # dialog: as PROMPT_BUILT; arg: tokens at its start that the model has read, 0: not known
    MODEL_SENT = 8  # dialog: the model is asked
    PROMPT_TOKENS = 9  # llm: the prompt has been read; arg: its tokens
    CACHED_TOKENS = 10  # llm: ... ; arg: those it had in its cache
    FIRST_TOKEN = 11  # llm: the model gave the first token of its answer
    TOKEN_RECEIVED = 27  # dialog: that token has come
    FIRST_CLAUSE = 12  # dialog: the first clause is whole
    CLAUSE_RECEIVED = 28  # tts: the first clause has come
    SYNTHESIS_START = 13  # tts: it begins to make the first clause's audio
    FIRST_AUDIO = 14  # tts: its first samples are made
    RELEASED = 30  # tts: what was held may sound
    PLAYBACK_STARTED = 15  # tts: playout time of the first sample at the device
    PLAYBACK_DRAINED = 16  # tts: playout time of the last one
    MEMORY_STORED = 17  # memory: what was said is kept; arg: the memory's id, 0 when it was not worth it
    MUTED = 18  # stt: capture time from which nothing is heard; arg: ms of the lease, 0: from then on it hears again
    RESUMED = 19  # stt: capture time of the first voiced sample after a candidate; arg: the revoked revision
    REVOKED = 20  # dialog: work on a revision is given up; arg: revision
    CANCELLED = 21  # dialog: the turn is given up
    ENDED = 29  # dialog: the turn is reported; arg: its outcome, a place in OUTCOMES
    SENT = 22  # any: a request or a terminal leaves; arg: the request's epoch
    RECEIVED = 23  # any: a request or a terminal has come; arg: the request's epoch


OUTCOMES = ("answered", "failed", "dropped", "cancelled")
"""How a turn ends (`ENDED`), in the words of `turn_report`."""


class Mark(NamedTuple):
    """`t_ns`: monotonic, of the host of the daemon that made it."""

    rid: bytes
    stage: Stage
    t_ns: int
    arg: int


class Note(NamedTuple):
    """A word about a request: its `conversation`, or what was `heard` where the configuration keeps it."""

    rid: bytes
    key: str
    text: str


class Header(msgspec.Struct, frozen=True):
    """First in each file. The two clocks were read at the same time; `stages` are the names of the numbers.

    `boot_id` is this run of the daemon, `host` the kernel's: monotonic times of one `host` can be compared."""

    version: int
    daemon: str
    boot_id: bytes
    pid: int
    monotonic_ns: int
    realtime_ns: int
    stages: dict[int, str]
    host: bytes = b""


class Marker:
    """Where marks go. Here they are forgotten."""

    def mark(self, rid: bytes, stage: Stage, t_ns: int | None = None, arg: int = 0) -> None:
        """`stage` of request `rid` happened at `t_ns` (monotonic), by default now. From any thread."""

    def note(self, rid: bytes, key: str, text: str) -> None:
        """A word about request `rid`, see Note. From any thread."""


NO_MARKS = Marker()


Told = Callable[[Sequence[Mark], Sequence[Note]], None]


class Marks(Marker):
    """Keeps the marks of one daemon. Never raises and never waits: what cannot be kept is counted as lost. `told`
    gets them, too, in the thread that writes them."""

    def __init__(self, daemon: str, directory: Path, told: Told | None = None) -> None:
        self._told = told
        self._ring: deque[tuple[bytes, int, int, int]] = deque()
        self._notes: deque[Note] = deque()
        self._room = RING_MARKS
        self._lost = 0
        self._lost_lock = threading.Lock()
        self._file = _File(daemon, directory)
        self._closing = threading.Event()
        self._something = threading.Event()
        self._asleep = False
        self._thread = threading.Thread(target=self._run, name="marks", daemon=True)
        self._thread.start()

    def mark(self, rid: bytes, stage: Stage, t_ns: int | None = None, arg: int = 0) -> None:
        if len(self._ring) >= self._room:
            self._lose(1)
            return
        self._ring.append((rid, stage, time.monotonic_ns() if t_ns is None else t_ns, arg))
        if self._asleep:
            self._wake()

    def note(self, rid: bytes, key: str, text: str) -> None:
        if len(self._notes) >= min(self._room, _RING_NOTES):
            self._lose(1)
            return
        self._notes.append(Note(rid, key, text))
        if self._asleep:
            self._wake()

    def _wake(self) -> None:
        self._asleep = False  # once is enough: the next marks need not
        self._something.set()

    def close(self) -> None:
        """Writes what there is. Marks after this are lost."""
        self._room = 0
        self._closing.set()
        self._something.set()
        self._thread.join()
        self._file.close()

    def _run(self) -> None:
        """Sleeps while there is nothing, and gathers for DRAIN_S from the first mark on."""
        while not self._closing.is_set():
            self._something.clear()
            self._asleep = True  # before it looks: who comes later sees it
            if not (self._waiting or self._closing.is_set()):
                self._something.wait()
            self._asleep = False
            self._closing.wait(DRAIN_S)
            self._drain()
        self._drain()  # what came between the last look and the end

    @property
    def _waiting(self) -> bool:
        return bool(self._ring or self._notes or self._lost)

    def _drain(self) -> None:
        while self._waiting:
            with self._lost_lock:
                lost, self._lost = self._lost, 0
            notes = [self._notes.popleft() for _ in range(min(len(self._notes), _BLOCK_NOTES))]
            packed, good = [], []
            for _ in range(min(len(self._ring), _BLOCK_MARKS)):
                mark = self._ring.popleft()
                try:
                    packed.append(MARK.pack(*mark))
                except struct.error:  # a number that no mark can carry
                    lost += 1
                else:
                    good.append(mark)
            if self._told is not None:
                self._told([Mark(rid, Stage(stage), t_ns, arg) for rid, stage, t_ns, arg in good], notes)
            words = msgspec.msgpack.encode(notes) if notes else b""
            if not self._file.write(COUNTS.pack(min(lost, 2**32 - 1), len(words)) + words + b"".join(packed)):
                self._lose(lost + len(packed) + len(notes))
                return

    def _lose(self, count: int) -> None:
        with self._lost_lock:
            self._lost += count


class _File:
    """The file that is being written. It is made with the first block, and bears its name once it has a header."""

    def __init__(self, daemon: str, directory: Path) -> None:
        self._daemon = daemon
        self._directory = directory
        self._fd = -1
        self._size = 0
        self._failing = False

    def write(self, payload: bytes) -> bool:
        """Appends a block. False when that is not possible; the file is then as before."""
        try:
            if self._fd < 0 or self._size > FILE_MAX_BYTES or os.fstat(self._fd).st_nlink == 0:
                self.close()
                self._open()
            self._append(_framed(payload))
        except OSError as error:
            if not self._failing:
                log.warning("trace marks cannot be kept in %s: %s", self._directory, error)
            self._failing = True
            return False
        self._failing = False
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(self._directory)
        monotonic_ns, realtime_ns = time.monotonic_ns(), time.time_ns()
        stages = {int(stage): stage.name.lower() for stage in Stage}
        header = Header(FORMAT_VERSION, self._daemon, BOOT_ID, os.getpid(), monotonic_ns, realtime_ns, stages, _host())
        path = self._directory / f"{realtime_ns:020d}-{self._daemon}{SUFFIX}"
        fresh = path.with_suffix(".new")
        self._fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = 0
        try:
            self._append(MAGIC + _framed(msgspec.msgpack.encode(header)))
            fresh.rename(path)
        except OSError:
            self.close()
            fresh.unlink(missing_ok=True)
            raise

    def _append(self, data: bytes) -> None:
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                raise OSError(f"only {written} of {len(data)} bytes could be written")
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)


def _host() -> bytes:
    """Names this run of the kernel, in which the monotonic clock counts."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", ""))


def trace_files(directory: Path) -> list[Path]:
    """The files of a folder, oldest first."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def _framed(payload: bytes) -> bytes:
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _make_room(directory: Path) -> None:
    """Removes the oldest files until those that are left can grow and stay under the cap."""
    sizes = {}
    for path in trace_files(directory):
        try:
            sizes[path] = path.stat().st_size
        except FileNotFoundError:  # another daemon was quicker
            continue
    excess = sum(sizes.values()) + _WRITERS * FILE_MAX_BYTES - CAP_BYTES
    for path, size in sizes.items():
        if excess <= 0:
            return
        path.unlink(missing_ok=True)
        excess -= size
