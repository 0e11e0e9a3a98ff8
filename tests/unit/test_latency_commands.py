"""`timmy latency turns, sessions, files, clear` over traces of which everything is known."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from ipc.errors import EXIT_NO_INPUT, EXIT_USAGE
from ipc.marks import CAP_BYTES, Stage, trace_files
from tests.support.latency import Timmy, narrow_terminal
from tests.support.traces import DAEMONS, DELAYS, House
from tools.latency.reading import Losses, read_turns
from tools.latency.sessions import group
from tools.latency.turns import Turn

ROOT = Path(__file__).parent.parent.parent
TOTAL_MS = sum(DELAYS.values())


@pytest.fixture
def timmy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Timmy:
    folder = tmp_path / "trace"
    folder.mkdir()
    return Timmy(folder, capsys)


@pytest.fixture
def house(timmy: Timmy) -> House:
    return House(timmy.folder)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> int:
    return narrow_terminal(monkeypatch)


WHEN = re.compile(r" (\d\d:\d\d:\d\d|\d\d-\d\d \d\d:\d\d|\d{4}-\d\d-\d\d) ")


def rows(out: str) -> list[list[str]]:
    """The words of a table, but for the time."""
    return [WHEN.sub(" ", line, count=1).split() for line in out.splitlines()[1:]]


# --- turns ---


def test_a_turn_is_a_row(timmy: Timmy, house: House) -> None:
    with house:
        first = house.turn()
        second = house.turn({"recall": 712.0}, heard="Where is the key?", prompt_tokens=500, cached_tokens=100)
    out = timmy("turns")
    assert out.splitlines()[0].split() == [
        "id", "time", "conversation", "heard", "audio", "slowest", "tokens", "hit", "outcome",
    ]  # fmt: skip
    one, two = rows(out)
    assert (first.hex().endswith(one[0]), second.hex().endswith(two[0])) == (True, True)
    assert one[1:] == ["home", "6", "words", "1011", "endpoint", "500", "400", "75%", "answered"]
    assert two[1:] == ["home", "Where", "is", "the", "key?", "1714", "recall", "712", "500", "20%", "answered"]
    assert timmy.err == ""


def test_a_turn_for_programs(timmy: Timmy, house: House) -> None:
    with house:
        rid = house.turn({"tts_playout": 40.5}, conversation="wav-1", words=1)
    (turn,) = timmy.json("turns")["turns"]
    assert turn["id"] == rid.hex()
    assert turn["stages_ms"] == {**DELAYS, "tts_playout": 40.5}
    assert turn["first_audio_ms"] == sum(turn["stages_ms"].values())
    assert turn["slowest"] == {"stage": "endpoint", "ms": 500.0}
    assert (turn["conversation"], turn["words"], turn["heard"], turn["typed"]) == ("wav-1", 1, None, False)
    assert (turn["prompt_tokens"], turn["cached_tokens"], turn["cached_share"]) == (400, 300, 0.75)
    assert (turn["outcome"], turn["complete"], turn["missing"]) == ("answered", True, [])


def test_the_last_twenty_or_those_that_are_asked_for(timmy: Timmy, house: House) -> None:
    with house:
        rids = [house.turn(conversation="home" if n % 2 else "wav-1").hex() for n in range(25)]
    assert [turn["id"] for turn in timmy.json("turns")["turns"]] == rids[-20:]
    assert [turn["id"] for turn in timmy.json("turns", "--last", "3")["turns"]] == rids[-3:]
    assert [turn["id"] for turn in timmy.json("turns", "--session", "wav-1", "--last", "2")["turns"]] == rids[-3::2]
    assert len(timmy.json("turns", "--since", "2020-01-01")["turns"]) == 25
    assert timmy("turns", "--session", "nobody", status=EXIT_NO_INPUT) == ""
    assert timmy.err == "timmy: no such turn has been traced\n"


def test_what_was_not_spoken_or_not_answered_is_a_row_too(timmy: Timmy, house: House) -> None:
    with house:
        house.turn(typed=True, words=1)
        house.turn(typed=True, until=Stage.TOKEN_RECEIVED)
        house.turn(until=Stage.MODEL_SENT, outcome="failed")
        house.turn(until=Stage.FIRST_TOKEN, outcome="cancelled")
        house.turn(outcome="")
    typed, written, failed, cancelled, unfinished = (row[1:] for row in rows(timmy("turns")))
    assert typed == ["home", "typed:", "1", "word", "511", "llm_first_token", "250", "400", "75%", "answered"]
    assert written == ["home", "typed:", "6", "words", "-", "llm_first_token", "250", "400", "75%", "answered"]
    assert failed == ["home", "6", "words", "-", "endpoint", "500", "-", "failed"]
    assert cancelled == ["home", "6", "words", "-", "endpoint", "500", "400", "75%", "cancelled"]
    assert unfinished == ["-", "6", "words", "1011", "endpoint", "500", "400", "75%", "unfinished"]


def test_every_row_fits_a_narrow_terminal(timmy: Timmy, house: House, narrow: int) -> None:
    with house:
        house.turn(heard="Where is the key of the garden shed that my sister gave to the neighbours in spring?")
        house.turn({"llm_first_token": 61_250.0}, heard="鍵はどこですか。" * 20, conversation="x" * 64)
        house.turn(heard="a\x1b[31mb\nc\x07d\u202ee")
    lines = timmy("turns").splitlines()
    assert len(lines) == 4
    assert all(cell_len(line) <= narrow for line in lines)
    assert not set("\x1b\x07\u202e") & set("".join(lines))
    assert "…" in lines[1]
    assert "鍵" in lines[2]
    assert lines[2].endswith(" 62011 llm_first_token 61250   400  75% answered")


def test_a_wall_clock_that_was_set_back_does_not_turn_them_round(timmy: Timmy, house: House) -> None:
    with house:
        rids = [house.turn().hex()]
        house.step_wall_clock(-7200)
        for daemon in DAEMONS:
            house.restart(daemon)
        rids.append(house.turn().hex())
    first, second = timmy.json("turns")["turns"]
    assert [first["id"], second["id"]] == rids
    assert second["begun"] < first["begun"]
    assert timmy.json("show", "last")["id"] == rids[1]


def test_two_turns_at_once(timmy: Timmy, house: House) -> None:
    with house:
        begun_ns = house.now_ns
        one = house.turn()
        house.now_ns = begun_ns + 100_000_000
        two = house.turn({"recall": 100.0}, conversation="wav-1")
    found = {turn["id"]: turn["stages_ms"] for turn in timmy.json("turns")["turns"]}
    assert found == {one.hex(): dict(DELAYS), two.hex(): {**DELAYS, "recall": 100.0}}


def test_losses_and_damage_are_told_and_what_is_whole_is_shown(timmy: Timmy, house: House) -> None:
    with house:
        house.turn()
        house.lose("llm", 7)
        house.turn()
    stt = next(path for path in trace_files(timmy.folder) if "stt" in path.name)
    stt.write_bytes(stt.read_bytes()[:-10])
    (timmy.folder / "9-other.marks").write_text("something else")
    for command in (["turns"], ["show", "last"], ["sessions"]):
        assert timmy(*command)
        said = timmy.err.splitlines()
        assert len(said) == 3, said
        assert "9-other.marks: not a file of trace marks" in said[0]
        assert f"{stt.name}: cut off at byte" in said[1]
        assert said[2] == "timmy: 7 marks were lost by the daemons: some turns are incomplete"
        losses = timmy.json(*command)["losses"]
        assert (losses["lost"], len(losses["damaged"])) == (7, 2)


def test_a_reader_that_stops_early_is_no_error(timmy: Timmy, house: House) -> None:
    with house:
        for _ in range(1500):
            house.turn()
    timmy_latency = f"{sys.executable} -m tools.cli latency turns --since 2020-01-01 --trace {timmy.folder}"
    done = subprocess.run(
        f"{timmy_latency} | head -2", shell=True, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr


# --- sessions ---


def turns_of(folder: Path) -> Iterator[Turn]:
    return read_turns(folder, Losses())


def test_a_pause_of_ten_minutes_ends_a_session(timmy: Timmy, house: House) -> None:
    with house:
        one, two = house.turn(pause_s=599.0), house.turn(pause_s=0)
        other = house.turn(conversation="wav-1", pause_s=597.0)
        three = house.turn()
    found = [[turn.rid for turn in session.turns] for session in group(turns_of(timmy.folder))]
    assert found == [[one, two], [other], [three]]


def test_how_a_conversation_moves(timmy: Timmy, house: House) -> None:
    with house:
        for prompt, cached, model in ((200, 0, 900.0), (300, 190, 300.0), (420, 20, 1200.0), (500, 450, 400.0)):
            house.turn({"llm_first_token": model}, prompt_tokens=prompt, cached_tokens=cached)
        house.turn(conversation="wav-1")
    found = timmy.json("sessions")
    home, wav = found["sessions"]
    assert home["prompt_tokens"] == [200, 300, 420, 500]
    assert home["model_ms"] == {"first": 900.0, "later_p50": 400.0}
    assert home["first_audio_ms"] == {"first": TOTAL_MS + 650, "later_p50": TOTAL_MS + 150}
    assert home["cache_missed"] == [home["turns"][2]]
    assert home["cached_share"] == pytest.approx((0 + 190 / 300 + 20 / 420 + 450 / 500) / 4, abs=0.001)
    assert (wav["conversation"], wav["model_ms"]) == ("wav-1", {"first": 250.0, "later_p50": None})
    told = "1 of 3 later prompts missed the cache: 1200 ms to the first token, against 350 ms for the others."
    assert found["explanation"] == told
    out = timmy("sessions")
    first, second, *_ = rows(out)
    assert first == ["home", "4", "200", "->", "500", "40%", "1", "900", "->", "400", "1661", "->", "1161"]
    assert second == ["wav-1", "1", "400", "->", "400", "75%", "0", "250", "->", "-", "1011", "->", "-"]
    assert out.splitlines()[-1] == told


def test_what_is_said_of_the_cache(timmy: Timmy, house: House) -> None:
    with house:
        house.turn()
        house.flush()
        assert timmy.json("sessions")["explanation"].startswith("No conversation went on")
        house.turn()
        house.flush()
        assert timmy.json("sessions")["explanation"] == "Every later prompt came from the cache."
        house.turn(cached_tokens=0, without={("llm", Stage.RECEIVED)})
    assert timmy.json("sessions", "--last", "2")["explanation"] == "1 of 1 later prompts missed the cache."
    assert timmy("sessions", "--session", "nobody", status=EXIT_NO_INPUT) == ""


# --- files and clear ---


def test_files_are_listed_with_what_they_lack(timmy: Timmy, house: House) -> None:
    with house:
        house.turn()
        house.lose("tts", 4)
        house.turn()
    (timmy.folder / "0-x.marks").write_bytes(b"TIMMYTRC")
    cut = next(path for path in trace_files(timmy.folder) if "memory" in path.name)
    cut.write_bytes(cut.read_bytes()[:-1])
    found = timmy.json("files")
    files = {file["daemon"]: file for file in found["files"]}
    assert (found["folder"], found["cap_bytes"]) == (str(timmy.folder), CAP_BYTES)
    assert found["bytes"] == sum(path.stat().st_size for path in trace_files(timmy.folder))
    assert files[None]["damage"] == "damaged from its beginning"
    assert files["memory"]["damage"].startswith("cut off at byte")
    assert {daemon: file["lost"] for daemon, file in files.items()} == dict.fromkeys([None, *DAEMONS], 0) | {"tts": 4}
    assert files["llm"]["marks"] == 2 * 5
    out = timmy("files").splitlines()
    assert [line.split()[1] for line in out[1:-2]] == [file["daemon"] or "-" for file in found["files"]]
    assert out[-1].startswith("6 files, ")
    assert "of at most 67 MB" in out[-1]
    assert "4 lost" in out[-1]


def test_clear_removes_them_and_daemons_go_on_in_others(timmy: Timmy, house: House) -> None:
    with house:
        house.turn()
        house.flush()
        (timmy.folder / "notes.txt").write_text("not a trace")
        timmy("clear", status=EXIT_USAGE)
        assert "say so with --yes" in timmy.err
        assert len(trace_files(timmy.folder)) == 5
        assert timmy("clear", "--yes").startswith("removed 5 trace files (")
        assert [path.name for path in timmy.folder.iterdir()] == ["notes.txt"]
        rid = house.turn()
    assert [turn["id"] for turn in timmy.json("turns")["turns"]] == [rid.hex()]


def test_clear_asks(timmy: Timmy, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with house:
        house.turn()
    monkeypatch.setattr("tools.latency.housekeeping._interactive", lambda: True)
    asked: list[str] = []

    def confirm(answer: bool) -> None:
        def ask(text: str) -> bool:
            asked.append(text)
            return answer

        monkeypatch.setattr("click.confirm", ask)

    confirm(False)
    assert timmy("clear") == "nothing was removed\n"
    assert len(trace_files(timmy.folder)) == 5
    confirm(True)
    timmy("clear")
    assert timmy("clear") == f"no trace files in {timmy.folder}\n"
    assert len(asked) == 2
    assert asked[0].startswith("Remove 5 trace files (")


def test_a_folder_that_is_not_there_or_empty(timmy: Timmy) -> None:
    timmy("files", status=EXIT_NO_INPUT)
    assert timmy.err == f"timmy: no trace files in {timmy.folder}\n"
    timmy.folder.rmdir()
    for command in (["turns"], ["show", "last"], ["sessions"], ["files"], ["clear", "--yes"], ["watch"]):
        timmy(*command, status=EXIT_NO_INPUT)
        assert timmy.err == f"timmy: no trace files in {timmy.folder}\n"
