"""Turns as they end: files that grow, rotate and vanish, and what `timmy latency watch` shows of them."""

from __future__ import annotations

import codecs
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.cells import cell_len

from ipc import marks
from ipc.marks import Stage, trace_files
from tests.support.traces import DELAYS, House
from tools.cli import EXIT_INTERRUPTED
from tools.latency.following import ABANDON_S, FORGET_S, SETTLE_S, Follower
from tools.latency.reading import Losses, read_turns
from tools.latency.turns import UNFINISHED
from tools.latency.watch import ROLLING, Board

ROOT = Path(__file__).parent.parent.parent
TOTAL_MS = sum(DELAYS.values())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


class Watched:
    """A follower of a house and its clock."""

    def __init__(self, house: House) -> None:
        house.flush()
        self.losses = Losses()
        self.follower = Follower(house.folder, self.losses)
        self.now_s = 1000.0

    def after(self, seconds: float) -> list[bytes]:
        """Whose turns are told so much later."""
        self.now_s += seconds
        return [turn.rid for turn in self.follower.poll(self.now_s)]


# --- following ---


def test_a_turn_is_told_once_when_it_has_ended(house: House) -> None:
    house.turn()
    watched = Watched(house)
    assert watched.after(FORGET_S) == [], "what was there before is passed over"
    one, two = house.turn(), house.turn({"recall": 77.0})
    house.flush()
    assert watched.after(0) == [], "the other daemons may have something to write"
    found = watched.follower.poll(watched.now_s + SETTLE_S)
    assert [turn.rid for turn in found] == [one, two]
    assert [turn.shares_ms() for turn in found] == [DELAYS, {**DELAYS, "recall": 77.0}]
    assert (found[0].conversation, found[0].complete) == ("home", True)
    assert watched.after(FORGET_S) == watched.after(ABANDON_S) == []


