"""The harness: daemons alone and together, what it tells of them, and every fault that it can bring."""

from __future__ import annotations

import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ipc.endpoints import DAEMONS
from ipc.errors import EXIT_OK, Code
from ipc.marks import Stage
from ipc.messages import (
    Ask,
    ChatMessage,
    Clause,
    Generate,
    Ping,
    Recall,
    Release,
    Remember,
    Speak,
)
from tests.support.eventually import PATIENCE_S
from tools.harness import NO_FAULTS, Daemon, HarnessError, HopFaults, House, Orders

DOCS = Path(__file__).parent.parent.parent / "docs" / "harness.md"


def test_a_model_that_hangs_is_given_up_and_works_again() -> None:
    question = Generate(messages=[ChatMessage(role="user", content="Which city?")], max_tokens=8)
    with Daemon("llm") as llm:
        answer = llm.ask(question)
        assert (answer.outcome, answer.text) == ("done", "Paris it is.")
        assert llm.place.marked(Stage.FIRST_TOKEN, answer.rid)
        llm.engine(fault="hang", after=1)
        late = llm.ask(question, ttl_ms=500)
        assert (late.outcome, late.code, late.text) == ("error", Code.DEADLINE, "Paris")
        llm.engine(text="It is noon.")
        assert llm.ask(question).text == "It is noon."
        llm.kill()
        assert llm.ask(question).code is Code.PEER_GONE
        llm.start()
        assert llm.ask(question).outcome == "done"


def test_the_example_in_the_documentation_is_this_one() -> None:
    assert inspect.getsource(test_a_model_that_hangs_is_given_up_and_works_again) in DOCS.read_text("utf-8")


QUESTION = Generate(messages=[ChatMessage(role="user", content="Which city?")], max_tokens=8)


@pytest.mark.parametrize("name", DAEMONS)
def test_each_daemon_lives_alone_and_again(name: str) -> None:
    with Daemon(name) as daemon:
        first = daemon.status()
        assert (first.daemon, first.pid) == (name, daemon.pid)
        daemon.kill()
        assert not daemon.running
        daemon.start()
        assert daemon.status().pid == daemon.pid != first.pid
        assert daemon.end() == EXIT_OK
        daemon.start()
        root = daemon.place.root
    assert not root.exists()


def test_a_daemon_that_cannot_start_says_why() -> None:
    daemon = Daemon("llm", orders=Orders(fault="error"))
    with pytest.raises(HarnessError, match="llm ended: llm: the fake engine fails as it was told to"), daemon:
        pass  # pragma: no cover


def test_real_engines_take_no_orders_and_fakes_not_every_one() -> None:
    with Daemon("llm") as llm, pytest.raises(HarnessError, match="llm knows no fault 'nan', only none, error"):
        llm.engine(fault="nan")


