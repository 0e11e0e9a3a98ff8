"""Trace marks: what is written is read back; what is lost, cut or damaged is named."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc import marks
from ipc.ids import BOOT_ID, new_rid
from ipc.marks import Mark, Marks, Note, Stage, trace_files
from ipc.traces import TraceError, TraceFile, read

RID = bytes(range(16))


@pytest.fixture(autouse=True)
def only_when_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drain thread writes when the test closes, not in between."""
    monkeypatch.setattr(marks, "DRAIN_S", 3600.0)


def write(folder: Path, *found: Mark) -> Path:
    """One file with these marks."""
    kept = Marks("llm", folder)
    for mark in found:
        kept.mark(*mark)
    kept.close()
    return trace_files(folder)[-1]


def sealed(payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


def some(count: int) -> list[Mark]:
    return [Mark(new_rid(), Stage(1 + n % len(Stage)), 10**15 + n, n) for n in range(count)]


def everything(folder: Path) -> list[TraceFile]:
    return [read(path) for path in trace_files(folder)]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    found = [*some(50), Mark(RID, Stage.SENT, -(2**63), -1), Mark(RID, Stage.SENT, 2**63 - 1, 2**63 - 1)]
    trace = read(write(tmp_path / "state" / "trace", *found))
    assert trace.marks == found
    assert (trace.lost, trace.unknown, trace.damage) == (0, 0, "")


def test_the_header_tells_who_and_when(tmp_path: Path) -> None:
    before = time.monotonic_ns(), time.time_ns()
    header = read(write(tmp_path, *some(1))).header
    assert (header.daemon, header.boot_id, header.pid, header.version) == (
        "llm",
        BOOT_ID,
        os.getpid(),
        marks.FORMAT_VERSION,
    )
    assert before[0] <= header.monotonic_ns <= time.monotonic_ns()
    assert before[1] <= header.realtime_ns <= time.time_ns()
    assert header.stages[int(Stage.FIRST_TOKEN)] == "first_token"
    assert header.host.hex() == Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")


def test_notes_lie_beside_the_marks(tmp_path: Path) -> None:
    kept = Marks("dialog", tmp_path)
    told = [Note(RID, "conversation", "home"), Note(RID, "heard", "Où est la clé? " * 100)]
    for note in told:
        kept.note(*note)
    kept.mark(RID, Stage.HEARD, 5, 4)
    kept.close()
    trace = read(trace_files(tmp_path)[0])
    assert (trace.notes, trace.marks) == (told, [Mark(RID, Stage.HEARD, 5, 4)])


def test_notes_without_end_are_counted_when_there_is_no_room(tmp_path: Path) -> None:
    kept = Marks("dialog", tmp_path)
    for number in range(300):
        kept.note(RID, "conversation", f"c{number}")
    kept.close()
    trace = read(trace_files(tmp_path)[0])
    assert len(trace.notes) + trace.lost == 300
    assert [note.text for note in trace.notes] == [f"c{number}" for number in range(len(trace.notes))]


def test_the_first_format_is_still_read(tmp_path: Path) -> None:
    header = {
        "version": 1,
        "daemon": "llm",
        "boot_id": RID,
        "pid": 7,
        "monotonic_ns": 3,
        "realtime_ns": 4,
        "stages": {11: "first_token"},
    }
    block = struct.pack("<I", 2) + struct.pack("<16sHqq", RID, 11, 5, 6)
    path = tmp_path / "old.marks"
    path.write_bytes(marks.MAGIC + sealed(msgspec.msgpack.encode(header)) + sealed(block))
    trace = read(path)
    assert (trace.marks, trace.notes, trace.lost) == ([Mark(RID, Stage.FIRST_TOKEN, 5, 6)], [], 2)
    assert trace.header.host == b""


def test_a_block_that_claims_to_be_huge_is_damage(tmp_path: Path) -> None:
    path = write(tmp_path, *some(2))
    whole = path.read_bytes()
    path.write_bytes(whole + struct.pack("<II", 2**32 - 1, 0) + bytes(100))
    assert (read(path).damage, len(read(path).marks)) == (f"cut off at byte {len(whole)}", 2)
    path.write_bytes(whole + struct.pack("<II", 2**32 - 1, 0) + bytes(marks.BLOCK_MAX_BYTES + 100))
    assert (read(path).damage, len(read(path).marks)) == (f"damaged at byte {len(whole)}", 2)


def test_now_is_the_monotonic_clock(tmp_path: Path) -> None:
    kept = Marks("llm", tmp_path)
    before = time.monotonic_ns()
    kept.mark(RID, Stage.SENT)
    after = time.monotonic_ns()
    kept.close()
    assert before <= everything(tmp_path)[0].marks[0].t_ns <= after


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    path = write(tmp_path / "trace", *some(1))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_without_a_mark_there_is_no_file(tmp_path: Path) -> None:
    Marks("llm", tmp_path).close()
    assert trace_files(tmp_path) == []


def test_marks_are_written_while_the_daemon_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "DRAIN_S", 0.001)
    kept = Marks("llm", tmp_path)
    kept.mark(RID, Stage.SENT, 7)
    for _ in range(20_000):
        if trace_files(tmp_path) and everything(tmp_path)[0].marks:
            break
        time.sleep(0.001)
    assert everything(tmp_path)[0].marks == [Mark(RID, Stage.SENT, 7, 0)]
    kept.close()


