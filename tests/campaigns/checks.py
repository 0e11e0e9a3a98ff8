"""What is asked of a daemon to see that it is as it should be. Each check raises AssertionError when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from daemons.orders import Orders
from ipc import limits
from ipc.codec import Message
from ipc.errors import Code
from ipc.ids import new_rid
from ipc.marks import Stage
from ipc.messages import Attach, Body, Cancel, ChatMessage, Clause, CreditGrant, Generate, Speak, Spoken, Token
from ipc.session import TERMINALS
from tests.campaigns import storm
from tests.campaigns.altered import altered
from tests.campaigns.ledger import Ledger
from tests.campaigns.watch import Watch
from tests.socket.rig import RawClient, Wire
from tools.harness import Daemon, HarnessError
from tools.harness.processes import descriptors

PATIENCE_S = 2.0
"""For what never comes when there is a bug, and at once when there is none: a busy machine's share is in it."""
TEXT = " ".join(f"w{number}" for number in range(600))
ORDERS = Orders(text=TEXT)

Check = Callable[[str], None]


def question(tokens: int) -> Generate:
    return Generate(messages=[ChatMessage(role="user", content="Well?")], max_tokens=tokens)


async def _until(true: Callable[[], Any], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not true():  # noqa: ASYNC110 - a raw peer keeps what came and tells nobody
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(what) from None


def _raw(bug: str, talk: Callable[[Daemon, RawClient], Coroutine[Any, Any, None]]) -> None:
    """Talks to a model as a peer that follows no rules; at the end each request must have ended once."""

    async def run(daemon: Daemon) -> None:
        async with RawClient(Wire(daemon.place.run)) as raw:
            await raw.hello()
            del raw.got[:]
            await talk(daemon, raw)

    with altered(bug, "llm", ORDERS) as daemon:
        asyncio.run(run(daemon))


def _account(raw: RawClient, *asked: tuple[bytes, int]) -> Ledger:
    ledger = Ledger()
    for rid, epoch in asked:
        ledger.asked(rid, epoch)
    for message in raw.got:
        ledger.came(message)
    return ledger


def _of(raw: RawClient, rid: bytes, epoch: int = 1) -> list[Message]:
    return [message for message in raw.got if (message.rid, message.epoch) == (rid, epoch)]


def _terminal(raw: RawClient, rid: bytes, epoch: int = 1) -> Body | None:
    return next((m.body for m in _of(raw, rid, epoch) if m.body.KIND in TERMINALS), None)


async def _items(raw: RawClient, rid: bytes, count: int) -> None:
    await _until(lambda: len(_of(raw, rid)) >= count, f"fewer than {count} items came")


def whole(bug: str) -> None:
    """An answer of twenty words comes whole, in order and with one end."""

    async def talk(daemon: Daemon, raw: RawClient) -> None:
        raw.say(rid := new_rid(), question(20))
        await _until(lambda: _account(raw, (rid, 1)).ended, f"{rid.hex()}: no end")
        raw.say(second := new_rid(), question(0))
        await _until(lambda: _terminal(raw, second), "a second request has no end")  # what follows the first is there
        _account(raw, (rid, 1), (second, 1)).check()
        said = "".join(m.body.text for m in _of(raw, rid) if isinstance(m.body, Token))
        assert said == " ".join(TEXT.split()[:20]), f"the answer was {said!r}"

    _raw(bug, talk)


def credit(bug: str) -> None:
    """As many items come as were granted, not one more and not one less."""

    async def talk(daemon: Daemon, raw: RawClient) -> None:
        raw.say(rid := new_rid(), question(600))
        granted = limits.CREDIT_EVENTS
        for seq in range(1, 4):
            await _items(raw, rid, granted)
            raw.say(rid, CreditGrant(n=10), seq=seq)
            granted += 10
        await _items(raw, rid, granted)
        await asyncio.sleep(0.1)
        assert len(_of(raw, rid)) == granted, f"{len(_of(raw, rid))} items came for a credit of {granted}"
        raw.say(rid, Cancel(reason="enough"), seq=4)
        await _until(lambda: _terminal(raw, rid), "a cancel has no answer")
        _account(raw, (rid, 1)).check()

    _raw(bug, talk)


def late(bug: str) -> None:
    """A request whose time is up ends in `deadline`."""

    async def talk(daemon: Daemon, raw: RawClient) -> None:
        raw.say(rid := new_rid(), question(600), ttl_ms=200)
        await _until(lambda: _terminal(raw, rid), "a request outlives its time")
        assert getattr(_terminal(raw, rid), "code", None) is Code.DEADLINE, _terminal(raw, rid)

    _raw(bug, talk)


def epochs(bug: str) -> None:
    """What is said of a superseded request does not touch the newer one."""

    async def talk(daemon: Daemon, raw: RawClient) -> None:
        rid = new_rid()
        raw.say(rid, question(600), epoch=1)
        raw.say(rid, question(600), epoch=2)
        await _until(lambda: _terminal(raw, rid, 1), "a superseded request has no end")
        raw.say(rid, Cancel(reason="late"), epoch=1, seq=1)
        raw.say(other := new_rid(), Generate(messages=[], max_tokens=0), epoch=3)
        raw.say(other, Cancel(reason="enough"), epoch=3, seq=1)
        await _until(lambda: _terminal(raw, other, 3), "a request behind it has no end")
        assert _terminal(raw, rid, 2) is None, "a cancel of an older epoch ended the newer request"

    _raw(bug, talk)


def farewell(bug: str) -> None:
    """A daemon that is stopped tells its callers, takes its sockets with it, and can be started again."""

    async def open_one(daemon: Daemon) -> None:
        async with RawClient(Wire(daemon.place.run)) as raw:
            await raw.hello()
            raw.say(rid := new_rid(), question(600))
            await _until(lambda: _of(raw, rid), "no token")
            await asyncio.to_thread(daemon.end)
            await _until(lambda: _terminal(raw, rid), "its callers were not told that it went")

    with altered(bug, "llm", ORDERS) as daemon:
        asyncio.run(open_one(daemon))
        left = sorted(path.name for path in daemon.place.run.glob("llm*.sock"))
        assert not left, f"it left {', '.join(left)} behind"
        try:
            daemon.start()
        except HarnessError as error:
            raise AssertionError(f"it cannot be started again: {error}") from None


def flat(bug: str) -> None:
    """A hundred requests leave nothing behind: no descriptor, no memory, no loop that stood still, no mark lost."""
    with altered(bug, "llm", ORDERS) as daemon, Watch(daemon.place.run, "llm", calm_s=0.2) as watch:
        before, rids = descriptors(daemon.pid), []
        for _ in range(100):
            rids.append(daemon.ask(question(3)).rid)
        after = descriptors(daemon.pid)
        assert after < before + 20, f"it has {after - before} more descriptors open"
        watch.verdict()
        daemon.end()
        for stage in (Stage.RECEIVED, Stage.SENT):
            marked = {mark.rid for mark in daemon.place.marks(stage=stage)}
            lost = len(set(rids) - marked)
            assert not lost, f"{lost} marks {stage.name} of 100 are not there"


def left(bug: str) -> None:
    """What a caller that is gone had asked for does not stay open."""

    async def leave(daemon: Daemon) -> None:
        async with RawClient(Wire(daemon.place.run)) as raw:
            await raw.hello()
            raw.say(rid := new_rid(), question(600))
            await raw.answers(rid, limits.CREDIT_EVENTS)  # now it waits for credit

    with altered(bug, "llm", ORDERS) as daemon, Watch(daemon.place.run, "llm", calm_s=0.2) as watch:
        asyncio.run(leave(daemon))
        watch.verdict()


def clauses(bug: str) -> None:
    """Each clause that is sent is spoken."""
    with altered(bug, "tts") as daemon:
        attached = daemon.open(Attach(conversation="kitchen"))
        reply = daemon.ask(Speak(conversation="kitchen"), *[Clause(text="a")] * 10, ttl_ms=20_000)
        assert isinstance(reply.result, Spoken), reply
        assert reply.result.clauses == 10, f"{reply.result.clauses} of 10 clauses were spoken"
        attached.cancel()


def silence(bug: str) -> None:
    """What was cancelled, superseded or held is not heard."""
    storm.run(150, 1, bug)


CAUGHT_BY: Mapping[str, Check] = {
    "lost_terminal": whole,
    "second_terminal": whole,
    "item_after_terminal": whole,
    "wrong_rid": whole,
    "swallowed_cancel": credit,
    "deadline_ignored": late,
    "peer_gone_not_told": farewell,
    "left_request_kept": left,
    "lost_item": whole,
    "duplicated_token": whole,
    "lost_up_item": clauses,
    "credit_too_many": credit,
    "credit_too_few": credit,
    "old_epoch_heeded": epochs,
    "stale_epoch_played": silence,
    "held_sound_played": silence,
    "leaked_descriptor": flat,
    "growing_memory": flat,
    "blocked_loop": flat,
    "mark_dropped": flat,
}
"""The check that must find each bug of `tests.campaigns.bugs`."""
