"""The client on both wires: deadlines, servers that lie, hang, stop or were never there, and healing."""

from __future__ import annotations

import asyncio
import time

import pytest

from ipc import limits
from ipc.client import Client
from ipc.errors import (
    EXIT_UNAVAILABLE,
    CallCancelled,
    CallError,
    Code,
    DeadlineExceeded,
    EndpointError,
    LocalProtocolError,
    PeerGone,
)
from ipc.ids import new_rid
from ipc.messages import (
    Cancelled,
    Clause,
    Done,
    Error,
    Generate,
    Kind,
    Ping,
    Pong,
    Recall,
    Speak,
    Token,
)
from tests.socket.rig import (
    GENERATED,
    HANG_S,
    Blocked,
    RawServer,
    Wire,
    echo_clauses,
    prompt,
    run,
    tokens,
    until,
)

QUESTION = Recall(text="a", limit=1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings and patience a tenth as long, so that a hang is noticed in a fraction of a second."""
    monkeypatch.setattr(limits, "PING_INTERVAL_S", 0.05)
    monkeypatch.setattr(limits, "IDLE_PING_INTERVAL_S", 0.16)
    monkeypatch.setattr(limits, "PEER_SILENCE_S", 0.3)


# --- a daemon that is not there ----------------------------------------------------------------------------


def test_a_daemon_that_is_not_there_is_said_so(wire: Wire) -> None:
    async def test() -> None:
        async with wire.client() as client:
            with pytest.raises(PeerGone, match=r"llm does not answer at .*: is it running\? \(timmy up\)") as caught:
                await client.request(Ping(), ttl_ms=50)
            assert caught.value.exit_status == EXIT_UNAVAILABLE
            with pytest.raises(PeerGone, match="llm is not connected"):
                client.open(Ping())
            assert not client.connected

    run(test())


@pytest.mark.parametrize("steps", range(4))
def test_who_is_cancelled_in_the_moment_the_daemon_comes_does_not_go_on(wire: Wire, steps: int) -> None:
    async def scene() -> None:
        client = Client("memory", "test", transport=wire.client_transport())
        waiting = asyncio.create_task(client.wait_connected())
        for _ in range(3):
            await asyncio.sleep(0)
        client._ready.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        if waiting.cancel():  # else it was done before
            with pytest.raises(asyncio.CancelledError):
                await waiting

    run(scene())


def test_a_request_waits_for_a_daemon_that_is_coming(wire: Wire) -> None:
    async def test() -> None:
        async with wire.client() as client:
            asking = [asyncio.create_task(client.request(Ping(), ttl_ms=ttl_ms)) for ttl_ms in (20_000, 0)]
            await asyncio.sleep(0.05)
            async with wire.server():
                for answer in await asyncio.gather(*asking):
                    assert isinstance(answer, Pong)

    run(test())


def test_waiting_for_the_connection_is_part_of_the_time_given(wire: Wire) -> None:
    async def test() -> None:
        async with wire.client() as client:
            asking = asyncio.create_task(client.request(QUESTION, ttl_ms=1500))
            await asyncio.sleep(0.2)
            async with RawServer(wire) as server:
                request = await server.heard(Kind.REQUEST)
                assert 1 <= request.ttl_ms <= 1300
                server.say(request, Done())
                assert await asking == Done()

    run(test())


# --- ends of a request -------------------------------------------------------------------------------------


def test_a_deadline_passes_without_a_word_of_the_server(wire: Wire) -> None:
    async def test() -> None:
        async with RawServer(wire) as server, wire.client() as client:
            await client.wait_connected(HANG_S)
            with pytest.raises(DeadlineExceeded, match="llm did not answer in time"):
                await client.request(QUESTION, ttl_ms=10)
            request, cancel = await server.heard(Kind.REQUEST), await server.heard(Kind.CANCEL)
            assert (cancel.rid, cancel.epoch, cancel.seq) == (request.rid, request.epoch, 1)
            server.say(request, Done())
            assert isinstance(await client.request(Ping()), Pong)

    run(test())


@pytest.mark.parametrize(
    ("terminal", "error"),
    [
        (Error(code=Code.DEADLINE, detail="d"), DeadlineExceeded),
        (Error(code=Code.PEER_GONE, detail="d"), PeerGone),
        (Error(code=Code.BUSY, detail="d"), CallError),
        (Cancelled(reason="d"), CallCancelled),
    ],
    ids=lambda value: getattr(value, "code", None) or getattr(value, "__name__", "cancelled"),
)
def test_each_terminal_is_its_own_exception(wire: Wire, terminal: Error | Cancelled, error: type[Exception]) -> None:
    async def test() -> None:
        async with RawServer(wire) as server, wire.client() as client:
            await client.wait_connected(HANG_S)
            asking = asyncio.create_task(client.request(QUESTION))
            server.say(await server.heard(Kind.REQUEST), terminal)
            with pytest.raises(error, match=r"^d$") as caught:
                await asking
            assert type(caught.value) is error

    run(test())


def test_a_stream_nobody_asks_for_its_end_makes_no_noise(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({}) as (_, client):
            client.open(QUESTION)
            await client.request(Ping())

    run(test())


def test_ending_a_stream_that_has_ended_does_nothing(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({Speak: lambda call: Done()}) as (_, client):
            stream = client.open(Speak(conversation="a"))
            assert await stream.result() == Done()
            stream.end()
            with pytest.raises(CallCancelled, match="has ended"):
                await stream.send(Clause(text="a"))
            assert [item async for item in stream] == []

    run(test())


def test_after_the_end_no_item_goes_out(wire: Wire) -> None:
    async def test() -> None:
        async with wire.pair({Speak: echo_clauses}) as (_, client):
            stream = client.open(Speak(conversation="a"))
            stream.end()
            stream.end()
            with pytest.raises(LocalProtocolError, match="clause cannot be sent: the request is ENDED"):
                await stream.send(Clause(text="a"))
            await stream.result()

    run(test())


def test_a_request_that_breaks_a_limit_is_refused_here(wire: Wire) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.pair({Recall: blocked}) as (_, client):
            rid = new_rid()
            older = client.open(QUESTION, rid=rid)
            for wrong in (Recall(text="x" * 9000, limit=1), Recall(text="a", limit=0)):
                with pytest.raises(LocalProtocolError, match="recall cannot be sent"):
                    client.open(wrong, rid=rid)
            with pytest.raises(LocalProtocolError, match="cannot open a request"):
                client.open(Clause(text="a"))
            blocked.let_go.set()
            assert await older.result() == Done(), "what did not go out superseded nothing"

    run(test())


def test_a_long_reason_is_cut_to_what_fits(wire: Wire) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.pair({Recall: blocked}) as (_, client):
            stream = client.open(QUESTION)
            await blocked.started.wait()
            stream.cancel("because " * 40)
            await blocked.cancelled.wait()

    run(test())


def test_two_clients_at_once(wire: Wire) -> None:
    async def test() -> None:
        async with wire.server({Generate: tokens}), wire.client() as first, wire.client() as second:
            for client in (first, second):
                await client.wait_connected(HANG_S)
            streams = [client.open(prompt(400)) for client in (first, second) * 3]

            async def read(number: int) -> list[str]:
                return [item.text async for item, _ in streams[number] if isinstance(item, Token)]

            heard = await asyncio.gather(*(read(number) for number in range(6)))
            assert heard == [[str(number) for number in range(400)]] * 6
            assert [await stream.result() for stream in streams] == [GENERATED] * 6

    run(test())


# --- servers that lie --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [1, limits.SEQ_MAX])
def test_a_broken_sequence_ends_the_request_and_nothing_else(wire: Wire, seq: int) -> None:
    async def test() -> None:
        async with RawServer(wire) as server, wire.client() as client:
            await client.wait_connected(HANG_S)
            stream = client.open(prompt(1))
            request = await server.heard(Kind.REQUEST)
            server.say(request, Token(text="a", t_ns=0), seq=seq)
            with pytest.raises(CallError, match="llm broke the protocol: seq") as caught:
                await stream.result()
            assert caught.value.code is Code.BAD_MESSAGE
            await server.heard(Kind.CANCEL)
            for late in range(3):
                server.say(request, Token(text="b", t_ns=0), seq=late)
            assert isinstance(await client.request(Ping()), Pong)
            with pytest.raises(CallError, match="broke the protocol"):
                await anext(stream)

    run(test())


def test_garbage_from_a_server_ends_nothing(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with RawServer(wire) as server, wire.client() as client:
            await client.wait_connected(HANG_S)
            stream = client.open(prompt(1))
            request = await server.heard(Kind.REQUEST)
            for frames in ([b""], [b"\xff" * 300], [b"a", b"b", b"c", b"d"]):
                server.frames(*frames)
            server.say(request, Token(text="a", t_ns=0))
            assert (await anext(stream))[0] == Token(text="a", t_ns=0)
            server.say(request, GENERATED, seq=1)
            assert await stream.result() == GENERATED

    run(test())
    assert caplog.text.count("llm broke the protocol") == 3


# --- servers that go, hang and come back -------------------------------------------------------------------


def test_a_server_that_stops_fails_what_is_open_and_its_successor_serves(wire: Wire) -> None:
    async def test() -> None:
        lost: list[bool] = []
        async with wire.client() as client:
            client.on_lost = lambda: lost.append(client.connected)
            for _ in range(3):
                blocked = Blocked()
                async with wire.server({Recall: blocked}) as server:
                    await client.wait_connected(HANG_S)
                    stream = client.open(QUESTION)
                    await blocked.started.wait()
                    await server.close()
                    with pytest.raises(PeerGone):
                        await stream.result()
                await until(lambda: not client.connected)
            async with wire.server():
                assert isinstance(await client.request(Ping(), ttl_ms=0), Pong)
        assert lost == [False] * 3, "closing a client is no loss"

    run(test())


def test_a_server_of_another_boot_is_known_by_it(wire: Wire) -> None:
    async def test() -> None:
        async with wire.client() as client:
            for boot_id in (b"1" * 16, b"2" * 16):
                async with RawServer(wire, boot_id):
                    await client.wait_connected(HANG_S)
                    assert client.peer is not None
                    assert client.peer.boot_id == boot_id
                await until(lambda: not client.connected)

    run(test())


@pytest.mark.usefixtures("quick")
def test_a_server_that_hangs_is_given_up_and_taken_back(wire: Wire) -> None:
    async def test() -> None:
        lost = asyncio.Event()
        async with RawServer(wire) as server, wire.client() as client:
            client.on_lost = lost.set
            await client.wait_connected(HANG_S)
            stream = client.open(prompt(1))
            await server.heard(Kind.REQUEST)
            server.alive = False
            with pytest.raises(PeerGone, match="llm does not answer any more"):
                await stream.result()
            await lost.wait()
            with pytest.raises(PeerGone, match="does not answer at"):
                await client.request(Ping(), ttl_ms=30)
            server.alive = True
            await client.wait_connected(HANG_S)
            assert isinstance(await client.request(Ping()), Pong)

    run(test())


@pytest.mark.usefixtures("quick")
def test_an_idle_connection_notices_a_hang_too(wire: Wire) -> None:
    async def test() -> None:
        lost = asyncio.Event()
        async with RawServer(wire) as server, wire.client() as client:
            client.on_lost = lost.set
            await client.wait_connected(HANG_S)
            server.alive = False
            await lost.wait()
            assert not client.connected

    run(test())


@pytest.mark.usefixtures("quick")
def test_time_that_the_callers_own_loop_lost_is_not_held_against_the_server(wire: Wire) -> None:
    async def test() -> None:
        lost: list[bool] = []
        async with wire.server({Generate: tokens}), wire.client() as client:
            client.on_lost = lambda: lost.append(True)
            await client.wait_connected(HANG_S)
            blocked_ns = time.monotonic_ns() + int(3 * limits.PEER_SILENCE_S * 1e9)
            while time.monotonic_ns() < blocked_ns:
                time.sleep(0.01)  # noqa: ASYNC251 - the blocked loop is what is tested
            for _ in range(3):
                assert isinstance(await client.request(Ping()), Pong)
                await asyncio.sleep(limits.PING_INTERVAL_S)
            assert not lost

    run(test())


def test_a_server_that_forgot_us_is_greeted_again(wire: Wire) -> None:
    async def test() -> None:
        lost: list[bool] = []
        async with wire.pair({}) as (server, client):
            client.on_lost = lambda: lost.append(True)
            for route in list(server._peers):
                server._drop(route)
            with pytest.raises(PeerGone, match="say hello first"):
                await client.request(Ping())
            assert lost == [True]
            assert isinstance(await client.request(Ping(), ttl_ms=0), Pong)

    run(test())


def test_an_application_may_ask_from_within_on_lost(wire: Wire) -> None:
    async def test() -> None:
        seen: list[type[Exception]] = []

        def ask_at_once() -> None:
            try:
                client.open(Ping())
            except PeerGone as error:
                seen.append(type(error))

        async with wire.client() as client:
            client.on_lost = ask_at_once
            async with wire.server():
                await client.wait_connected(HANG_S)
            await until(lambda: seen)
            assert seen == [PeerGone]

    run(test())


# --- closing -----------------------------------------------------------------------------------------------


def test_closing_gives_up_what_is_open_on_both_sides(wire: Wire) -> None:
    async def test() -> None:
        blocked = Blocked()
        async with wire.server({Recall: blocked}):
            async with wire.client() as client:
                await client.wait_connected(HANG_S)
                waiting = asyncio.create_task(client.request(QUESTION))
                stream = client.open(QUESTION)
                await blocked.started.wait()
                await client.close()
            for ending in (waiting, stream.result()):
                with pytest.raises(CallCancelled, match="the caller is leaving"):
                    await ending
            await blocked.cancelled.wait()

    run(test())


def test_closing_before_the_connection_was_there(wire: Wire) -> None:
    async def test() -> None:
        async with wire.client() as client:
            asking = asyncio.create_task(client.request(Ping(), ttl_ms=100))
            await asyncio.sleep(0)
        with pytest.raises(PeerGone):
            await asking

    run(test())


def test_closing_while_hello_is_under_way(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with RawServer(wire) as server:
            server.alive = False
            async with wire.client() as client:
                await until(lambda: client._hello)
            await asyncio.sleep(0.05)

    run(test())
    assert not caplog.records


def test_a_client_that_is_never_started_leaves_nothing(sockets: Wire) -> None:
    assert sockets.folder is not None
    assert not Client("llm", "test", folder=sockets.folder).connected


def test_a_client_refuses_a_folder_that_others_could_use(sockets: Wire) -> None:
    assert sockets.folder is not None
    sockets.folder.chmod(0o777)
    with pytest.raises(EndpointError, match="open to others"):
        Client("llm", "test", folder=sockets.folder)
