"""Peers that break the rules or go away harm nobody else."""

from __future__ import annotations

import asyncio

import msgpack
import pytest

from ipc import codec, limits
from ipc.call import Call
from ipc.codec import Message
from ipc.errors import CallError, Code
from ipc.ids import new_rid
from ipc.messages import (
    Audio,
    Cancel,
    Cancelled,
    Done,
    End,
    Error,
    Feed,
    Generate,
    Ping,
    Pong,
    Recall,
    Result,
    Token,
)
from tests.socket.rig import (
    Blocked,
    RawClient,
    Wire,
    hello,
    prompt,
    refusals,
    run,
    until,
)

# --- peers that break the rules ----------------------------------------------------------------------------


def test_hello_comes_first(wire: Wire) -> None:
    async def test() -> None:
        async with wire.server() as _, RawClient(wire) as raw:
            rid, stray = new_rid(), new_rid()
            raw.say(stray, End(), seq=3)
            raw.say(rid, Ping())
            assert refusals(await raw.answers(rid)) == [Code.PEER_GONE]
            await raw.hello()
            raw.say(rid, Ping(), epoch=2)
            assert isinstance((await raw.answers(rid, 2))[1].body, Pong)
            assert stray not in [message.rid for message in raw.got]

    run(test())


def test_a_peer_of_another_version_is_told(wire: Wire) -> None:
    async def test() -> None:
        async with wire.server() as _, RawClient(wire) as raw:
            first, second, third = new_rid(), new_rid(), new_rid()
            raw.say(first, hello(2, 9))
            (answer,) = await raw.answers(first)
            assert isinstance(answer.body, Error)
            assert answer.body.code is Code.UNSUPPORTED_VERSION
            assert answer.body.detail == "llm speaks version 1, raw speaks 2 to 9"
            raw.say(second, Ping())
            assert refusals(await raw.answers(second)) == [Code.PEER_GONE]
            plain = msgpack.unpackb(codec.encode(Message(third, 0, 4, 0, hello()))[0])
            raw.frames(msgpack.packb({**plain, "v": 2}))
            (answer,) = await raw.answers(third)
            assert (refusals([answer]), answer.epoch, answer.seq) == ([Code.UNSUPPORTED_VERSION], 4, 0)

    run(test())


def test_an_unknown_type_is_told_and_the_connection_stays(wire: Wire) -> None:
    async def test() -> None:
        async with wire.server() as _, RawClient(wire) as raw:
            await raw.hello()
            rid, after = new_rid(), new_rid()
            plain = msgpack.unpackb(codec.encode(Message(rid, 0, 1, 0, Ping()))[0])
            raw.frames(msgpack.packb({**plain, "type": "teleport"}))
            assert refusals(await raw.answers(rid)) == [Code.UNKNOWN_TYPE]
            raw.say(after, Ping())
            assert isinstance((await raw.answers(after))[0].body, Pong)

    run(test())


def test_garbage_harms_nobody(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.pair({Recall: blocked}) as (_, client), RawClient(wire) as raw:
            asking = asyncio.create_task(client.request(Recall(text="a", limit=1)))
            await blocked.started.wait()
            await raw.hello()
            for frames in ([b""], [b"\xff" * 1000], [b"a", b"b", b"c"], [b"x"] * 50, [bytes(limits.PAYLOAD_MAX_BYTES)]):
                raw.frames(*frames)
            rid = new_rid()
            raw.say(rid, Ping())
            assert isinstance((await raw.answers(rid))[0].body, Pong)
            blocked.let_go.set()
            assert await asking == Done()

    run(test())
    first, summary = [line for line in caplog.messages if "broke the protocol" in line]
    assert first.startswith("llm: 'raw' (")
    assert summary.endswith("(the latest of 4 more)")


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ({"body": Audio(t_ns=0), "seq": 5}, Code.BAD_MESSAGE),
        ({"body": Audio(t_ns=0), "seq": 1, "epoch": 9}, Code.BAD_MESSAGE),
        ({"body": Token(text="", t_ns=0), "seq": 1}, Code.BAD_MESSAGE),
        ({"body": Done(), "seq": 1}, Code.BAD_MESSAGE),
    ],
    ids=["gap", "epoch", "item of the other side", "terminal of the other side"],
)
def test_a_lie_ends_its_request_with_exactly_one_error(wire: Wire, lie: dict[str, object], code: Code) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.server({Feed: blocked}) as server, RawClient(wire) as raw:
            await raw.hello()
            rid, after = new_rid(), new_rid()
            raw.say(rid, Feed(conversation="a"))
            await blocked.started.wait()
            raw.say(rid, **lie)  # type: ignore[arg-type]
            await raw.answers(rid)
            if "epoch" not in lie:
                await blocked.cancelled.wait()
                raw.say(rid, Audio(t_ns=0), seq=1)
                raw.say(rid, Cancel(reason=""), seq=2)
                assert server.requests_open == 0
            raw.say(after, Ping())
            await raw.answers(after)
            assert refusals(await raw.answers(rid)) == [code]

    run(test())


