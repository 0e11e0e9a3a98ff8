"""Records as the journal gets them, read from a socket that stands in its place."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.journald import STAGE, TURN, JournalHandler, about, stderr_is_journal
from ipc.marks import Mark, Marks, Note, Stage

RID = bytes(range(16))


class Journal:
    """Where systemd's journal would listen."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(20)
        self._socket.bind(str(path))

    def next(self) -> dict[str, str]:
        fields, data = {}, self._socket.recv(65536)
        while data:
            line, _, rest = data.partition(b"\n")
            if b"=" in line:
                fields[line.partition(b"=")[0].decode()] = line.partition(b"=")[2].decode()
                data = rest
            else:
                size = int.from_bytes(rest[:8], "little")
                fields[line.decode()] = rest[8 : 8 + size].decode()
                data = rest[8 + size + 1 :]
        return fields

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / "socket")
    yield found
    found.close()


@pytest.fixture
def log(journal: Journal) -> Iterator[logging.Logger]:
    handler = JournalHandler("dialog", journal.path)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_a_record_bears_what_it_is_about(journal: Journal, log: logging.Logger) -> None:
    log.warning("turn %s over", 7, extra=about(TURN, RID))
    got = journal.next()
    wanted = {"MESSAGE": "turn 7 over", "DAEMON": "dialog", "SYSLOG_IDENTIFIER": "timmy-dialog", "PRIORITY": "4"}
    assert wanted.items() <= got.items()
    assert (got["MESSAGE_ID"], got["REQUEST_ID"]) == (TURN, RID.hex())
    assert got["CODE_FILE"] == __file__


def test_a_record_about_nothing_has_no_empty_fields(journal: Journal, log: logging.Logger) -> None:
    log.info("ready")
    assert not {"MESSAGE_ID", "REQUEST_ID", "STAGE"} & set(journal.next())


def test_a_text_of_several_lines_arrives_whole_and_makes_no_field_of_its_own(
    journal: Journal, log: logging.Logger
) -> None:
    log.error("first\nPRIORITY=0\nlast")
    got = journal.next()
    assert got["MESSAGE"] == "first\nPRIORITY=0\nlast"
    assert got["PRIORITY"] == "3"


def test_stages_of_a_turn_are_told_in_their_order(journal: Journal, tmp_path: Path) -> None:
    handler = JournalHandler("stt", journal.path)
    marks = Marks("stt", tmp_path / "trace", handler.marked)
    for stage, t_ns in ((Stage.RECEIVED, 1), (Stage.LAST_VOICED, 2), (Stage.TRANSCRIPT, 3)):
        marks.mark(RID, stage, t_ns, 5)
    marks.note(RID, "conversation", "home")
    marks.close()
    got = [journal.next() for _ in range(3)]
    assert [each.get("STAGE") for each in got] == ["last_voiced", "transcript", None]
    assert [each.get("T_NS") for each in got] == ["2", "3", None]
    assert {each["REQUEST_ID"] for each in got} == {RID.hex()}
    assert (got[0]["MESSAGE_ID"], got[0]["ARG"]) == (STAGE, "5")
    assert got[2]["MESSAGE"] == "conversation: home"
    handler.close()


def test_without_a_journal_a_record_is_a_line_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = JournalHandler("llm", tmp_path / "nobody")
    handler.marked([Mark(RID, Stage.ENDED, 1, 0)], [Note(RID, "heard", "a")])
    handler.close()
    assert capsys.readouterr().err == "llm: ended\nllm: heard: a\n"


LOOKING_FOR_DEVICES = """
import logging, os
from daemons.runtime import begin_log
begin_log("stt")
kept = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
logging.warning("heard meanwhile")
os.dup2(kept, 2)
logging.warning("and after it")
"""
"""What sounddevice does with the descriptor of stderr, for as long as PortAudio starts."""


def test_no_line_is_lost_while_devices_are_looked_for() -> None:
    run = [sys.executable, "-W", "error", "-c", LOOKING_FOR_DEVICES]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stderr == "stt: heard meanwhile\nstt: and after it\n"


def test_stderr_is_the_journal_when_systemd_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        info = os.fstat(stream.fileno())
        assert stderr_is_journal({"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"})
        assert not stderr_is_journal({"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino + 1}"})
        assert not stderr_is_journal({})
