"""Real sockets and real processes: killed, stopped, restarted, watched, and two of the same name."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from ipc import limits
from ipc.call import Call
from ipc.endpoints import observer_path, socket_path
from ipc.errors import EndpointError, PeerGone
from ipc.ids import new_rid
from ipc.messages import Generate, Ping, Pong, Recall, Token
from ipc.sockets import Reader, dealer, router
from ipc.transport import ZmqServerTransport
from tests.socket.process import serving
from tests.socket.rig import DAEMON, GENERATED, HANG_S, RawClient, Wire, prompt, run, until

QUESTION = Recall(text="a", limit=1)


def _folder(wire: Wire) -> Path:
    assert wire.folder is not None
    return wire.folder


@pytest.fixture
def context() -> zmq.Context[zmq.Socket[bytes]]:
    return zmq.Context.instance()


# --- other processes ---------------------------------------------------------------------------------------


def test_a_killed_server_fails_what_is_open_and_its_successor_serves(sockets: Wire) -> None:
    async def test() -> None:
        lost = asyncio.Event()
        async with sockets.client() as client:
            client.on_lost = lost.set
            with serving(_folder(sockets)) as process:
                await client.wait_connected(HANG_S)
                assert client.peer is not None
                first_boot = client.peer.boot_id
                streams = [client.open(QUESTION), client.open(prompt(4096))]
                await anext(streams[1])
                process.kill()
                for stream in streams:
                    with pytest.raises(PeerGone, match="llm went away"):
                        await stream.result()
                await lost.wait()
            with serving(_folder(sockets)):
                assert isinstance(await client.request(Ping(), ttl_ms=0), Pong)
                assert client.peer.boot_id != first_boot

    run(test())


def test_a_killed_server_is_noticed_without_a_ping(sockets: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the closed connection alone: no clock is involved."""
    monkeypatch.setattr(limits, "PING_INTERVAL_S", 3600.0)

    async def test() -> None:
        async with sockets.client() as client:
            with serving(_folder(sockets)) as process:
                await client.wait_connected(HANG_S)
                stream = client.open(QUESTION)
                process.kill()
                with pytest.raises(PeerGone, match="llm went away"):
                    await stream.result()

    run(test())


def test_a_stopped_server_is_given_up_and_taken_back(sockets: Wire) -> None:
    async def test() -> None:
        async with sockets.client() as client:
            with serving(_folder(sockets)) as process:
                await client.wait_connected(HANG_S)
                stream = client.open(QUESTION)
                process.send_signal(signal.SIGSTOP)
                with pytest.raises(PeerGone, match=r"does not answer any more|went away"):
                    await stream.result()
                process.send_signal(signal.SIGCONT)
                await client.wait_connected(HANG_S)
                stream = client.open(prompt(300))
                assert len([item async for item in stream]) == 300
                assert await stream.result() == GENERATED

    run(test())


def test_a_server_that_ends_leaves_no_socket_behind(sockets: Wire) -> None:
    with serving(_folder(sockets)) as process:
        assert socket_path(DAEMON, _folder(sockets)).is_socket()
        process.terminate()
        assert process.wait(HANG_S) == 0
    assert sorted(path.name for path in _folder(sockets).iterdir()) == [f"{DAEMON}.lock"]


# --- two of the same name, and places that cannot be used --------------------------------------------------


def test_a_second_server_of_the_same_name_refuses_and_the_first_serves_on(sockets: Wire) -> None:
    async def test() -> None:
        with serving(_folder(sockets)) as process:
            with pytest.raises(EndpointError, match=rf"llm is running already \(pid {process.pid}\)"):
                ZmqServerTransport(DAEMON, _folder(sockets))
            async with sockets.client() as client:
                assert isinstance(await client.request(Ping(), ttl_ms=0), Pong)

    run(test())


def test_sockets_left_by_a_killed_server_are_no_obstacle(sockets: Wire) -> None:
    with serving(_folder(sockets)) as process:
        process.kill()
    assert socket_path(DAEMON, _folder(sockets)).is_socket()
    with serving(_folder(sockets)):
        pass


def test_what_cannot_be_bound_is_said_and_the_name_stays_free(sockets: Wire) -> None:
    folder = _folder(sockets)
    observer_path(DAEMON, folder).mkdir()
    for _ in range(2):
        with pytest.raises(EndpointError, match=rf"sockets of llm in {folder}: .*; set TIMMY_RUNTIME"):
            ZmqServerTransport(DAEMON, folder)
    observer_path(DAEMON, folder).rmdir()

    async def test() -> None:
        async with sockets.pair({}) as (_, client):
            assert isinstance(await client.request(Ping()), Pong)

    run(test())


def test_a_path_too_long_is_refused_by_both_sides(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * limits.UNIX_PATH_MAX_BYTES)
    for refuse in (Wire(folder).server_transport, Wire(folder).client_transport):
        with pytest.raises(EndpointError, match="too long"):
            refuse()
    assert not folder.exists()


# --- the reader of a socket --------------------------------------------------------------------------------


