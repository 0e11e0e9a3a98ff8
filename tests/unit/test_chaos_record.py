"""What a record of a run is blamed for, and what not."""

from __future__ import annotations

import pytest

from tools.chaos.plan import BadHop, Engine, Kill, Stop
from tools.chaos.record import Applied, Death, Question, Record, Silence, due_s, problems

KILL = Kill(at=2, daemon="llm")
STOP = Stop(at=3, daemon="llm", seconds=2)


def well(step: Kill | Stop | BadHop | Engine, began_s: float, ended_s: float, after_s: float = 1.0) -> Applied:
    return Applied(step, began_s, ended_s, ready_s=ended_s + after_s, answered_s=ended_s + after_s)


def done(at_s: float) -> Question:
    return Question(at_s, at_s + 0.1, "done")


def failed(at_s: float, ended_s: float) -> Question:
    return Question(at_s, ended_s, "error", "deadline", "too late")


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (Record(), []),
        (Record(applied=[well(KILL, 2, 2)], deaths=[Death("llm", 7, 2.1)]), []),
        (Record(deaths=[Death("llm", 7, 2.1)]), ["llm (process 7) died at 2.1 s without being killed"]),
        (
            Record(applied=[well(KILL, 2, 2)], deaths=[Death("tts", 7, 2.1)]),
            ["tts (process 7) died at 2.1 s without being killed"],
        ),
        (
            Record(applied=[well(KILL, 2, 2)], deaths=[Death("llm", 7, 9.0)]),
            ["llm (process 7) died at 9.0 s without being killed"],
        ),
        (Record(silences=[Silence("llm", 3, 3.9)]), []),
        (Record(silences=[Silence("llm", 3, 4.5)]), ["llm let a ping wait for 1.5 s at 3.0 s"]),
        (Record(applied=[well(STOP, 3, 5)], silences=[Silence("llm", 3, 5.1)]), []),
        (
            Record(applied=[well(STOP, 3, 5)], silences=[Silence("tts", 3, 5.1)]),
            ["tts let a ping wait for 2.1 s at 3.0 s"],
        ),
        (Record(grown={"llm": 49_000_000}), []),
        (Record(grown={"llm": 51_000_000}), ["llm grew by 51 MB"]),
        (Record(left_open={"llm": 1, "tts": 0, "stt": -1}), ["llm keeps 1 requests whose callers have gone"]),
        (Record(doubled=["generate 1 at llm"]), ["generate 1 at llm had more than one end"]),
        (Record(unended=["generate 1 at llm"]), ["generate 1 at llm had no end"]),
        (Record(applied=[well(KILL, 2, 2)], questions=[failed(1.9, 2.2), done(4)]), []),
        (
            Record(applied=[well(KILL, 2, 2)], questions=[failed(3.1, 4)]),
            ["1 questions failed while nothing was wrong, the first at 3.1 s: too late"],
        ),
        (
            Record(applied=[Applied(KILL, 2, 2, ready_s=3)]),
            ["kill llm at 2.0 s: not recovered, no answer came"],
        ),
        (
            Record(applied=[Applied(KILL, 2, 2, answered_s=3)]),
            ["kill llm at 2.0 s: not recovered, not all daemons were ready"],
        ),
        (Record(applied=[well(KILL, 2, 2, 6)]), ["kill llm at 2.0 s: not recovered, only after 6.0 s"]),
        (
            Record(applied=[Applied(KILL, 2, 2, trouble="could not be brought about")]),
            ["kill llm: could not be brought about"],
        ),
    ],
)
def test_what_is_wrong(record: Record, found: list[str]) -> None:
    assert problems(record, 5.0) == found


def test_a_fault_that_comes_meanwhile_puts_recovery_off() -> None:
    first, second, third = well(KILL, 2, 2), well(STOP, 4, 8), well(KILL, 30, 30)
    assert due_s(first, [first, second, third], 5.0) == 13.0
    assert due_s(second, [first, second, third], 5.0) == 13.0
    assert due_s(first, [first], 5.0) == 7.0


def test_an_engine_may_die_when_it_is_told_to_and_only_then() -> None:
    die = Engine(at=2, daemon="llm", seconds=1, fault="die")
    hang = Engine(at=2, daemon="llm", seconds=1, fault="hang")
    death = Death("llm", 7, 2.5)
    assert problems(Record(applied=[well(die, 2, 3)], deaths=[death]), 5.0) == []
    assert problems(Record(applied=[well(hang, 2, 3)], deaths=[death]), 5.0) != []
