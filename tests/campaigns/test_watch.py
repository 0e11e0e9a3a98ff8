"""The watch and the account that all campaigns share: they see what they are there for, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from ipc import limits
from ipc.codec import Message
from ipc.ids import new_rid
from ipc.messages import Body, Cancelled, ChatMessage, Done, Generate, Token
from tests.campaigns.ledger import Ledger
from tests.campaigns.subject import Subject, subject
from tests.campaigns.watch import Watch
from tests.socket.rig import RawClient, Wire


def _torment(daemon: Subject, kind: str) -> None:
    """One bad message, or a request that its caller leaves without a word."""

    async def torment() -> None:
        async with RawClient(Wire(daemon.folder)) as raw:
            await raw.hello()
            if kind == "bad":
                raw.frames(b"garbage")
            else:
                asked = Generate(messages=[ChatMessage(role="user", content="Well?")], max_tokens=4096)
                raw.say(rid := new_rid(), asked, epoch=2)
                await raw.answers(rid, limits.CREDIT_EVENTS)  # now it waits for credit

    asyncio.run(torment())


@pytest.mark.parametrize("kind", ["bad", "left"])
def test_a_daemon_that_bears_it_is_praised(kind: str) -> None:
    with subject("llm") as daemon, Watch(daemon.folder, "llm", calm_s=0.3) as watch:
        _torment(daemon, kind)
        found = watch.verdict()
        daemon.check_log()
    assert found["pings"] > 0
    assert found["MB at most"] < 10


@pytest.mark.parametrize(
    ("fault", "kind", "what"),
    [
        ("dies", "bad", "llm could not be asked for"),
        ("blocks", "bad", r"llm let a ping wait for 1\.[1-9] s|llm could not be asked for"),
        ("hoards", "bad", r"llm grew by 6\d MB"),
        ("keeps", "left", "llm keeps 1 requests although their callers are gone"),
    ],
)
def test_a_planted_fault_is_seen(fault: str, kind: str, what: str) -> None:
    with subject("llm", fault) as daemon, Watch(daemon.folder, "llm", calm_s=0.3) as watch:
        _torment(daemon, kind)
        with pytest.raises(AssertionError, match=what):
            watch.verdict()


def test_what_may_stand_still_is_timed() -> None:
    with subject("llm") as daemon, Watch(daemon.folder, "llm", calm_s=0.3) as watch:
        os.kill(daemon.pid, signal.SIGSTOP)
        while not watch.figures()["llm"].silences:
            time.sleep(0.05)
        os.kill(daemon.pid, signal.SIGCONT)
        assert watch.verdict(may_die=frozenset({"llm"}))["ms at most"] > 1500


# --- the account ---------------------------------------------------------------------------------------------


def _said(body: Body, rid: bytes = bytes(16), epoch: int = 1) -> Message:
    return Message(rid, 0, epoch, 0, body)


def test_requests_that_end_once_are_in_order() -> None:
    ledger = Ledger()
    ledger.asked(bytes(16), 1)
    ledger.asked(bytes(16), 2)
    for message in (_said(Token(text="a", t_ns=0)), _said(Cancelled(reason="")), _said(Done(), epoch=2)):
        ledger.came(message)
    ledger.check()
    assert ledger.items == 1
    assert len(ledger.ended) == 2


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ([Done(), Done()], "done after done"),
        ([Done(), Token(text="a", t_ns=0)], "token after done"),
        ([Token(text="a", t_ns=0)], "1 requests without an end"),
    ],
)
def test_requests_that_do_not_are_seen(messages: list[Body], what: str) -> None:
    ledger = Ledger()
    ledger.asked(bytes(16), 1)

    def account() -> None:
        for body in messages:
            ledger.came(_said(body))
        ledger.check()

    with pytest.raises(AssertionError, match=what):
        account()


def test_an_answer_that_nobody_asked_for_is_seen() -> None:
    with pytest.raises(AssertionError, match="that nobody made"):
        Ledger().came(_said(Done()))
