"""From a folder of trace files to turns, whatever has happened to the files."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipc import marks
from ipc.marks import Stage, trace_files
from tests.support.traces import BEGUN_S, DELAYS, House, old_format
from tools.latency.reading import Losses, NoTurns, read_turns, trace_folder
from tools.latency.turns import UNFINISHED, Turn

TOTAL_MS = sum(DELAYS.values())


def turns_of(folder: Path) -> list[Turn]:
    return list(read_turns(folder, Losses()))


def file_of(folder: Path, daemon: str) -> Path:
    (found,) = [path for path in trace_files(folder) if path.stem.endswith(f"-{daemon}")]
    return found


def test_turns_come_as_they_were(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        rids = [
            house.turn(heard="Where is the key?"),
            house.turn(conversation="talk-1", outcome="failed"),
            house.turn(outcome="cancelled", until=Stage.MODEL_SENT),
            house.turn(attempts=3),
        ]
    losses = Losses()
    turns = list(read_turns(tmp_path, losses))
    assert [turn.rid for turn in turns] == rids
    assert [turn.outcome for turn in turns] == ["answered", "failed", "cancelled", "answered"]
    assert [turn.conversation for turn in turns] == ["home", "talk-1", "home", "home"]
    assert [turn.heard for turn in turns] == ["Where is the key?", "", "", ""]
    assert [turn.complete for turn in turns] == [True, False, False, True]
    assert all(turn.first_audio_ms == pytest.approx(TOTAL_MS) for turn in (turns[0], turns[3]))
    assert BEGUN_S < turns[0].begun_s < BEGUN_S + 5
    assert (losses.files, losses.lines()) == (5, [])


def test_two_turns_at_the_same_time(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        begun_ns = house.now_ns
        one = house.turn({"recall": 50.0}, conversation="kitchen")
        house.now_ns = begun_ns + 37_000_000
        two = house.turn({"recall": 90.0}, conversation="attic")
    turns = {turn.rid: turn for turn in turns_of(tmp_path)}
    assert {rid: turn.shares_ms()["recall"] for rid, turn in turns.items()} == {one: 50.0, two: 90.0}
    assert turns[two].conversation == "attic"


def test_a_daemon_that_dies_within_a_turn(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        begun_ns = house.now_ns
        broken = house.turn(without=[("llm", Stage.FIRST_TOKEN)])
        house.restart("llm", begun_ns + 2 * 10**9)
        whole = house.turn()
    turns = {turn.rid: turn for turn in turns_of(tmp_path)}
    assert turns[broken].missing == ("llm:first_token",)
    assert turns[broken].first_audio_ms == pytest.approx(TOTAL_MS)
    assert turns[whole].complete


def test_a_turn_whose_end_nobody_told(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.turn(outcome="", until=Stage.MODEL_SENT)
        house.restart("dialog")
        house.turn()
    assert [turn.outcome for turn in turns_of(tmp_path)] == [UNFINISHED, "answered"]


def test_a_step_of_the_wall_clock_tears_no_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "FILE_MAX_BYTES", 500)
    with House(tmp_path) as house:
        for step_s in (0, -7200, 90_000, -3600):
            house.step_wall_clock(step_s)
            house.turn()
            house.turn()
    turns = turns_of(tmp_path)
    assert len(turns) == 8
    assert all(turn.complete for turn in turns)
    assert {turn.first_audio_ms for turn in turns} == {turns[0].first_audio_ms}


def test_files_that_were_copied_tell_nothing_twice(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.turn()
        house.turn()
    once = turns_of(tmp_path)
    for number, path in enumerate(trace_files(tmp_path)):
        shutil.copy(path, path.with_name(f"0000{number}-copy{marks.SUFFIX}"))
    assert turns_of(tmp_path) == once


def test_lost_marks_are_told(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.turn()
        house.lose("stt", 12)
        house.turn()
    losses = Losses()
    assert len(list(read_turns(tmp_path, losses))) == 2
    assert losses.lines() == ["12 marks were lost by the daemons: some turns are incomplete"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(b""), "not a file of trace marks"),
        (lambda path: path.write_bytes(path.read_bytes()[:20]), "damaged from its beginning"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "cut off at byte"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9] + bytes(9)), "damaged at byte"),
    ],
)
def test_a_damaged_file_is_named_and_what_is_whole_is_read(
    tmp_path: Path, damage: Callable[[Path], int], says: str
) -> None:
    with House(tmp_path) as house:
        house.turn()
        house.turn()
    path = file_of(tmp_path, "llm")
    damage(path)
    losses = Losses()
    turns = list(read_turns(tmp_path, losses))
    assert len(turns) == 2
    assert not turns[-1].complete
    (line,) = losses.lines()
    assert line.startswith(f"{path}: ")
    assert says in line


def test_files_of_the_first_format(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.turn()
    for path in trace_files(tmp_path):
        old_format(path)
    (turn,) = turns_of(tmp_path)
    assert turn.first_audio_ms == pytest.approx(TOTAL_MS)
    assert turn.shares_ms()["recall"] == DELAYS["recall"]
    assert "dialog:heard" in turn.missing


def test_two_runs_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, booted_s in enumerate((50_000, 20)):
        monkeypatch.setattr(marks, "_host", lambda number=number: bytes([number]) * 16)
        with House(tmp_path, BEGUN_S + number * 3600, booted_s) as house:
            house.turn()
    turns = turns_of(tmp_path)
    assert [turn.host[0] for turn in turns] == [0, 1]
    assert all(turn.complete for turn in turns)


def test_few_files_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "FILE_MAX_BYTES", 200)
    with House(tmp_path) as house:
        for _ in range(30):
            house.turn()
    assert len(trace_files(tmp_path)) > 100
    reading = read_turns(tmp_path, Losses())
    most = 0
    for _ in reading:
        most = max(most, sum("marks" in str(each.readlink()) for each in open_files()))
    assert most <= 10


def open_files() -> list[Path]:
    return [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink() and each.exists()]


def test_a_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoTurns, match=r"no trace files in .*gone"):
        trace_folder(tmp_path / "gone")
    monkeypatch.setenv("TIMMY_STATE", str(tmp_path))
    with pytest.raises(NoTurns, match="timmy up"):
        trace_folder(None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with House(folder) as house:
        for number in range(4):
            house.turn({"recall": 10.0 * number}, attempts=1 + number % 2)
    return folder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 10_000), st.integers(0, 255)), max_size=6))
def test_whatever_is_changed_in_the_files_no_turn_is_made_up(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    files = trace_files(folder)
    for number, at, value in changes:
        data = bytearray(files[number].read_bytes())
        if value:
            data[at % len(data)] = value
        else:
            del data[at % len(data) :]
        files[number].write_bytes(bytes(data) or b"?")
    known = {turn.rid: turn for turn in turns_of(whole)}
    losses = Losses()
    for turn in read_turns(folder, losses):
        truth = known[turn.rid]
        assert set(turn.marks) <= set(truth.marks)
        if turn.complete:
            assert turn.first_audio_ms == truth.first_audio_ms
    names = [path.name for path in files]
    for line, count in itertools.pairwise([*losses.damaged, ""]):
        assert any(name in line for name in names), count
