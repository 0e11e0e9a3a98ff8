"""What counts as the same, and what is told of what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipc import messages as m
from ipc.errors import Code
from ipc.messages import Body
from tools.recording.again import Names, chosen, renewed, times_of
from tools.recording.asked import Asked
from tools.recording.compare import NoCounterpart, differences, matched, stages

ASK = m.Ask(conversation="c", text="Where?")
MS = 1_000_000


def asked(body: Body = ASK, *came: Body, daemon: str = "dialog", caller: str = "ask", under_way: bool = False) -> Asked:
    """A request, and what came: 10 ms after another."""
    made = Asked(daemon, 0, 1, caller, bytes(16), 1, 0, 0, body, under_way)
    for number, each in enumerate(came, 1):
        made.add(number * 10 * MS, each, b"")
    return made


def answered(said: str) -> m.Answered:
    return m.Answered(said=said, prompt_tokens=0, cached_tokens=0, completion_tokens=0, memories=0)


def report(turn: int, said: str, outcome: str = "answered") -> m.TurnReport:
    return m.TurnReport(
        conversation="c", turn=bytes([turn]) * 16, heard="?", said=said, outcome=outcome, detail="",
        first_audio_ms=None, stages=None, prompt_tokens=0, cached_tokens=0, completion_tokens=0, memories=0,
    )  # fmt: skip


def sounding(seconds: float) -> Asked:
    made = asked(m.Attach(conversation="c"))
    made.add(5, m.Sound(turn=bytes(16), t_ns=1, sample_rate=16_000), bytes(int(seconds * 32_000)))
    made.add(6, m.Cancelled(reason="over"), b"")
    return made


ERROR = m.Error(code=Code.BUSY, detail="later")


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        (asked(ASK, answered("a")), asked(ASK, answered("a")), []),
        (asked(ASK, answered("a")), asked(ASK, answered("b")), ["'a', now 'b'"]),
        (asked(ASK, answered("a")), asked(ASK, m.Delta(text="a"), answered("a")), ["nothing, now 'a'"]),
        (asked(ASK, ERROR), asked(ASK, ERROR), []),
        (asked(ASK, answered("")), asked(ASK, ERROR), ["answered, now error busy (later)", "'', now nothing"]),
        (
            asked(ASK, ERROR),
            asked(ASK, m.Error(code=Code.INTERNAL, detail="x")),
            ["error busy, now error internal (x)"],
        ),
        (asked(ASK, answered("")), asked(ASK), ["answered, now no end", "'', now nothing"]),
        (asked(ASK, m.Delta(text="a")), asked(ASK, answered("b")), []),
        (asked(ASK), asked(ASK, ERROR), ["went on, now error busy (later)"]),
        (sounding(2.0), sounding(1.6), []),
        (sounding(2.0), sounding(1.4), ["2.00 s of sound, now 1.40 s"]),
        (sounding(0.05), sounding(0.0), []),
    ],
)
def test_differences(then: Asked, now: Asked, told: list[str]) -> None:
    assert differences(then, now) == told


def test_a_turn_that_is_missing_does_not_shift_the_others() -> None:
    follow = m.Follow(conversation="c")
    then = asked(follow, report(1, "a"), report(2, "b"), report(3, "c"))
    now = asked(follow, report(8, "a"), report(9, "c"), report(7, "x", outcome="cancelled"))
    assert sorted(differences(then, now)) == ["'answered: b', now nothing", "'heard: ?', now nothing"]


def test_a_final_that_was_taken_back_is_replaced() -> None:
    def final(revision: int, text: str) -> m.TurnFinal:
        return m.TurnFinal(
            conversation="c", turn=bytes(16), revision=revision, text=text, last_voiced_ns=1, endpoint_ns=1,
            transcript_ns=1, sent_ns=1,
        )  # fmt: skip

    listened = asked(m.Listen(), final(1, "What is"), final(2, "What is this?"))
    assert (listened.texts, listened.answers) == (["heard: What is this?"], 1)


def test_times_are_those_between_what_was_sent_and_what_came() -> None:
    made = asked(
        m.Speak(conversation="c"), m.Clause(text="a"), m.ClauseReady(index=0, received_ns=1, started_ns=1, ready_ns=1)
    )
    made.add(50 * MS, m.End(), b"")
    made.add(90 * MS, m.Spoken(clauses=1, audio_ms=1), b"")
    assert made.waits_ms == {"dialog speak: first reply": [10.0], "dialog speak: end": [40.0]}
    pair = (made, asked(ASK, m.Delta(text="a")))
    told = {stage.name: (stage.then, stage.now) for stage in stages([pair])}
    assert told["dialog speak: end"] == ([40.0], [])
    assert told["dialog ask: first reply"] == ([], [10.0])


def test_counterparts_are_found_by_what_was_asked() -> None:
    first, second = asked(ASK), asked(ASK)
    other = asked(m.Ask(conversation="replay-1", text="When?"))
    here = [asked(m.Ask(conversation="c", text="When?")), asked(ASK), asked(ASK)]
    found = matched(here, [first, other, second], Path("b.rec"))
    assert [id(each) for each in found] == [id(other), id(first), id(second)]
    with pytest.raises(NoCounterpart, match=r"b\.rec has no such ask of dialog"):
        matched([*here, asked(ASK)], [first, other, second], Path("b.rec"))


def test_what_is_sent_again() -> None:
    outer = asked(ASK)
    inner = asked(m.Mute(conversation="c", from_ns=1, lease_ms=0), daemon="stt", caller="dialog")
    late, following = asked(ASK, under_way=True), asked(m.Follow(conversation="c"), under_way=True)
    everything = [outer, inner, late, following]
    assert chosen(everything, {"dialog", "stt"}) == ([outer, following], 1)
    assert chosen(everything, {"stt"}) == ([inner], 0)


def test_names_and_times_are_new() -> None:
    mute = m.Mute(conversation="a", from_ns=5, lease_ms=3)
    names = Names([asked(mute)])
    assert times_of(mute) == {"from_ns": 5}
    again = renewed(mute, names, {"from_ns": 9})
    assert isinstance(again, m.Mute)
    assert (again.from_ns, again.lease_ms, again.conversation) == (9, 3, names.conversation("a"))
    assert names.conversation("a") != names.conversation("b")
    assert names.rid(b"1" * 16) == names.rid(b"1" * 16) != names.rid(b"2" * 16)
    assert renewed(m.Ping(), names, {}) == m.Ping()
