"""`timmy chaos` sees what is broken: daemons with planted faults, under a plan that knows nothing of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.suite import EXAMPLES
from tools.chaos.plan import read
from tools.cli import cli
from tools.harness import Place

CALM = """
about = "Nothing happens."
seconds = 4
recover_s = 8
load = {per_second = 4, aloud = false, patience_s = 4}
"""
KILL = '[[fault]]\nat = 2\ndo = "kill"\ndaemon = "llm"\n'


def chaos(tmp_path: Path, text: str, *options: str) -> Result:
    plan = tmp_path / "plan.toml"
    plan.write_text(text)
    return CliRunner().invoke(cli, ["chaos", str(plan), *options])


@pytest.fixture
def plant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The llm daemon has the fault that the test names."""
    fault = str(request.param)
    honest = Place.command

    def command(place: Place, name: str, limits: Mapping[str, int]) -> list[str]:
        given = honest(place, name, limits)
        if name != "llm":
            return given
        return [sys.executable, "-m", "tests.support.planted_daemon", fault, name, given[-1]]

    monkeypatch.setattr(Place, "command", command)
    return fault


@pytest.mark.parametrize(
    ("plant", "plan", "problem"),
    [
        ("no end", CALM, "had no end"),
        ("two ends", CALM, "had more than one end"),
        ("dies", CALM, "died at"),
        ("blocks", CALM, "llm let a ping wait for "),
        ("grows", CALM, "llm grew by 1"),
        ("stays dead", CALM + KILL, "kill llm at 2.0 s: not recovered"),
    ],
    indirect=["plant"],
)
def test_a_planted_fault_is_seen(tmp_path: Path, plant: str, plan: str, problem: str) -> None:
    result = chaos(tmp_path, plan, "--json")
    assert result.exit_code == 1, result.output
    problems = json.loads(result.stdout)["problems"]
    assert any(problem in line for line in problems), problems


@pytest.mark.parametrize("plant", ["none"], indirect=True)
def test_without_a_fault_nothing_is_wrong(tmp_path: Path, plant: str) -> None:
    result = chaos(tmp_path, CALM, "--json")
    assert json.loads(result.stdout)["problems"] == []
    assert result.exit_code == 0


MANY = (
    CALM
    + KILL
    + """
[[fault]]
at = 0.5
do = "hop"
daemon = "memory"
seconds = 1
delay_ms = 20
drop = 0.1

[[fault]]
at = 1
do = "disk_full"
seconds = 1

[[fault]]
at = 1.5
do = "limit"
daemon = "stt"
what = "memory"
room = 50
seconds = 0.5

[[fault]]
at = 2
do = "stop"
daemon = "tts"
seconds = 1.5

[[fault]]
at = 3
do = "clock"
daemon = "memory"
step_s = 3600
seconds = 0.5

[[fault]]
at = 3
do = "engine"
daemon = "memory"
slow_ms = 5
seconds = 0.5
"""
)


def test_what_broke_and_what_recovered_is_told(tmp_path: Path) -> None:
    result = chaos(tmp_path, MANY, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [fault["fault"] for fault in told["faults"]] == [
        "hop to memory: delay_ms 20, drop 0.1",
        "disk full",
        "limit memory of stt: 50 more",
        "kill llm",
        "stop tts",
        "clock of memory: +3600 s",
        "engine of memory: 5 ms slower",
    ]
    assert all(fault["ready_after_s"] is not None for fault in told["faults"])
    assert all(fault["answered_after_s"] > 0 for fault in told["faults"])
    assert [death["daemon"] for death in told["deaths"]] == ["llm"]
    assert any(silence["daemon"] == "tts" for silence in told["silences"])
    assert told["questions"]["answered"] > 0


def test_a_person_gets_a_table(tmp_path: Path) -> None:
    result = chaos(tmp_path, CALM + KILL)
    assert result.exit_code == 0, result.output
    assert "kill llm  2.0" in result.stdout
    assert "all recovered, and every promise was kept" in result.stdout
    assert "kill llm: all well again" in result.stderr


@pytest.mark.parametrize("path", sorted((EXAMPLES / "chaos").glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_are_plans(path: Path) -> None:
    assert read(path).fault


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seconds = 4", "missing required field `about`"),
        (CALM + "[[fault]]\nat = 1", "missing required field `do`"),
        (CALM + KILL.replace("kill", "kil"), "Invalid value 'kil'"),
        (CALM + KILL.replace("llm", "lm"), "fault 1: daemon: Invalid enum value 'lm';"),
        (CALM + KILL + "seconds = 3", "fault 1: it happens in a moment: leave `seconds` out"),
        (CALM + KILL.replace("kill", "stop"), "fault 1: say how long it lasts"),
        (CALM + KILL.replace("at = 2", "at = 9"), "fault 1: it would come after the end: the plan lasts 4 s"),
        (CALM + KILL + KILL + "colour = 3", "fault 2: Object contains unknown field `colour`"),
        (
            CALM + KILL.replace("kill", "engine") + 'seconds = 1\nfault = "nan"',
            "the engine of llm knows no fault 'nan'",
        ),
        (CALM + KILL.replace("kill", "hop") + 'seconds = 1\ntypes = ["x"]', "there is no message 'x'"),
        (CALM + KILL.replace("kill", "hop") + "seconds = 1\ndrop = 2", "Expected `float` <= 1"),
        (CALM.replace("per_second", "per_secnd"), "load: Object contains unknown field `per_secnd`"),
        ("about = ", "Invalid value"),
    ],
)
def test_a_plan_that_cannot_be_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    result = CliRunner().invoke(cli, ["chaos", str(tmp_path / "none.toml")])
    assert "No such file" in str(result.exception)
    result = chaos(tmp_path, text)
    assert line in str(result.exception)
    assert "\n" not in str(result.exception)


def test_real_engines_take_no_orders(tmp_path: Path) -> None:
    text = CALM + KILL.replace("kill", "engine") + 'seconds = 1\nfault = "hang"'
    result = chaos(tmp_path, text, "--engines", "real")
    assert "engine of llm: hang: only fake engines take such orders" in str(result.exception)
