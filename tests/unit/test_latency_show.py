"""`timmy latency show` of turns of which everything is known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ipc.errors import EXIT_NO_INPUT, EXIT_USAGE
from ipc.marks import Stage, trace_files
from tests.support.latency import Timmy, narrow_terminal
from tests.support.traces import DAEMONS, DELAYS, House, old_format
from tools.latency import display
from tools.latency.reading import Losses, read_turns
from tools.latency.waterfall import Scale, drawn

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


def test_the_shares_of_a_waterfall_are_what_was_planted(timmy: Timmy, house: House) -> None:
    planted = {**DELAYS, "stt": 40.0, "recall": 250.0, "unaccounted": 3.5, "ipc": 12.0}
    with house:
        house.turn(planted)
    turn = timmy.json("show", "last")
    shares = dict.fromkeys(DELAYS, 0.0)
    for span in turn["spans"]:
        if span["share_ms"] is not None:
            shares[span["stage"]] += span["share_ms"]
    assert shares == pytest.approx(planted)
    assert [span["stage"] for span in turn["spans"] if span["share_ms"] is None] == [
        "utterance", "transcription", "speaking", "storing",
    ]  # fmt: skip
    assert turn["events"] == [
        {"event": "muted", "at_ms": sum(planted.values())},
        {"event": "hears again", "at_ms": sum(planted.values()) + 2000},
    ]
    assert turn["notes"] == []


def test_a_waterfall_on_a_narrow_terminal(timmy: Timmy, house: House, narrow: int) -> None:
    with house:
        rid = house.turn({"unaccounted": 100.0}, heard="鍵はどこですか。")
    head, said, prompt, _, titles, *lines, total = timmy("show", "last").splitlines()
    assert head == f"{rid.hex()} · answered"
    assert re.fullmatch("home · 2026-09-2. ..:..:.. · 鍵はどこですか。", said)
    assert prompt == "prompt: 400 tokens, 300 of them cached · memories: 2"
    assert titles.split() == ["stage", "start", "length", "share"]
    assert all(cell_len(line) <= narrow for line in [head, said, prompt, titles, *lines, total])
    by_name = {line[:21].strip(): line[21:].split() for line in lines}
    assert by_name["endpoint"] == ["0.0", "500.0", "███████████", "500.0", "45", "%"]
    assert by_name["ipc stt -> dialog"] == ["500.0", "1.0", "▏", "1.0", "0", "%"]
    assert by_name["unaccounted"] == ["501.0", "100.0", "██", "100.0", "9", "%"]
    assert by_name["utterance"] == ["-1200.0", "1200.0", "◂"]
    assert by_name["muted"] == ["1111.0", "◆"]
    assert by_name["speaking"] == ["1111.0", "2000.0", "▸"]
    assert total.split() == ["first", "audio", "0.0", "1111.0", "█" * 24, "1111.0", "100", "%"]


def test_what_went_on_inside_the_silence_is_drawn_light(timmy: Timmy, house: House) -> None:
    with house:
        house.turn({"llm_first_clause": 120.0, "ipc": 0.0}, held=True)
    by_name = {line[:21].strip(): line[21:].split() for line in timmy("show", "last").splitlines()[4:]}
    assert by_name["recall"] == ["200.0", "9.0", "░", "0.0", "0", "%"]
    assert by_name["llm_first_token"] == ["210.0", "250.0", "░" * 16, "0.0", "0", "%"]
    assert by_name["llm_first_clause"] == ["460.0", "120.0", "░░░█████", "80.0", "12", "%"]
    assert by_name["first audio"][-3:] == ["695.0", "100", "%"]


def test_a_turn_is_found_by_its_beginning_or_its_end(timmy: Timmy, house: House) -> None:
    with house:
        rids = [house.turn().hex() for _ in range(8)]
    for wanted in (rids[2], rids[2].upper(), rids[2][:11], rids[2][-4:]):
        assert timmy.json("show", wanted)["id"] == rids[2]
    timmy("show", rids[0][:4], status=EXIT_USAGE)
    assert f"{rids[0][:4]} fits 8 turns, write more of it: {', '.join(rids[:5])}, ...\n" in timmy.err
    timmy("show", "beef", status=EXIT_NO_INPUT)
    assert timmy.err == "timmy: no turn beef: `timmy latency turns` lists what there is\n"
    timmy("show", "first", status=EXIT_USAGE)
    assert "'first' is no id of a turn" in timmy.err


def test_of_no_turn_there_is_nothing_to_show(timmy: Timmy) -> None:
    timmy("show", "last", status=EXIT_NO_INPUT)
    assert timmy.err.startswith("timmy: no turn has been traced yet")


def test_what_was_revoked_is_told_and_does_not_count(timmy: Timmy, house: House) -> None:
    with house:
        house.turn(attempts=3)
    turn = timmy.json("show", "last")
    assert turn["first_audio_ms"] == TOTAL_MS
    assert turn["stages_ms"] == dict(DELAYS)
    events = [event["event"] for event in turn["events"]]
    assert events == [
        "resumed", "revoked revision 0", "resumed", "revoked revision 1", "muted", "hears again",
    ]  # fmt: skip


def test_a_turn_that_was_given_up_names_what_it_did_not_come_to(timmy: Timmy, house: House) -> None:
    with house:
        house.turn(until=Stage.FIRST_TOKEN, outcome="cancelled")
    turn = timmy.json("show", "last")
    assert turn["notes"] == [
        "It was cancelled, and did not come to: dialog:token_received, dialog:first_clause, tts:clause_received, "
        "tts:first_audio."
    ]
    assert turn["events"][-1]["event"] == "cancelled"
    assert "cancelled" in timmy("show", "last")


def test_an_answer_in_writing_lacks_nothing(timmy: Timmy, house: House) -> None:
    with house:
        house.turn(typed=True, until=Stage.TOKEN_RECEIVED)
    assert timmy.json("show", "last")["notes"] == ["Answered in writing: nothing sounded."]


def test_a_daemon_that_was_restarted_in_a_turn(timmy: Timmy, house: House) -> None:
    with house:
        house.turn()
        rid = house.turn(without={("llm", Stage.RECEIVED), ("llm", Stage.FIRST_TOKEN)})
        house.restart("llm")
        house.turn()
    notes = timmy.json("show", rid.hex())["notes"]
    assert notes == [
        "Missing: llm:received, llm:first_token.",
        "llm was restarted in this turn or after it: what it marked in its last half second may be lost.",
    ]
    shown = timmy.json("show", rid.hex())
    assert shown["stages_ms"]["unaccounted"] == pytest.approx(DELAYS["llm_first_token"] + 2 * DELAYS["ipc"] / 6)
    assert not shown["complete"]


def test_a_daemon_that_was_restarted_before_is_not_blamed(timmy: Timmy, house: House) -> None:
    with house:
        house.turn()
        house.restart("llm")
        house.turn()
        rid = house.turn(without={("llm", Stage.FIRST_TOKEN)})
    assert timmy.json("show", rid.hex())["notes"] == ["Missing: llm:first_token."]


def test_marks_that_were_lost_and_files_that_are_not_here(timmy: Timmy, house: House) -> None:
    with house:
        house.turn(without={("llm", Stage.FIRST_TOKEN), *(("memory", stage) for stage in Stage)})
        house.lose("llm", 3)
        house.turn()
    for path in trace_files(timmy.folder):
        if "memory" in path.name:
            path.unlink()
    first = timmy.json("turns")["turns"][0]["id"]
    assert timmy.json("show", first)["notes"] == [
        "Missing: memory:received, memory:sent, llm:first_token.",
        "No file of memory is here.",
        "3 marks were lost by the daemons; some may be of this turn.",
    ]


def test_files_of_the_first_format(timmy: Timmy, house: House) -> None:
    with house:
        house.turn()
    for path in trace_files(timmy.folder):
        old_format(path)
    turn = timmy.json("show", "last")
    assert turn["first_audio_ms"] == TOTAL_MS
    assert turn["stages_ms"]["llm_first_token"] == DELAYS["llm_first_token"]
    assert "dialog was of an older version, which did not mark all of this." in turn["notes"]
    assert timmy("turns").split()[-1] == "unfinished"
    assert {file["format"] for file in timmy.json("files")["files"]} == {1}


@given(
    width=st.integers(80, 200),
    delays=st.dictionaries(st.sampled_from(sorted(DELAYS)), st.floats(0, 90_000), max_size=4),
    until=st.sampled_from([None, *(stage for stage in Stage if Stage.HEARD is stage or 5 <= stage <= 12)]),
    typed=st.booleans(),
    lost=st.sets(st.tuples(st.sampled_from(DAEMONS), st.sampled_from(list(Stage))), max_size=30),
)
def test_a_waterfall_can_be_drawn_of_whatever_was_marked(
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    delays: dict[str, float],
    until: Stage | None,
    typed: bool,
    lost: set[tuple[str, Stage]],
) -> None:
    folder = tmp_path_factory.mktemp("trace")
    with House(folder) as house:
        house.turn(delays, until=until, typed=typed, without=lost)
    for turn in read_turns(folder, Losses()):
        lines = [text.plain for text in drawn(turn, width)]
        assert all(cell_len(line) <= width for line in lines)
        assert display.record(turn)


@given(
    whole=st.integers(-5, 10_000),
    width=st.integers(1, 80),
    start=st.integers(-9_000, 20_000),
    length=st.integers(0, 9_000),
)
def test_a_bar_is_as_wide_as_its_scale_and_never_empty(whole: int, width: int, start: int, length: int) -> None:
    bar = Scale(whole, width).bar(start, start + length, "█")
    assert len(bar) == width
    assert bar.strip()
