"""Every request ends in exactly one terminal, whatever the caller or the handler does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from ipc import limits
from ipc.call import Call
from ipc.errors import CallCancelled, CallError, Code, DeadlineExceeded, LocalProtocolError, PeerGone, TimmyError
from ipc.ids import new_rid
from ipc.messages import (
    Cancel,
    Cancelled,
    Done,
    Error,
    Generate,
    Ping,
    Pong,
    Recall,
    Recalled,
    Result,
    Spoken,
    Token,
)
from tests.socket.rig import (
    GENERATED,
    Blocked,
    RawClient,
    Wire,
    prompt,
    run,
    tokens,
    until,
)

# --- ends --------------------------------------------------------------------------------------------------


def test_a_cancel_stops_the_handler_and_is_final(wire: Wire) -> None:
    async def test() -> None:
        cleaned = asyncio.Event()

        async def pour(call: Call) -> Result:
            try:
                while True:
                    await call.send(Token(text="a", t_ns=0))
            finally:
                await asyncio.sleep(0)
                cleaned.set()

        async with wire.pair({Generate: pour}) as (server, client):
            stream = client.open(prompt(1))
            await anext(stream)
            stream.cancel("enough")
            with pytest.raises(CallCancelled, match="enough"):
                await anext(stream)
            with pytest.raises(CallCancelled, match="enough"):
                await stream.result()
            await cleaned.wait()
            await until(lambda: server.requests_open == 0)
            stream.cancel("again")
            stream.end()

    run(test())


@pytest.mark.parametrize("ends", [Cancel(reason="enough"), None], ids=["cancel", "deadline"])
def test_what_must_be_over_by_the_end_is_over_before_the_caller_is_told(wire: Wire, ends: Cancel | None) -> None:
    async def test() -> None:
        listeners: list[Call] = []
        blocked = Blocked()

        def generate(call: Call) -> Awaitable[Result]:
            listeners.append(call)
            return Blocked()(call)

        def say_the_last() -> None:
            listeners[0].offer(Token(text="the last", t_ns=0))

        def recall(call: Call) -> Awaitable[Result]:
            call.before_cut = say_the_last
            return blocked(call)

        async with wire.server({Generate: generate, Recall: recall}), RawClient(wire) as raw:
            await raw.hello()
            listening, asking = new_rid(), new_rid()
            raw.say(listening, prompt(1))
            raw.say(asking, Recall(text="a", limit=1), ttl_ms=5000 if ends else 50)
            await blocked.started.wait()
            if ends:
                raw.say(asking, ends, seq=1)
            await until(lambda: any(message.rid == asking for message in raw.got))
            told = [type(message.body) for message in raw.got if message.rid in (listening, asking)]
            assert told == [Token, Cancelled if ends else Error]

    run(test())


def test_a_request_cancelled_before_its_handler_began(wire: Wire) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.server({Recall: blocked}) as server, RawClient(wire) as raw:
            await raw.hello()
            rid = new_rid()
            raw.say(rid, Recall(text="a", limit=1))
            raw.say(rid, Cancel(reason="never mind"), seq=1)
            terminals = await raw.answers(rid)
            assert [type(message.body) for message in terminals] == [Cancelled]
            await until(lambda: server.requests_open == 0)

    run(test())


def test_a_caller_that_is_cancelled_cancels_its_request(wire: Wire) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.pair({Recall: blocked}) as (_, client):
            asking = asyncio.create_task(client.request(Recall(text="a", limit=1)))
            await blocked.started.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await blocked.cancelled.wait()

    run(test())


def test_a_deadline_ends_the_request_at_the_server(wire: Wire) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.pair({Recall: blocked}) as (server, client):
            with pytest.raises(DeadlineExceeded, match="recall took longer than 20 ms"):
                await client.request(Recall(text="a", limit=1), ttl_ms=20)
            assert blocked.cancelled.is_set()
            assert server.requests_open == 0

    run(test())


def test_a_deadline_that_was_met_ends_nothing(wire: Wire) -> None:
    async def test() -> None:
        async with wire.server({Generate: tokens}) as _, RawClient(wire) as raw:
            await raw.hello()
            rid = new_rid()
            raw.say(rid, prompt(1), ttl_ms=60)
            await raw.answers(rid, 2)
            await asyncio.sleep(0.15)
            assert [type(message.body) for message in await raw.answers(rid)] == [Token, type(GENERATED)]

    run(test())


def test_a_higher_epoch_supersedes(wire: Wire) -> None:
    async def test() -> None:
        cancelled = asyncio.Event()

        async def pour(call: Call) -> Result:
            try:
                while call.body.max_tokens:
                    await call.send(Token(text="old", t_ns=0))
            except asyncio.CancelledError:
                cancelled.set()
                raise
            await call.send(Token(text="new", t_ns=0))
            return GENERATED

        async with wire.pair({Generate: pour}) as (server, client):
            rid = new_rid()
            older = client.open(prompt(1), rid=rid)
            await anext(older)
            newer = client.open(prompt(0), rid=rid)
            assert newer.epoch > older.epoch
            with pytest.raises(CallCancelled, match="superseded"):
                await older.result()
            assert [item.text async for item, _ in newer if isinstance(item, Token)] == ["new"]
            assert await newer.result() == GENERATED
            await cancelled.wait()
            assert server.requests_open == 0

    run(test())


def test_one_rid_serves_many_requests_one_after_the_other(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({}) as (_, client):
            rid = new_rid()
            for _ in range(5):
                assert isinstance(await client.request(Ping(), rid=rid), Pong)

    run(test())


# --- handlers that fail ----------------------------------------------------------------------------------


async def _raise(error: BaseException) -> Result:
    raise error


@pytest.mark.parametrize("late", [True, False], ids=["coroutine", "function"])
@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (CallError(Code.BUSY, "one at a time"), Code.BUSY, "one at a time"),
        (CallError(Code.ENGINE_FAILED, "x" * 9000), Code.ENGINE_FAILED, "x" * limits.TEXT_MAX_CHARS),
        (PeerGone("memory is down"), Code.UPSTREAM_DOWN, "memory is down"),
        (TimmyError("do this"), Code.INTERNAL, "do this"),
        (ZeroDivisionError("secret words"), Code.INTERNAL, "llm failed inside; its log says how"),
    ],
    ids=["call", "long", "upstream", "expected", "unexpected"],
)
def test_a_failing_handler_is_an_error_with_its_code(
    wire: Wire, error: Exception, code: Code, detail: str, late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(call: Call) -> Result:
        raise error

    async def test() -> None:
        async with wire.pair({Recall: (lambda call: _raise(error)) if late else fail}) as (_, client):
            with pytest.raises(CallError) as caught:
                await client.request(Recall(text="a", limit=1))
            assert (caught.value.code, str(caught.value)) == (code, detail)
            assert client.connected
            assert isinstance(await client.request(Ping()), Pong)

    run(test())
    assert ("ZeroDivisionError: secret words" in caplog.text) == isinstance(error, ZeroDivisionError)


def test_a_handler_may_end_as_cancelled(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({Recall: lambda call: _raise(CallCancelled("superseded upstream" * 9))}) as (_, client):
            with pytest.raises(CallCancelled, match=r"^superseded upstream"):
                await client.request(Recall(text="a", limit=1))

    run(test())


@pytest.mark.parametrize("late", [True, False], ids=["coroutine", "function"])
def test_a_handler_that_returns_no_result_has_failed(wire: Wire, late: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def none() -> None:
        return None

    async def test() -> None:
        async with wire.pair({Recall: lambda call: none() if late else None}) as (_, client):  # type: ignore[dict-item, return-value]
            with pytest.raises(CallError, match="failed inside"):
                await client.request(Recall(text="a", limit=1))

    run(test())
    assert "a handler returned NoneType, not a result" in caplog.text


@pytest.mark.parametrize(
    "result",
    [
        Recalled(memories=[], received_ns=-1, finished_ns=0),
        Spoken(clauses=2**70, audio_ms=0),
        Error(code=Code.INTERNAL, detail="x" * (limits.TEXT_MAX_CHARS + 1)),
    ],
    ids=["bounds", "integer", "text"],
)
def test_a_result_that_does_not_fit_the_wire_is_one_error(
    wire: Wire, result: Result, caplog: pytest.LogCaptureFixture
) -> None:
    def terminal(call: Call) -> Result:
        call.finish(result)  # as the server does with what a handler returns
        return Done()

    async def test() -> None:
        async with wire.server({Recall: terminal}) as _, RawClient(wire) as raw:
            await raw.hello()
            rid, after = new_rid(), new_rid()
            raw.say(rid, Recall(text="a", limit=1))
            raw.say(after, Ping())
            await raw.answers(after)
            (only,) = await raw.answers(rid)
            assert isinstance(only.body, Error)
            assert only.body.code is Code.INTERNAL
            assert "cannot be sent" in only.body.detail
            assert only.seq == 0

    run(test())
    assert "a result cannot be sent" in caplog.text


def test_an_item_that_does_not_fit_the_wire_fails_its_handler_and_nothing_else(wire: Wire) -> None:
    async def test() -> None:
        refused: list[str] = []

        async def careless(call: Call) -> Result:
            for text in ("a", "x" * (limits.TEXT_MAX_CHARS + 1), "\ud800", "b"):
                try:
                    await call.send(Token(text=text, t_ns=0))
                except LocalProtocolError as error:
                    refused.append(str(error))
            return GENERATED

        async with wire.pair({Generate: careless}) as (_, client):
            stream = client.open(prompt(1))
            assert [item.text async for item, _ in stream if isinstance(item, Token)] == ["a", "b"]
            assert await stream.result() == GENERATED
        assert len(refused) == 2

    run(test())


def test_a_helper_of_a_handler_does_not_outlive_its_request(wire: Wire) -> None:
    async def test() -> None:
        helpers: list[asyncio.Task[object]] = []

        async def forgetful(call: Call) -> Result:
            helpers.append(asyncio.ensure_future(anext(call)))
            await asyncio.sleep(0)
            return GENERATED

        async with wire.pair({Generate: forgetful}) as (_, client):
            await client.request(prompt(1))
            with pytest.raises(CallCancelled):
                await helpers[0]

    run(test())


def test_what_a_daemon_does_not_serve_is_a_bad_request(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({}) as (_, client):
            with pytest.raises(CallError, match="llm does not serve recall") as caught:
                await client.request(Recall(text="a", limit=1))
            assert caught.value.code is Code.BAD_REQUEST

    run(test())
