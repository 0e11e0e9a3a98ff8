"""Turns as CSV and JSON, from traces with known truth; and JSON read back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from ipc.marks import Stage
from tests.support.traces import DELAYS, House
from tools.latency import tabular
from tools.latency.reading import Losses, read_turns
from tools.latency.stages import NAMES
from tools.latency.turns import Turn, hops


@pytest.fixture
def house(tmp_path: Path) -> House:
    folder = tmp_path / "trace"
    folder.mkdir()
    return House(folder)


def turns_of(house: House) -> list[Turn]:
    return list(read_turns(house.folder, Losses()))


# --- CSV -------------------------------------------------------------------------------------------------------


def table(turns: list[Turn]) -> list[dict[str, str]]:
    file = io.BytesIO()
    assert tabular.write_csv(turns, file) == len(turns)
    return list(csv.DictReader(io.StringIO(file.getvalue().decode(), newline="")))


def test_a_row_a_turn_with_its_stages(house: House) -> None:
    with house:
        rid = house.turn({"recall": 250.0, "unaccounted": 2.5}, heard='He said "no", twice')
        house.turn(until=Stage.MODEL_SENT, outcome="failed")
    row, silent = table(turns_of(house))
    delays = {**DELAYS, "recall": 250.0, "unaccounted": 2.5}
    assert tuple(row) == tabular.COLUMNS
    assert row["rid"] == rid.hex()
    assert row["begun"] == "2026-09-21T14:13:21.200+00:00"
    assert {name: float(row[f"{name}_ms"]) for name in NAMES} == delays
    assert float(row["first_audio_ms"]) == sum(delays.values())
    assert (row["outcome"], row["complete"], row["typed"]) == ("answered", "1", "0")
    assert (row["words"], row["memories"], row["prompt_tokens"], row["cached_tokens"]) == ("6", "2", "400", "300")
    assert row["heard"] == 'He said "no", twice'
    assert (silent["outcome"], silent["first_audio_ms"], silent["recall_ms"]) == ("failed", "", "")
    assert "llm:received" in silent["missing"].split()


def test_every_column_is_explained() -> None:
    explained = (Path(__file__).parents[2] / "docs" / "latency.md").read_text("utf-8")
    assert [name for name in tabular.COLUMNS if f"`{name}`" not in explained] == [f"{name}_ms" for name in NAMES[1:-1]]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "＝1"])
def test_no_cell_is_a_formula(house: House, text: str) -> None:
    with house:
        house.turn(heard=text, conversation=text)
    (row,) = table(turns_of(house))
    assert row["heard"] == row["conversation"] == f"'{text}"


def test_a_cell_is_one_line(house: House) -> None:
    with house:
        house.turn(heard="first\r\nsecond\0", conversation="\t=1")
    (row,) = table(turns_of(house))
    assert (row["heard"], row["conversation"]) == ("first  second ", "' =1")


# --- JSON ------------------------------------------------------------------------------------------------------


def test_json_has_everything_and_is_read_back(house: House, tmp_path: Path) -> None:
    with house:
        house.turn(heard="Wo ist der Schlüssel?")
        house.turn(typed=True)
        house.turn(until=Stage.MODEL_SENT, outcome="failed")
    turns = turns_of(house)
    path = tmp_path / "turns.json"
    with path.open("wb") as file:
        assert tabular.write_json(turns, Losses(), file) == 3
    written = json.loads(path.read_text("utf-8"))
    assert written["losses"] == []
    assert written["turns"][0]["heard"] == "Wo ist der Schlüssel?"
    for turn, made in zip(turns, written["turns"], strict=True):
        assert made["shares_ms"] == turn.shares_ms()
        assert [each["stage"] for each in made["spans"]] == [span.stage for span in turn.spans]
        assert len(made["hops"]) == len(hops(turn))
        assert [
            (round(each["at_ms"] * 1e6) + turn.origin_ns, each["stage"].upper(), each["daemon"], each["arg"])
            for each in made["marks"]
        ] == [(mark.t_ns, mark.stage.name, mark.daemon, mark.arg) for mark in turn.marks]
    path.write_text(json.dumps(written, indent=4), "utf-8")
    rows = list(tabular.read_json(path))
    fields = ("begun_s", "conversation", "typed", "outcome", "complete", "first_audio_ms")
    for turn, row in zip(turns, rows, strict=True):
        assert [getattr(row, name) for name in fields] == [getattr(turn, name) for name in fields]
        assert (bytes.fromhex(row.rid), row.shares_ms()) == (turn.rid, turn.shares_ms())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not what `timmy latency export --json` writes"),
        (b"\xff\xfe", "not what `timmy latency export --json` writes"),
        (b"rid,begun\n", "not what `timmy latency export --json` writes"),
        (b'{"version":1}', "missing required field `turns`"),
        (b'{"version":1,"turns":[{"rid":"00"}]}', "begun_s"),
        (b'{"version":1,"turns":[{"rid":7}]}', r"\$\.turns\[0\]\.rid"),
        (
            b'{"version":1,"turns":[{"rid":"00","begun_s":1,"conversation":"","typed":false,"outcome":"answered",'
            b'"complete":true,"first_audio_ms":1,"shares_ms":{"http":1}}]}',
            "turn 00 has other stages than this version of Timmy",
        ),
        (b'{"version":2,"turns":{}}', "written by a newer version of Timmy"),
        (b'{"version":1,"turns":' + b"[" * 100_000, "not what"),
    ],
)
def test_what_is_no_export_is_said_in_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "turns.json"
    path.write_bytes(content)
    with pytest.raises(tabular.ExportError, match=said) as raised:
        tabular.read_json(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_opened_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(tabular.ExportError, match="No such file"):
        tabular.read_json(tmp_path / "none")
    with pytest.raises(tabular.ExportError, match="Is a directory"):
        tabular.read_json(tmp_path)