def test_more_items_than_credit_end_the_request(wire: Wire) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.server({Feed: blocked}) as server, RawClient(wire) as raw:
            await raw.hello()
            rid = new_rid()
            raw.say(rid, Feed(conversation="a"))
            await blocked.started.wait()
            for seq in range(1, limits.CREDIT_AUDIO + 2):
                raw.say(rid, Audio(t_ns=0), seq=seq, payload=b"pcm")
            assert refusals(await raw.answers(rid)) == [Code.OVER_QUOTA]
            await blocked.cancelled.wait()
            assert server.requests_open == 0

    run(test())


def test_too_many_open_requests_are_refused_one_by_one(wire: Wire) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.pair({Recall: blocked}) as (server, client):
            first = [client.open(Recall(text="a", limit=1)) for _ in range(limits.OPEN_REQUESTS_PER_PEER)]
            with pytest.raises(CallError, match="over 64 requests open") as caught:
                await client.open(Recall(text="a", limit=1)).result()
            assert caught.value.code is Code.OVER_QUOTA
            assert server.requests_open == limits.OPEN_REQUESTS_PER_PEER
            blocked.let_go.set()
            assert [await stream.result() for stream in first] == [Done()] * len(first)
            assert await client.request(Recall(text="a", limit=1)) == Done()

    run(test())


def test_a_rid_belongs_to_its_peer(wire: Wire) -> None:
    """A stranger who knows a rid can neither cancel, feed nor supersede the request of another peer."""

    async def test() -> None:
        blocked = Blocked()
        async with wire.pair({Recall: blocked}) as (server, client), RawClient(wire) as raw:
            rid = new_rid()
            asking = asyncio.create_task(client.request(Recall(text="a", limit=1), rid=rid))
            await blocked.started.wait()
            await raw.hello()
            for seq, body in enumerate((Cancel(reason=""), End(), Audio(t_ns=0)), 1):
                raw.say(rid, body, seq=seq)
            raw.say(rid, Recall(text="mine", limit=1), epoch=limits.SEQ_MAX)
            await until(lambda: blocked.calls == 2)
            assert server.requests_open == 2
            blocked.let_go.set()
            assert await asking == Done()
            (mine,) = await raw.answers(rid)
            assert mine.epoch == limits.SEQ_MAX

    run(test())


def test_a_repeated_request_is_not_carried_out_twice(wire: Wire) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.server({Recall: blocked}) as _, RawClient(wire) as raw:
            await raw.hello()
            rid, after = new_rid(), new_rid()
            for _ in range(3):
                raw.say(rid, Recall(text="a", limit=1))
            raw.say(after, Ping())
            await raw.answers(after)
            blocked.let_go.set()
            await raw.answers(rid)
            raw.say(rid, Recall(text="a", limit=1))
            raw.say(new_rid(), Ping())
            await until(lambda: len(raw.got) == 4)
            assert blocked.calls == 1

    run(test())


# --- peers that go away ------------------------------------------------------------------------------------


def test_a_peer_that_falls_silent_is_dropped(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(limits, "CLIENT_SILENCE_S", 0.2)
        blocked = Blocked()
        async with wire.server({Recall: blocked}) as server, RawClient(wire) as raw:
            await raw.hello()
            rid, after = new_rid(), new_rid()
            raw.say(rid, Recall(text="a", limit=1))
            await blocked.cancelled.wait()
            assert [message.body for message in await raw.answers(rid)] == [Cancelled(reason="the caller is gone")]
            raw.say(after, Ping())
            assert refusals(await raw.answers(after)) == [Code.PEER_GONE]
            assert server.requests_open == 0

    run(test())


def test_a_client_that_talks_is_not_dropped(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(limits, "CLIENT_SILENCE_S", 2.0)
        monkeypatch.setattr(limits, "PING_INTERVAL_S", 0.05)
        monkeypatch.setattr(limits, "IDLE_PING_INTERVAL_S", 0.1)
        lost: list[bool] = []
        async with wire.pair({}) as (_, client):
            client.on_lost = lambda: lost.append(True)
            await asyncio.sleep(3.5)
            assert client.connected
        assert not lost

    run(test())


def test_the_most_idle_peer_makes_room(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(limits, "PEERS_MAX", 2)
        blocked = Blocked()
        async with wire.server({Recall: blocked}) as server, RawClient(wire) as busy:
            await busy.hello()
            busy.say(new_rid(), Recall(text="a", limit=1))
            await blocked.started.wait()
            async with RawClient(wire) as idle, RawClient(wire) as new:
                await idle.hello()
                await new.hello()
                assert server.requests_open == 1
                rid = new_rid()
                idle.say(rid, Ping())
                assert refusals(await idle.answers(rid)) == [Code.PEER_GONE]

    run(test())


def test_a_peer_that_cannot_be_reached_loses_all_its_requests(wire: Wire) -> None:
    async def test() -> None:
        blocked, poured = Blocked(), asyncio.Event()

        async def pour(call: Call) -> Result:
            try:
                while True:
                    call.offer(Token(text="a", t_ns=0))
                    await asyncio.sleep(0.01)
            finally:
                poured.set()

        async with wire.server({Generate: pour, Recall: blocked}) as server:
            async with RawClient(wire) as raw:
                await raw.hello()
                raw.say(new_rid(), prompt(1))
                raw.say(new_rid(), Recall(text="a", limit=1))
                await until(lambda: server.requests_open == 2)
            await poured.wait()
            await blocked.cancelled.wait()
            assert server.requests_open == 0

    run(test())