def test_from_many_threads(tmp_path: Path) -> None:
    kept = Marks("llm", tmp_path)

    def work(number: int) -> None:
        for n in range(500):
            kept.mark(RID, Stage.SENT, n, number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept.close()
    (trace,) = everything(tmp_path)
    for number in range(8):
        assert [mark.t_ns for mark in trace.marks if mark.arg == number] == list(range(500))


def test_a_full_ring_counts_what_it_loses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "RING_MARKS", 100)
    found = some(130)
    trace = read(write(tmp_path, *found))
    assert (trace.marks, trace.lost) == (found[:100], 30)


def test_a_number_that_fits_no_mark_is_lost_alone(tmp_path: Path) -> None:
    good = Mark(RID, Stage.SENT, 1, 2)
    trace = read(write(tmp_path, good, good._replace(arg=2**63), good._replace(t_ns=-(2**63) - 1), good))
    assert (trace.marks, trace.lost) == ([good, good], 2)


def test_what_comes_after_the_end_does_no_harm(tmp_path: Path) -> None:
    kept = Marks("llm", tmp_path)
    kept.close()
    kept.mark(RID, Stage.SENT)
    assert trace_files(tmp_path) == []


def test_a_folder_that_cannot_be_is_told_once_and_the_loss_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "trace"
    folder.write_text("a file in the way")
    kept = Marks("llm", folder)
    for mark in some(3):
        kept.mark(*mark)
    kept._drain()
    kept._drain()
    assert caplog.text.count("trace marks cannot be kept") == 1
    folder.unlink()
    last = Mark(RID, Stage.SENT, 5, 6)
    kept.mark(*last)
    kept.close()
    (trace,) = everything(folder)
    assert (trace.marks, trace.lost) == ([last], 3)


def test_a_disk_that_fills_up_leaves_no_half_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, during, after = some(3), some(4), some(5)
    kept = Marks("llm", tmp_path)
    real = os.write
    for found, room in ((before, None), (during, 50), (after, None)):
        if room is None:
            monkeypatch.setattr(os, "write", real)
        else:
            monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:50]))
        for mark in found:
            kept.mark(*mark)
        kept._drain()
    kept.close()
    (trace,) = everything(tmp_path)
    assert (trace.marks, trace.lost, trace.damage) == (before + after, 4, "")


def test_a_disk_too_full_for_a_header_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Marks("llm", tmp_path)
    with monkeypatch.context() as full:
        real = os.write
        full.setattr(os, "write", lambda fd, data: real(fd, data[:20]))
        kept.mark(RID, Stage.SENT, 1)
        kept._drain()
    assert list(tmp_path.iterdir()) == []
    kept.mark(RID, Stage.SENT, 2)
    kept.close()
    (trace,) = everything(tmp_path)
    assert ([mark.t_ns for mark in trace.marks], trace.lost) == ([2], 1)


def test_a_file_that_was_removed_is_followed_by_another(tmp_path: Path) -> None:
    kept = Marks("llm", tmp_path)
    kept.mark(RID, Stage.SENT, 1)
    kept._drain()
    trace_files(tmp_path)[0].unlink()
    kept.mark(RID, Stage.SENT, 2)
    kept.close()
    assert [mark.t_ns for trace in everything(tmp_path) for mark in trace.marks] == [2]


def test_a_large_file_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "FILE_MAX_BYTES", 3000)
    kept = Marks("llm", tmp_path)
    found = some(500)
    for start in range(0, 500, 50):
        for mark in found[start : start + 50]:
            kept.mark(*mark)
        kept._drain()
    kept.close()
    traces = everything(tmp_path)
    assert len(traces) > 3
    assert [mark for trace in traces for mark in trace.marks] == found
    assert len({trace.header.boot_id for trace in traces}) == 1