def test_nothing_that_came_before_the_reader_is_lost(sockets: Wire) -> None:
    """More than one batch is waiting when the loop comes back: edges do not repeat themselves."""

    async def test() -> None:
        async with sockets.server() as server, RawClient(sockets) as raw:
            await raw.hello()
            rids = [new_rid() for _ in range(500)]
            for rid in rids:
                raw.say(rid, Ping())
            await until(lambda: len(raw.got) == 501)
            assert [message.rid for message in raw.got[1:]] == rids
            assert server.requests_open == 0

    run(test())


def test_a_callback_that_fails_does_not_stop_the_reader(
    sockets: Wire, context: zmq.Context[zmq.Socket[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        seen: list[bytes] = []

        def fail_on_first(frames: list[bytes]) -> None:
            seen.append(frames[-1])
            if len(seen) == 1:
                raise ZeroDivisionError

        with context.socket(zmq.PAIR) as here, context.socket(zmq.PAIR) as there:
            here.bind("inproc://reader")
            there.connect("inproc://reader")
            for number in range(5):
                there.send(b"%d" % number)
            reader = Reader(here, fail_on_first, 1)
            await until(lambda: len(seen) == 5)
            reader.close()

    run(test())
    assert "a message could not be dealt with" in caplog.text


def test_a_message_of_many_parts_is_not_the_only_thing_that_happens(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    async def test() -> None:
        with context.socket(zmq.PAIR) as here, context.socket(zmq.PAIR) as there:
            here.bind("inproc://parts")
            there.connect("inproc://parts")
            there.send_multipart([b"x"] * 50_000)
            there.send(b"after")
            seen: list[list[bytes]] = []
            reader = Reader(here, seen.append, 2)
            turns = 0
            while not seen:
                turns += 1
                await asyncio.sleep(0)
            await until(lambda: len(seen) == 2)
            assert seen == [[b"x"] * 3, [b"after"]]
            assert turns > 10
            reader.close()

    run(test())


def test_a_callback_may_close_the_socket(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    async def test() -> None:
        with context.socket(zmq.PAIR) as here, context.socket(zmq.PAIR) as there:
            here.bind("inproc://closing")
            there.connect("inproc://closing")
            there.send(b"1")
            there.send(b"2")
            seen: list[bytes] = []

            def close(frames: list[bytes]) -> None:
                seen.extend(frames)
                reader.close()
                here.close()

            reader = Reader(here, close, 1)
            await until(lambda: seen)
            assert seen == [b"1"]

    run(test())


def test_what_a_send_swallows_the_reader_still_sees(sockets: Wire) -> None:
    """Both sides send and receive at once: an edge consumed by a send must not starve the reader."""

    async def pour(call: Call) -> object:
        async for _ in call:
            await call.send(Token(text="a", t_ns=0))
        return GENERATED

    async def test() -> None:
        async with sockets.pair({Generate: pour}) as (_, client):  # type: ignore[dict-item]
            for _ in range(300):
                answers = await asyncio.gather(*(client.request(Ping()) for _ in range(7)))
                assert len(answers) == 7

    run(test())


def test_settings_are_made_before_the_socket_is_used(sockets: Wire) -> None:
    own: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with router(own, _folder(sockets) / "a.sock") as bound, dealer(own) as joined:
        for kind in (bound, joined):
            assert kind.getsockopt(zmq.LINGER) == 250
            assert kind.getsockopt(zmq.HANDSHAKE_IVL) == 1000
            assert kind.getsockopt(zmq.MAXMSGSIZE) == limits.PAYLOAD_MAX_BYTES
        assert joined.getsockopt(zmq.IMMEDIATE) == 1
        assert bound.getsockopt(zmq.ZAP_DOMAIN) == b"timmy"
    own.term()


def test_sends_after_the_end_are_refused_not_raised(sockets: Wire) -> None:
    async def test() -> None:
        transport, joined = sockets.server_transport(), sockets.client_transport()
        transport.start(lambda peer, frames: None, lambda peer, quota: None, lambda peer: None)
        joined.start(lambda: None, lambda: None, lambda frames: None)
        assert not transport.send(b"nobody", [b"a"])
        joined.close()
        transport.close()
        assert not transport.send(b"nobody", [b"a"])
        assert not joined.send([b"a"])

    run(test())


def test_a_plain_socket_is_not_a_daemon(sockets: Wire) -> None:
    """Something else listens at the path: the client keeps trying and says that nobody answers."""

    async def test() -> None:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind(str(socket_path(DAEMON, _folder(sockets))))
            stranger.listen()
            async with sockets.client() as client:
                with pytest.raises(PeerGone, match="does not answer at"):
                    await client.request(Ping(), ttl_ms=200)

    run(test())


def test_a_program_that_never_closes_its_client_still_ends(sockets: Wire) -> None:
    code = (
        "import asyncio, pathlib, sys\n"
        "from ipc.client import Client\n"
        "from ipc.messages import Ping\n"
        "async def main():\n"
        f"    client = await Client('llm', 'x', folder=pathlib.Path({str(_folder(sockets))!r})).start()\n"
        "    await client.request(Ping(), ttl_ms=0)\n"
        "asyncio.run(main())\n"
    )
    with serving(_folder(sockets)):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=HANG_S)
