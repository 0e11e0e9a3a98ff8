"""Recordings on disk: what was written is read, up to whatever damaged it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ipc.codec import Message, encode
from ipc.errors import EXIT_CANT_CREATE, EXIT_NO_INPUT
from ipc.ids import new_rid
from ipc.messages import Ask, Audio, Delta
from tools.recording import file as module
from tools.recording.file import MAGIC, DiskFailed, Entry, Gap, Recording, Unreadable, Unwritable, Writer

RID = new_rid()
SAID = Message(RID, 0, 1, 0, Ask(conversation="c", text="Where?"))
WROTE: list[Entry | Gap] = [
    Entry(10, "dialog", 1, "ask", True, False, encode(SAID)),
    Entry(20, "stt", 2, "talk", True, False, encode(Message(RID, 1, 1, 0, Audio(t_ns=5), b"\1\2" * 320))),
    Gap(30, "stt", "stt went away"),
    Entry(40, "dialog", 1, "ask", False, True, encode(Message(RID, 0, 1, 0, Delta(text="There.")))),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    writer = Writer(tmp_path / "a.rec", ["stt", "dialog"])
    for entry in WROTE:
        writer.write(entry)
    writer.close()
    assert writer.size == (tmp_path / "a.rec").stat().st_size
    return tmp_path / "a.rec"


def read(path: Path) -> tuple[list[Entry | Gap], str]:
    recording = Recording(path)
    return list(recording), recording.damage


def test_what_was_written_is_read(path: Path) -> None:
    recording = Recording(path)
    assert recording.header.daemons == ["stt", "dialog"]
    assert list(recording) == WROTE
    assert recording.damage == ""
    first = WROTE[0]
    assert isinstance(first, Entry)
    assert first.message == SAID


def test_only_its_owner_can_read_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_file_is_written_over(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(Unwritable, match="is there already") as raised:
        Writer(path, ["stt"])
    assert raised.value.exit_status == EXIT_CANT_CREATE
    assert path.read_bytes() == before
    with pytest.raises(Unwritable, match="No such file"):
        Writer(path.parent / "nowhere" / "a.rec", ["stt"])


def test_a_recording_of_nothing_leaves_no_file(tmp_path: Path) -> None:
    Writer(tmp_path / "a.rec", ["stt"]).close()
    assert list(tmp_path.iterdir()) == []


def test_cut_off_anywhere_it_is_read_up_to_there(path: Path) -> None:
    whole = path.read_bytes()
    ends: list[int] = []
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            entries, damage = read(path)
        except Unreadable:
            continue
        assert entries == WROTE[: len(entries)]
        if damage:
            assert damage == f"cut off at byte {ends[-1]}"
        else:
            ends.append(size)
    assert len(ends) == len(WROTE), "one cut behind the header and one behind each entry but the last"


def test_any_changed_byte_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        try:
            entries, damage = read(path)
        except Unreadable:
            continue
        assert damage
        assert entries == WROTE[: len(entries)]
        assert len(entries) < len(WROTE)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a recording"),
        (b"RIFF....WAVE", "not a recording"),
        (MAGIC, "damaged from its beginning"),
        (MAGIC + b"\xff" * 40, "damaged from its beginning"),
    ],
)
def test_what_is_no_recording(path: Path, content: bytes, says: str) -> None:
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=says) as raised:
        Recording(path)
    assert raised.value.exit_status == EXIT_NO_INPUT


def test_a_newer_format_is_not_guessed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "FORMAT_VERSION", 2)
        writer = Writer(tmp_path / "a.rec", [])
        writer.write(WROTE[0])
        writer.close()
    with pytest.raises(Unreadable, match="written by a newer version of Timmy"):
        Recording(tmp_path / "a.rec")


def test_an_entry_that_is_no_message_is_damage(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a.rec", ["stt"])
    writer.write(WROTE[0])
    writer.write(Entry(1, "stt", 1, "", True, False, [b"no message"]))
    writer.write(WROTE[0])
    writer.close()
    entries, damage = read(tmp_path / "a.rec")
    assert entries == WROTE[:1]
    assert damage.startswith("damaged at byte")


@pytest.mark.parametrize("path", [".", "nowhere.rec"])
def test_what_cannot_be_opened(path: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"Is a directory|No such file"):
        Recording(tmp_path / path)


def test_a_disk_that_is_full_leaves_whole_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path / "a.rec", ["stt"])
    writer.write(WROTE[0])
    room = 7

    def write(fd: int, data: bytes, really: object = os.write) -> int:
        nonlocal room
        if room == 0:
            raise OSError(28, "No space left on device")
        assert callable(really)
        done = really(fd, data[:room])
        room = 0
        return int(done)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(DiskFailed, match="No space left on device; what it holds until now can be replayed"):
            writer.write(WROTE[1])
    writer.close()
    assert read(tmp_path / "a.rec") == (WROTE[:1], "")


def test_a_disk_without_any_room_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(DiskFailed, match=r"No space left on device$"):
            Writer(tmp_path / "a.rec", ["stt"])
    assert not (tmp_path / "a.rec").exists()
