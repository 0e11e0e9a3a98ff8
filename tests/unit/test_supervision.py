"""When daemons are started, given up, ended and killed, on a clock of its own."""

from __future__ import annotations

from ipc.errors import EXIT_CONFIG
from tools.supervision import (
    DELAY_MAX_S,
    FIRST_DELAY_S,
    GRACE_S,
    STEADY_S,
    WATCHDOG_S,
    Abort,
    Effect,
    Kill,
    Say,
    Start,
    Supervision,
    Terminate,
    ending,
)


def _begun(*names: str) -> Supervision:
    core = Supervision(names)
    assert core.begin(0.0) == [Start(name) for name in names]
    return core


def _said(effects: list[Effect]) -> list[str]:
    return [f"{effect.name}: {effect.text}" for effect in effects if isinstance(effect, Say)]


def test_all_ready_when_each_has_said_so() -> None:
    core = _begun("stt", "tts")
    assert _said(core.notified("stt", "STATUS=loading", 0.0)) == ["stt: loading"]
    assert core.notified("stt", "STATUS=loading", 0.0) == []
    assert _said(core.notified("stt", "READY=1\nSTATUS=ready", 0.0)) == ["stt: ready"]
    assert not core.all_ready()
    assert _said(core.notified("tts", "READY=1\nSTATUS=no speaker", 0.0)) == ["tts: ready, but no speaker"]
    assert core.all_ready()
    assert core.notified("tts", "READY=1", 0.0) == []
    assert core.notified("tts", "STOPPING=1", 0.0) == []


def test_one_that_dies_starts_again_later_and_later() -> None:
    core = _begun("llm")
    now, delays = 0.0, []
    for _ in range(8):
        assert "was killed by SIGSEGV; starts again in" in _said(core.exited("llm", -11, now))[0]
        assert not core.all_ready()
        delays.append(core.next_due_s - now)
        assert core.tick(core.next_due_s - 0.01) == []
        now = core.next_due_s
        assert core.tick(now) == [Start("llm")]
    assert delays == [FIRST_DELAY_S * 2**n for n in range(6)] + [DELAY_MAX_S] * 2


def test_one_that_ran_steadily_starts_again_at_once() -> None:
    core = _begun("llm")
    core.exited("llm", 1, 0.0)
    core.tick(core.next_due_s)
    core.exited("llm", 1, 1.0)
    started = core.next_due_s
    core.tick(started)
    core.exited("llm", 1, started + STEADY_S)
    assert core.next_due_s == started + STEADY_S + FIRST_DELAY_S


def test_one_that_ends_by_itself_starts_again() -> None:
    core = _begun("llm")
    assert _said(core.exited("llm", 0, 1.0)) == ["llm: ended with status 0; starts again in 0.25 s"]


def test_a_wrong_configuration_is_not_tried_again() -> None:
    core = _begun("llm", "tts")
    core.notified("llm", "STATUS=model 'x' is not here", 0.0)
    assert _said(core.exited("llm", EXIT_CONFIG, 1.0)) == ["llm: cannot work as it is set up; not started again"]
    assert core.failed == {"llm": "model 'x' is not here"}
    assert core.next_due_s == float("inf")
    assert core.tick(1e6) == []


def test_stopping_ends_all_and_starts_nothing() -> None:
    core = _begun("stt", "llm", "tts", "memory")
    core.notified("stt", "READY=1", 0.0)
    core.exited("tts", 1, 1.0)
    core.exited("memory", EXIT_CONFIG, 1.0)
    assert core.stop(2.0) == [Terminate("stt"), Terminate("llm")]
    assert core.exited("stt", 0, 2.1) == []
    assert not core.all_over()
    assert core.exited("llm", -15, 2.2) == []
    assert core.all_over()
    assert core.tick(1e6) == []


def test_one_that_does_not_end_is_killed_once() -> None:
    core = _begun("llm")
    core.stop(10.0)
    assert core.tick(10.0 + GRACE_S - 0.01) == []
    assert core.tick(10.0 + GRACE_S)[-1] == Kill("llm")
    assert core.tick(10.0 + 2 * GRACE_S) == []
    core.exited("llm", -9, 13.0)
    assert core.all_over()


def test_one_whose_work_stands_still_is_aborted_and_started_again() -> None:
    core = _begun("llm")
    core.notified("llm", "WATCHDOG=1", 1.0)
    assert core.next_due_s == float("inf"), "loading has its own limit"
    core.notified("llm", "READY=1", 5.0)
    core.notified("llm", "WATCHDOG=1", 25.0)
    assert core.tick(5.0 + WATCHDOG_S) == []
    hung_s = 25.0 + WATCHDOG_S
    assert core.tick(hung_s) == [Say("llm", "hangs: its work stands still since 60 s; aborted"), Abort("llm")]
    assert not core.all_ready()
    core.notified("llm", "WATCHDOG=1", hung_s + 0.1)
    assert core.tick(hung_s + GRACE_S)[-1] == Kill("llm")
    assert _said(core.exited("llm", -9, hung_s + 3)) == ["llm: was killed by SIGKILL; starts again in 0.25 s"]
    assert core.tick(core.next_due_s) == [Start("llm")]


def test_one_that_hangs_can_be_stopped() -> None:
    core = _begun("llm")
    core.notified("llm", "READY=1", 0.0)
    core.tick(WATCHDOG_S)
    assert core.stop(WATCHDOG_S) == [Terminate("llm")]
    core.exited("llm", -6, WATCHDOG_S + 1)
    assert core.all_over()


def test_how_a_process_ended() -> None:
    assert ending(3) == "ended with status 3"
    assert ending(-9) == "was killed by SIGKILL"
    assert ending(-63) == "was killed by signal 63"