def test_it_looks_only_into_files_that_have_grown(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.turn()
    watched = Watched(house)
    opened: list[str] = []
    real = Path.open

    def counting(self: Path, *arguments: object, **named: object) -> object:
        opened.append(self.name)
        return real(self, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", counting)
    assert watched.after(1) == watched.after(1) == []
    assert opened == []
    house.turn(until=Stage.TEXT_SENT, outcome="")
    house.flush()
    watched.after(1)
    assert len(opened) == 1, "stt alone has written"


def test_a_turn_that_had_begun_before_is_adopted(house: House) -> None:
    rid = house.turn(outcome="", until=Stage.MODEL_SENT)
    watched = Watched(house)
    (begun,) = read_turns(house.folder, Losses())
    watched.follower.adopt(begun, watched.now_s)
    assert watched.after(FORGET_S) == []
    house.mark("llm", rid, Stage.RECEIVED, house.now_ns)
    house.mark("dialog", rid, Stage.ENDED, house.now_ns, 1)
    house.flush()
    watched.after(0)
    (turn,) = watched.follower.poll(watched.now_s + SETTLE_S)
    assert (turn.rid, turn.outcome, turn.words) == (rid, "failed", 6)
    assert turn.begun_s == pytest.approx(begun.begun_s)
    assert turn.missing[0] == "llm:first_token"


def test_what_comes_late_makes_it_told_again(house: House) -> None:
    watched = Watched(house)
    rid = house.turn(without={("memory", Stage.MEMORY_STORED)})
    ended_ns = house.now_ns
    house.flush()
    assert watched.after(0) + watched.after(SETTLE_S) == [rid]
    house.mark("memory", rid, Stage.MEMORY_STORED, ended_ns)
    house.flush()
    assert watched.after(1) + watched.after(SETTLE_S) == [rid]
    assert watched.after(FORGET_S) == []
    house.mark("memory", rid, Stage.MEMORY_STORED, ended_ns + 1)
    house.flush()
    assert watched.after(1) + watched.after(ABANDON_S + 1) == [], "by then it is forgotten, and this alone is no turn"


def test_a_turn_without_an_end_is_given_up(house: House) -> None:
    watched = Watched(house)
    house.turn(outcome="")
    house.flush()
    assert watched.after(0) + watched.after(ABANDON_S) == []
    (turn,) = watched.follower.poll(watched.now_s + 1)
    assert turn.outcome == UNFINISHED


def test_rotated_removed_and_new_files_are_noticed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "FILE_MAX_BYTES", 2000)
    watched = Watched(house)
    told: list[bytes] = []
    rids = []
    for number in range(12):
        rids.append(house.turn())
        if number == 6:
            house.restart("llm")
        house.flush()
        told += watched.after(0) + watched.after(SETTLE_S)
        if number % 4 == 3:
            for path in trace_files(house.folder):
                path.unlink()
    assert told == rids
    assert watched.losses.lines() == []


def test_a_block_that_is_just_being_written_is_waited_for(house: House) -> None:
    watched = Watched(house)
    rid = house.turn()
    house.flush()
    path = next(path for path in trace_files(house.folder) if "dialog" in path.name)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert watched.after(0) == []
    path.write_bytes(whole)
    assert watched.after(0) + watched.after(SETTLE_S) == [rid]
    assert watched.losses.lines() == []


def test_damage_that_stays_is_named_and_the_others_are_followed(house: House) -> None:
    (house.folder / "0-x.marks").write_text("rubbish")
    watched = Watched(house)
    (house.folder / "1-y.marks").write_text("rubbish")
    house.turn()
    house.lose("tts", 3)
    rid = house.turn()
    house.flush()
    cut = next(path for path in trace_files(house.folder) if "memory" in path.name)
    cut.write_bytes(cut.read_bytes()[:-1])
    assert rid in watched.after(0) + watched.after(SETTLE_S)
    watched.after(1)
    assert len(watched.losses.damaged) == 2, watched.losses
    damaged = sorted(watched.losses.damaged)
    assert f"{cut}: cut off at byte" in damaged[0]
    assert damaged[1].endswith("1-y.marks: not a file of trace marks")
    assert watched.losses.lost == 3


# --- what is shown ---


def board_of(house: House) -> Board:
    board = Board()
    for turn in read_turns(house.folder, Losses()):
        board.add(turn)
    return board


def test_the_board_has_the_last_turn_and_percentiles_of_the_last_fifty(house: House) -> None:
    for number in range(60):
        house.turn({"recall": 1000.0 if number < 10 else float(number)})
    house.turn(until=Stage.FIRST_TOKEN, outcome="cancelled")
    house.flush()
    board = board_of(house)
    assert (board.count, ROLLING) == (50, 50)
    assert board.last is not None
    assert board.last.outcome == "cancelled"
    assert board.quantiles("recall") == pytest.approx((34.5, 56.55))
    assert board.quantiles("endpoint") == (500.0, 500.0)


@pytest.mark.parametrize("width", [80, 200])
def test_the_board_fits_a_small_terminal(house: House, width: int) -> None:
    empty = [line.plain for line in Board().lines(width)]
    assert empty == ["no turn yet: say something"]
    for heard in ("Where is the key?", "鍵はどこですか。" * 30):
        house.turn({"unaccounted": 20.0}, heard=heard)
        house.flush()
        lines = [line.plain for line in board_of(house).lines(width)]
        assert len(lines) < 20
        assert all(cell_len(line) <= width for line in [lines[0], *lines[2:]])
        rows = {line.split()[0]: line.split()[1:] for line in lines[3:]}
        assert rows["endpoint"][0] == "500.0"
        assert rows["unaccounted"][0] == "20.0"
        assert rows["total"] == [f"{TOTAL_MS + 20:.1f}", "-", "-"]


@contextmanager
def watching(folder: Path, terminal: bool) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`timmy latency watch`, and where its output can be read."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-m", "tools.cli", "latency", "watch", "--trace", str(folder)]
    environ = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, env=environ) as process:
        os.close(writer)
        try:
            yield process, reader
        finally:
            process.kill()
            os.close(reader)


def read_until(reader: int, wanted: str) -> str:
    """What is printed until it has `wanted` in it, a pattern. Whoever runs the tests ends a vain wait."""
    text = ""
    decoder = codecs.getincrementaldecoder("utf-8")()
    while not re.search(wanted, text, re.DOTALL):
        text += decoder.decode(os.read(reader, 65_536))
    return text


@pytest.mark.parametrize("terminal", [True, False])
def test_it_shows_a_turn_when_it_ends_and_goes_on_until_it_is_interrupted(house: House, terminal: bool) -> None:
    house.turn({"recall": 33.0})
    house.flush()
    with watching(house.folder, terminal) as (process, reader):
        if terminal:
            read_until(reader, r"recall +33\.0.*complete turns in p50 and p95: 1")
        else:
            assert process.stderr is not None
            assert process.stderr.readline().startswith(b"timmy: watching ")
        rids = [house.turn({"recall": 44.0}), house.turn({"recall": 1055.0})]
        house.flush()
        if terminal:
            read_until(reader, r"recall +1055\.0.*complete turns in p50 and p95: 3")
        else:
            one, two = read_until(reader, r"2057 ms.*\n").splitlines()
            assert one.split("  ")[1:] == [rids[0].hex()[-6:], "home", "1046 ms, endpoint 500 ms, answered"]
            assert "2057 ms" in two
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        assert process.returncode == EXIT_INTERRUPTED
        assert b"Traceback" not in errors