def test_nobody_gets_fakes_by_accident(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The program with fakes does nothing without the file that only a harness makes."""
    done = subprocess.run([sys.executable, "-m", "daemons.llm.faked"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage" in done.stderr
    command = [sys.executable, "-m", "daemons.llm.faked", str(tmp_path / "none.json")]
    monkeypatch.setenv("TIMMY_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setenv("TIMMY_STATE", str(tmp_path / "state"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1


# --- engines ---


@pytest.mark.parametrize(
    ("fault", "outcome", "code", "text"),
    [
        ("error", "error", Code.ENGINE_FAILED, "Paris"),
        ("exception", "error", Code.INTERNAL, "Paris"),
        ("die", "error", Code.PEER_GONE, ""),
        ("empty", "done", None, "Paris"),
        ("bad_utf8", "done", None, "Paris  it  is. "),
        ("endless", "done", None, "Paris again again again again again again again"),
    ],
)
def test_what_a_model_does_to_its_callers(fault: str, outcome: str, code: Code | None, text: str) -> None:
    with Daemon("llm") as llm:
        llm.engine(fault=fault, after=1)
        reply = llm.ask(QUESTION)
        assert (reply.outcome, reply.code) == (outcome, code)
        assert reply.text == text or fault == "die"  # what it had in hand may die with it
        llm.engine()
        if fault == "die":  # its connection ends a moment before it does
            assert llm.wait_end() == -9
            llm.start()
        assert llm.ask(QUESTION).text == "Paris it is."


def test_a_token_of_a_million_characters() -> None:
    with Daemon("llm") as llm:
        llm.engine(fault="huge", after=1)
        reply = llm.ask(QUESTION)
        assert reply.outcome == "done"
        assert 1000 < len(reply.text) <= 8192


@pytest.mark.parametrize("fault", ["empty", "nan", "odd"])
def test_a_voice_that_makes_no_sound_ends_what_it_was_asked(fault: str) -> None:
    with Daemon("tts") as tts:
        tts.engine(fault=fault)
        reply = tts.ask(Speak(conversation="home"), Clause(text="Well."), Release())
        assert reply.outcome in ("done", "error")
        tts.engine()
        assert tts.ask(Speak(conversation="home"), Clause(text="Well.")).outcome == "done"


@pytest.mark.parametrize("fault", ["error", "exception", "nan"])
def test_an_embedder_that_fails(fault: str) -> None:
    with Daemon("memory") as memory:
        assert memory.ask(Remember(heard="The key is under the mat.", always=True)).outcome == "done"
        memory.engine(fault=fault)
        reply = memory.ask(Recall(text="Where is the key?", limit=3))
        assert reply.outcome == "error" or fault == "nan"
        memory.engine()
        assert memory.ask(Recall(text="Where is the key?", limit=3)).outcome == "done"


def test_a_blocked_loop_answers_nothing_until_it_is_free() -> None:
    with Daemon("dialog") as dialog:
        assert dialog.ask(Ping()).outcome == "done"
        dialog.engine(fault="block")
        assert _gets(lambda: dialog.ask(Ping(), ttl_ms=100).outcome != "done")
        dialog.engine()
        assert _gets(lambda: dialog.ask(Ping(), ttl_ms=1000).outcome == "done")


def test_a_step_of_the_wall_clock_reaches_what_is_remembered() -> None:
    with Daemon("memory") as memory:
        memory.engine(wall_clock_s=86_400.0)
        memory.ask(Remember(heard="The key is under the mat.", always=True))
        (found,) = memory.ask(Recall(text="Where is the key?", limit=3)).result.memories  # type: ignore[union-attr]
        assert found.created_s - time.time() > 80_000


def _gets(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if holds():
            return True
    return False


def test_a_daemon_dies_where_it_is_told_to_and_once() -> None:
    with Daemon("llm") as llm:
        llm.engine(die_at="FIRST_TOKEN")
        assert llm.ask(QUESTION).code is Code.PEER_GONE
        assert llm.wait_end() == -9
        llm.start()
        assert llm.ask(QUESTION).text == "Paris it is."


def test_ears_that_are_told_what_to_hear_still_know_what_they_are_checked_with() -> None:
    with Daemon("stt", orders=Orders(text="Something else.")) as stt:
        assert stt.status().state in ("ready", "degraded")


# --- hops ---


def test_what_a_hop_does_is_counted_and_heals() -> None:
    with Daemon("llm", hop=True) as llm:
        assert llm.ask(QUESTION).outcome == "done"
        lost = HopFaults(drop=1.0, types=frozenset({"generated"}))
        llm.hop.faults = lost
        assert llm.ask(QUESTION, ttl_ms=300).code is Code.DEADLINE
        assert llm.hop.counts["dropped"] == 1
        llm.hop.faults = NO_FAULTS
        assert llm.ask(QUESTION).text == "Paris it is."


@pytest.mark.parametrize(
    ("faults", "count"),
    [
        (HopFaults(duplicate=1.0, types=frozenset({"token"})), "duplicated"),
        (HopFaults(reorder=1.0, types=frozenset({"token"})), "reordered"),
        (HopFaults(corrupt=1.0, way="from_daemon"), "corrupted"),
        (HopFaults(drop=0.5, types=frozenset({"token"})), "dropped"),
    ],
)
def test_a_bad_hop_never_leaves_a_request_without_its_end(faults: HopFaults, count: str) -> None:
    """What comes twice, late, damaged or not at all breaks the rules of the wire, and the request ends by it."""
    with Daemon("llm", hop=True) as llm:
        llm.hop.faults = faults
        for _ in range(8):
            reply = llm.ask(QUESTION, ttl_ms=500)
            assert reply.outcome == "error" or reply.text == "Paris it is."
        assert llm.hop.counts[count] > 0
        llm.hop.faults = NO_FAULTS
        assert _gets(lambda: llm.ask(QUESTION).text == "Paris it is.")


def test_a_slow_hop_takes_its_time() -> None:
    with Daemon("llm", hop=True) as llm:
        llm.hop.faults = HopFaults(delay_ms=150)
        assert llm.ask(QUESTION).ms > 300
        llm.hop.faults = HopFaults(bytes_per_s=2000)
        assert llm.ask(QUESTION).ms > 150


def test_a_hop_that_is_held_gives_back_what_waited() -> None:
    with Daemon("llm", hop=True) as llm:
        llm.hop.faults = HopFaults(held=True, way="from_daemon")
        waiting = llm.open(QUESTION)
        assert llm.ask(Ping(), ttl_ms=100).code is Code.DEADLINE
        llm.hop.faults = NO_FAULTS
        assert waiting.reply().text == "Paris it is."


def test_a_hop_that_is_cut_is_a_peer_that_is_gone() -> None:
    with Daemon("llm", hop=True) as llm:
        llm.engine(fault="hang")
        asked = llm.open(QUESTION)
        llm.hop.cut()
        assert asked.reply().code is Code.PEER_GONE
        llm.engine()
        assert _gets(lambda: llm.ask(QUESTION).outcome == "done")


# --- all five ---


def test_the_house_answers_and_gets_back_who_was_killed() -> None:
    with House(hops=["llm", "dialog"]) as house:
        question = Ask(conversation="test", text="Which city?")
        assert house.ask("dialog", question).text == "Paris it is."
        assert house.hop("llm").counts["passed"] > 0
        old = house.kill("llm")
        house.until_back("llm", old)
        assert house.ask("dialog", question, ttl_ms=20_000).text == "Paris it is."
        house.engine("llm", text="It is noon.")
        assert house.ask("dialog", question).text == "It is noon."
        with house.stopped("memory"):
            assert house.ask("dialog", question, ttl_ms=20_000).outcome == "done"
        assert {mark.stage for mark in house.place.marks()} >= {Stage.HEARD, Stage.FIRST_TOKEN, Stage.ENDED}


def test_limits_hold_from_the_start_and_later() -> None:
    with Daemon("llm", limits={"nofile": 64}) as llm:
        assert "Max open files            64" in Path(f"/proc/{llm.pid}/limits").read_text("ascii")
        llm.limit("nofile", 50)
        assert "Max open files            50" in Path(f"/proc/{llm.pid}/limits").read_text("ascii")
