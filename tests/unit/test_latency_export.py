"""timmy latency export: files for other programs, from traces with known truth."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import EXIT_NO_INPUT, EXIT_OK, EXIT_USAGE
from ipc.marks import Stage, trace_files
from tests.support.chrome_trace import Found, check
from tests.support.traces import BEGUN_S, UTTERANCE_MS, House
from tools import cli
from tools.latency import perfetto, tabular
from tools.latency.otlp import batches
from tools.latency.reading import Losses, read_turns
from tools.latency.turns import Seen, Turn, build, hops

DAEMONS = ["stt", "dialog", "memory", "llm", "tts"]


@pytest.fixture
def house(tmp_path: Path) -> House:
    folder = tmp_path / "trace"
    folder.mkdir()
    return House(folder)


def export(house: House, *arguments: str) -> int:
    return cli.run(["latency", "export", "--trace", str(house.folder), *arguments])


def turns_of(house: House) -> list[Turn]:
    return list(read_turns(house.folder, Losses()))


def drawn(turns: list[Turn]) -> Found:
    file = io.BytesIO()
    assert perfetto.write(turns, Losses(), file) == len(turns)
    return check(file.getvalue())


# --- the command -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [[], ["--csv", "-", "--json", "-"], ["--perfetto", "a", "--otlp", "http://b"]])
def test_one_target_is_wanted(house: House, targets: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert export(house, *targets) == EXIT_USAGE
    assert (
        "Error: one target, please: --perfetto FILE, --csv FILE, --json FILE or --otlp ENDPOINT"
        in capfd.readouterr().err
    )


@pytest.mark.parametrize("format_", ["perfetto", "csv", "json"])
def test_a_file_and_standard_output_get_the_same(
    house: House, format_: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with house:
        house.turn()
        house.turn(conversation="Küche")
    assert export(house, f"--{format_}", str(tmp_path / "out")) == EXIT_OK
    told = capfdbinary.readouterr()
    assert (told.out, told.err) == (b"", f"2 turns are in {tmp_path}/out\n".encode())
    assert export(house, f"--{format_}", "-") == EXIT_OK
    told = capfdbinary.readouterr()
    assert (told.out, told.err) == ((tmp_path / "out").read_bytes(), b"")
    assert "Küche".encode() in told.out


def test_only_the_turns_that_are_wanted(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    with house:
        rids = [house.turn(conversation=name).hex() for name in ("home", "kitchen", "home", "home")]
    wanted = {
        ("--last", "1"): rids[3:],
        ("--session", "kitchen"): rids[1:2],
        ("--since", datetime.fromtimestamp(BEGUN_S + 40).astimezone().isoformat()): rids[2:],
        ("--session", "home", "--last", "2"): rids[2:],
    }
    for options, expected in wanted.items():
        assert export(house, "--json", "-", *options) == EXIT_OK
        assert [turn["rid"] for turn in json.loads(capfd.readouterr().out)["turns"]] == expected


def test_no_turns_make_no_file(house: House, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with house:
        house.turn()
    assert export(house, "--csv", str(tmp_path / "out"), "--session", "nobody") == EXIT_NO_INPUT
    assert capfd.readouterr().err == "timmy: no such turns in the trace files\n"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_no_place_for_a_file(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    with house:
        house.turn()
    assert export(house, "--csv", str(house.folder / "none" / "out")) != EXIT_OK
    assert "No such file or directory" in capfd.readouterr().err


def test_what_is_missing_is_told_beside_the_export(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    with house:
        house.turn()
        house.lose("llm", 3)
        house.turn()
    (damaged, *_) = trace_files(house.folder)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert export(house, "--perfetto", "-") == EXIT_OK
    told = capfd.readouterr()
    lines = [line.removeprefix("timmy: ") for line in told.err.splitlines()]
    assert [line for line in lines if "3 marks were lost" in line]
    assert [line for line in lines if damaged.name in line]
    assert check(told.out.encode()).losses == lines


# --- Perfetto --------------------------------------------------------------------------------------------------


def test_one_track_a_daemon_and_arrows_between_them(house: House) -> None:
    with house:
        rid = house.turn()
        house.turn()
    turns = turns_of(house)
    found = drawn(turns)
    assert list(found.processes.values()) == DAEMONS
    assert [found.processes[track.pid] for track in found.slices] == DAEMONS
    origin_ns = round(found.origin.timestamp() * 1e9)
    for track, slices in found.slices.items():
        first = [each for each in slices if each.rid == rid.hex()]
        daemon = found.processes[track.pid]
        assert first[0].name == "turn"
        spans = [span for span in turns[0].spans if (span.daemon or "dialog") == daemon]
        expected = [
            (span.stage, span.start_ns - turns[0].origin_ns, span.end_ns - span.start_ns)
            for span in sorted(spans, key=lambda span: (span.start_ns, -span.end_ns))
        ]
        begun_ns = round(turns[0].begun_s * 1e9) - origin_ns
        assert [(each.name, each.start_ns - begun_ns, each.end_ns - each.start_ns) for each in first[1:]] == expected
    assert found.arrows == [(hop.sender, hop.receiver) for turn in turns for hop in hops(turn)]
    assert {("stt", "dialog"), ("dialog", "memory"), ("llm", "dialog"), ("dialog", "tts")} < set(found.arrows)
    assert found.origin == datetime(2026, 9, 20, tzinfo=UTC)
    (utterance, *_) = [each for each in found.slices[next(iter(found.slices))] if each.name == "utterance"]
    assert utterance.start_ns + origin_ns == pytest.approx(BEGUN_S * 1e9, abs=1e3)
    assert utterance.end_ns - utterance.start_ns == UTTERANCE_MS * 1e6


def test_a_revoked_attempt_and_a_cancelled_turn_leave_moments(house: House) -> None:
    with house:
        house.turn(attempts=2)
        house.turn(until=Stage.MODEL_SENT, outcome="cancelled")
    found = drawn(turns_of(house))
    assert sorted(found.moments) == ["cancelled", "muted", "muted", "resumed", "revoked"]


def test_two_turns_at_a_time_take_two_lanes(house: House) -> None:
    with house:
        house.turn(conversation="home", pause_s=-3.5)
        house.turn(conversation="kitchen")
    found = drawn(turns_of(house))
    lanes = [found.processes[track.pid] for track in found.slices]
    assert lanes.count("dialog") == lanes.count("tts") == 2


def test_a_stage_that_overlaps_another_takes_a_lane_of_its_own(house: House) -> None:
    with house:
        house.turn({"stt": 80.0})
    found = drawn(turns_of(house))
    stt = [slices for track, slices in found.slices.items() if found.processes[track.pid] == "stt"]
    assert [[each.name for each in slices] for slices in stt] == [
        ["turn", "utterance", "endpoint", "stt", "ipc"],
        ["transcription"],
    ]


def test_a_wall_clock_that_is_set_back_keeps_the_rules(house: House) -> None:
    with house:
        house.turn()
        house.step_wall_clock(-3600)
        for daemon in DAEMONS:
            house.restart(daemon)
        house.turn()
    drawn(turns_of(house))


def test_what_was_heard_stays_here(house: House) -> None:
    with house:
        house.turn(heard="Where is the key?")
    file = io.BytesIO()
    perfetto.write(turns_of(house), Losses(), file)
    (batch,) = batches(turns_of(house))
    assert b"key" not in file.getvalue() + batch.request().SerializeToString()


_marks = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(Stage), st.sampled_from([*DAEMONS, "other"]), st.integers(0, 2)),
    max_size=60,
)


@given(st.lists(_marks, min_size=1, max_size=4))
def test_whatever_is_marked_the_trace_keeps_the_rules(several: list[list[tuple[int, Stage, str, int]]]) -> None:
    turns = []
    for number, marks in enumerate(several, 1):
        seen = [Seen(t_ms * 1_000_000, stage, daemon, arg) for t_ms, stage, daemon, arg in marks]
        if turn := build(number.to_bytes(16, "big"), b"", seen, {}, 0):
            turns.append(turn)
    drawn(turns)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda event: event["ph"] == "f" and event.update(id=99), "without its other end"),
        (lambda event: event["name"] == "endpoint" and event.update(dur=5e8), "overlaps"),
        (lambda event: event["name"] == "recall" and event["args"].update(rid="00"), "within"),
        (lambda event: event["ph"] == "s" and event.update(tid=1), "'tid': 1"),
        (lambda event: event["name"] == "muted" and event.update(ts=event["ts"] + 1e9), "in no slice"),
        (lambda event: event["name"] == "speaking" and event.update(ts=0.0), "back in time"),
        (lambda event: event["name"] == "thread_name" and event.update(tid=1), "'tid': 1000"),
        (lambda event: event["name"] == "storing" and event.update(name="stroing"), "stroing"),
    ],
)
def test_the_judge_sees_what_is_wrong(house: House, fault: Callable[[dict[str, Any]], object], said: str) -> None:
    with house:
        house.turn()
    file = io.BytesIO()
    perfetto.write(turns_of(house), Losses(), file)
    trace = json.loads(file.getvalue())
    for event in trace["traceEvents"]:
        fault(event)
    with pytest.raises(AssertionError, match=said):
        check(json.dumps(trace).encode())


# --- size ------------------------------------------------------------------------------------------------------


class Nowhere(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


WRITERS: dict[str, Callable[[Iterator[Turn], IO[bytes]], object]] = {
    "perfetto": lambda turns, file: perfetto.write(turns, Losses(), file),
    "csv": lambda turns, file: tabular.write_csv(turns, file),
    "json": lambda turns, file: tabular.write_json(turns, Losses(), file),
    "otlp": lambda turns, file: deque((batch.request() for batch in batches(turns)), 0),
}


@pytest.mark.parametrize("name", WRITERS)
def test_memory_does_not_grow_with_the_turns(house: House, name: str) -> None:
    with house:
        house.turn()
    (turn,) = turns_of(house)

    def peak_bytes(count: int) -> int:
        many = (replace(turn, rid=n.to_bytes(16, "big"), begun_s=turn.begun_s + 30 * n) for n in range(count))
        tracemalloc.start()
        WRITERS[name](many, io.BufferedWriter(Nowhere()))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(1_000) < 1.5 * peak_bytes(100)