def test_the_oldest_files_make_room_and_the_cap_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "FILE_MAX_BYTES", 2000)
    monkeypatch.setattr(marks, "CAP_BYTES", 40_000)
    writers = [Marks(daemon, tmp_path) for daemon in ("stt", "llm")]
    sizes = []
    for start in range(200):
        for kept in writers:
            for n in range(20):
                kept.mark(RID, Stage.SENT, start, n)
            kept._drain()
        sizes.append(sum(path.stat().st_size for path in trace_files(tmp_path)))
    for kept in writers:
        kept.close()
    assert 20_000 < max(sizes) <= 40_000
    kept_t = sorted({mark.t_ns for trace in everything(tmp_path) for mark in trace.marks})
    assert kept_t == list(range(kept_t[0], 200)), "what is left is the end, without a gap"


def test_a_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.marks"
    kept = Marks("llm", tmp_path / "trace")
    found = some(9)
    for mark in found:
        kept.mark(*mark)
        kept._drain()
    kept.close()
    whole = trace_files(tmp_path / "trace")[0].read_bytes()
    counts: list[int] = []
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            trace = read(path)
        except TraceError:
            assert not counts, "once the header is whole it stays so"
            continue
        assert trace.marks == found[: len(trace.marks)]
        assert trace.damage or size == len(whole) - (9 - len(trace.marks)) * (8 + 8 + 34)
        counts.append(len(trace.marks))
    assert counts == sorted(counts)
    assert set(counts) == set(range(9))


def test_a_change_of_any_byte_gives_no_wrong_mark(tmp_path: Path) -> None:
    found = some(4)
    whole = write(tmp_path, *found).read_bytes()
    path = tmp_path / "changed"
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            trace = read(path)
        except TraceError:
            continue
        assert trace.damage
        assert trace.marks == []


def test_what_follows_damage_is_not_trusted(tmp_path: Path) -> None:
    path = write(tmp_path, *some(2))
    whole = path.read_bytes()
    for tail in (bytes(100), b"\xff" * 100, sealed(b"")):
        path.write_bytes(whole + tail)
        assert read(path).damage in (f"damaged at byte {len(whole)}", f"cut off at byte {len(whole)}")
        assert len(read(path).marks) == 2


def test_stages_of_another_version_are_counted(tmp_path: Path) -> None:
    header = read(write(tmp_path, *some(1))).header
    header = msgspec.structs.replace(header, stages={1: "first_token", 2: "telepathy"})
    block = struct.pack("<II", 7, 0) + b"".join(struct.pack("<16sHqq", RID, stage, 5, 6) for stage in (1, 2, 3))
    path = tmp_path / "other.marks"
    path.write_bytes(marks.MAGIC + sealed(msgspec.msgpack.encode(header)) + sealed(block))
    trace = read(path)
    assert trace.marks == [Mark(RID, Stage.FIRST_TOKEN, 5, 6)], "by name, whatever its number was"
    assert (trace.unknown, trace.lost) == (2, 7)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "not a file of trace marks"),
        (b"RIFF....WAVE", "not a file of trace marks"),
        (marks.MAGIC, "damaged from its beginning"),
        (marks.MAGIC + sealed(msgspec.msgpack.encode({"version": 3})), "newer version of Timmy"),
        (marks.MAGIC + sealed(msgspec.msgpack.encode({"version": 1})), "its header cannot be read"),
        (marks.MAGIC + sealed(msgspec.msgpack.encode([1, 2, 3])), "its header cannot be read"),
        (marks.MAGIC + sealed(b"\xa4\xff\xff\xff\xff"), "its header cannot be read"),
    ],
)
def test_what_is_no_file_of_marks(tmp_path: Path, data: bytes, detail: str) -> None:
    path = tmp_path / "x.marks"
    path.write_bytes(data)
    with pytest.raises(TraceError, match=detail):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"gone\.marks: No such file"):
        read(tmp_path / "gone.marks")


@given(st.binary(max_size=300), st.booleans(), st.sampled_from([1, 2]))
def test_garbage_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, framed: bool, version: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage"
    header = msgspec.msgpack.encode(marks.Header(version, "llm", RID, 1, 2, 3, {1: "sent"}))
    path.write_bytes(marks.MAGIC + sealed(header) + (sealed(data) if framed else data))
    trace = read(path)
    assert all(isinstance(mark, Mark) for mark in trace.marks)


def test_it_needs_neither_sockets_nor_an_event_loop() -> None:
    script = "import sys, ipc.traces; print([name for name in ('zmq', 'asyncio', 'socket') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
