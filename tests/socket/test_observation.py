"""Observing a daemon on this machine: ordinary subscribers see what passes, and nobody can do it any harm."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import zmq

from ipc import codec, limits
from ipc.endpoints import observer_path
from ipc.messages import Generate, Ping, Pong, Token
from ipc.observation import Observation
from ipc.observer import Gaps
from ipc.zmtp import GREETING, MORE, command, frame, ready
from tests.campaigns.caller import Caller
from tests.campaigns.handmade import Gone, Peer
from tests.campaigns.subject import subject
from tests.socket.process import resident_bytes, serving
from tests.socket.rig import DAEMON, HANG_S, Wire, prompt, run, tokens, until
from tests.support.observed_by_libzmq import ObservedByLibzmq

FRAME = bytes(100)


def _path(wire: Wire) -> Path:
    assert wire.folder is not None
    return observer_path(DAEMON, wire.folder)


@contextmanager
def _subscriber(path: Path, *topics: bytes, **options: int) -> Iterator[zmq.Socket[bytes]]:
    """An ordinary one."""
    with zmq.Context() as context, context.socket(zmq.SUB) as watch:
        watch.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            watch.setsockopt(getattr(zmq, name), value)
        for topic in topics:
            watch.setsockopt(zmq.SUBSCRIBE, topic)
        watch.connect(f"ipc://{path}")
        yield watch


@asynccontextmanager
async def _publishing(folder: Path, make: Callable[..., Any] = Observation) -> AsyncIterator[Any]:
    """A publisher alone."""
    publisher = make(DAEMON, observer_path(DAEMON, folder), None, lambda uid: False)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close()


async def _took(watch: zmq.Socket[bytes]) -> list[bytes]:
    assert await asyncio.to_thread(watch.poll, int(HANG_S * 1000))
    return watch.recv_multipart()


# --- ordinary subscribers ------------------------------------------------------------------------------------


def test_an_observer_sees_the_traffic_of_its_topics(sockets: Wire) -> None:
    async def test() -> None:
        async with sockets.pair({Generate: tokens}) as (server, client):
            with _subscriber(_path(sockets), b"llm.token") as watch:
                await until(lambda: server._transport.observers == 1)
                assert len([item async for item in client.open(prompt(3))]) == 3
                seen = [await _took(watch) for _ in range(3)]
            assert [topic for topic, *_ in seen] == [b"llm.token"] * 3
            assert [codec.decode([header]).body for _, header, _ in seen] == [
                Token(text=str(n), t_ns=n) for n in range(3)
            ]
            await until(lambda: server._transport.observers == 0)

    run(test())


@pytest.mark.parametrize("make", [Observation, ObservedByLibzmq])
def test_topics_are_beginnings_and_are_counted_as_libzmq_does(tmp_path: Path, make: Callable[..., Any]) -> None:
    async def test() -> None:
        async with _publishing(tmp_path, make) as publisher:
            with _subscriber(observer_path(DAEMON, tmp_path), b"llm.t", b"llm.t", b"llm.pong") as watch:

                async def seen() -> set[bytes]:
                    """All topics that come before a mark."""
                    watch.setsockopt(zmq.SUBSCRIBE, b"mark")
                    await until(lambda: _arrives(publisher, watch))
                    found = set()
                    while (topic := (await _took(watch))[0]) != b"mark":
                        found.add(topic)
                    return found

                def _arrives(publisher: Any, watch: zmq.Socket[bytes]) -> bool:
                    for topic in (b"llm.token", b"llm.t", b"llm.pong", b"llm.ping", b"tts.token", b"mark"):
                        publisher.publish(topic, [b"header"])
                    return bool(watch.poll(10))

                assert await seen() == {b"llm.token", b"llm.t", b"llm.pong"}
                watch.setsockopt(zmq.UNSUBSCRIBE, b"llm.t")
                assert b"llm.token" in await seen(), "it was subscribed to twice"
                watch.setsockopt(zmq.UNSUBSCRIBE, b"llm.t")
                watch.setsockopt(zmq.UNSUBSCRIBE, b"llm.pong")
                await until(lambda: publisher.subscriptions == 1)

    run(test())


def test_frames_come_as_they_were_published(tmp_path: Path) -> None:
    message = [b"topic", b"", bytes(range(255)), bytes(256), b"x" * 65_536]

    async def test() -> None:
        async with _publishing(tmp_path) as publisher:
            with _subscriber(observer_path(DAEMON, tmp_path), b"") as watch:
                await until(lambda: publisher.subscriptions)
                for _ in range(20):
                    publisher.publish(message[0], message[1:])
                assert [await _took(watch) for _ in range(20)] == [message] * 20

    run(test())


def test_a_subscriber_with_heartbeats_is_answered(tmp_path: Path) -> None:
    """It would end the connection otherwise, and subscribe again."""

    async def test() -> None:
        async with _publishing(tmp_path) as publisher:
            beats = {"HEARTBEAT_IVL": 20, "HEARTBEAT_TIMEOUT": 200, "HEARTBEAT_TTL": 1000}
            with _subscriber(observer_path(DAEMON, tmp_path), b"", **beats):
                await until(lambda: publisher.subscriptions)
                (connection,) = publisher._connections
                await asyncio.sleep(0.6)
                assert {connection} == publisher._connections

    run(test())


def test_words_of_either_version_and_a_ping_by_hand(tmp_path: Path) -> None:
    async def test() -> None:
        async with _publishing(tmp_path) as publisher:
            with await asyncio.to_thread(Peer, observer_path(DAEMON, tmp_path), b"XSUB") as watch:
                watch.pour(frame(b"\x01old") + command(b"SUBSCRIBE", b"new") + frame(b"\x02noise"))
                await until(lambda: publisher.subscriptions == 2)
                for topic in (b"older", b"none", b"newer"):
                    publisher.publish(topic, [b"header"])
                watch.pour(command(b"PING", b"\0\0context"))
                assert await asyncio.to_thread(watch.receive) == [b"older", b"header"]
                assert await asyncio.to_thread(watch.receive) == [b"newer", b"header"]
                assert await asyncio.to_thread(watch._frame) == (4, b"\x04PONGcontext")
                watch.pour(command(b"CANCEL", b"old") + frame(b"\x00new"))
                await until(lambda: publisher.subscriptions == 0)

    run(test())


def test_what_an_observer_says_is_nobodys_business(sockets: Wire) -> None:
    async def test() -> None:
        async with sockets.pair({}) as (server, client):
            with zmq.Context() as context, context.socket(zmq.XSUB) as watch:
                watch.setsockopt(zmq.LINGER, 0)
                watch.connect(f"ipc://{_path(sockets)}")
                watch.send(b"\x01")
                await until(lambda: server._transport.observers == 1)
                for noise in (b"\x02hello", b"", b"x" * 100):
                    watch.send(noise)
                watch.send_multipart([b"\x00not subscribed", b"more"])
                watch.send(b"\x01llm.pong")
                await until(lambda: server._transport.observers == 2)
                assert isinstance(await client.request(Ping()), Pong)

    run(test())


# --- those that do not read ----------------------------------------------------------------------------------


def test_an_observer_that_does_not_read_holds_nobody_up(sockets: Wire) -> None:
    async def test() -> None:
        async with sockets.pair({Generate: tokens}) as (server, client):
            with _subscriber(_path(sockets), b"") as watch:
                await until(lambda: server._transport.observers == 1)
                for _ in range(4):  # far beyond what is kept for a reader that does not read
                    assert len([item async for item in client.open(prompt(4096))]) == 4096
                assert watch.poll(0), "it was watched, only not read"

    run(test())


def test_who_reads_late_gets_whole_messages_and_knows_what_it_missed(tmp_path: Path) -> None:
    """A socket without a queue of its own: what waits is in the kernel and in the publisher."""
    published = 5000

    async def test() -> None:
        async with _publishing(tmp_path) as publisher:
            with await asyncio.to_thread(Peer, observer_path(DAEMON, tmp_path), b"SUB") as watch:
                watch.pour(frame(b"\x01"))
                await until(lambda: publisher.subscriptions)
                for number in range(1, published + 1):
                    publisher.publish(b"topic", [FRAME * (number % 7), number.to_bytes(8, "big")])
                    if number % 100 == 0:
                        await asyncio.sleep(0)
                gaps, seen = Gaps(), 0
                gaps.see(DAEMON, (0).to_bytes(8, "big"))
                while gaps._due[DAEMON] <= published:
                    if seen == limits.OBSERVATION_BACKLOG_MAX:  # there is room again
                        publisher.publish(b"topic", [b"", published.to_bytes(8, "big")])
                    topic, header, number_ = await asyncio.to_thread(watch.receive)
                    assert (topic, header) == (b"topic", header)
                    gaps.see(DAEMON, number_)
                    seen += 1
                assert limits.OBSERVATION_BACKLOG_MAX < seen < published
                assert seen + gaps.lost == published

    run(test())


def test_pings_whose_answers_nobody_reads_cost_their_sender_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with _publishing(tmp_path) as publisher:
            await asyncio.to_thread(_pour, observer_path(DAEMON, tmp_path), command(b"PING", b"\0\0x") * 1_000_000)
            await until(lambda: not publisher._connections)
            assert "words within a second" in caplog.text

    run(test())


# --- those without measure -----------------------------------------------------------------------------------


def _pour(path: Path, words: bytes) -> None:
    """What an observer says without a pause, as far as it gets."""
    with suppress(Gone), Peer(path, b"SUB") as observer:
        observer.pour(words)


@pytest.mark.parametrize("leave", [True, False], ids=["leaves", "stays"])
def test_heartbeats_behind_subscriptions_end_nobody(leave: bool) -> None:
    """17 subscriptions, a heartbeat and a hang-up aborted a daemon whose publisher was libzmq 4.3.5."""
    heap = b"".join(frame(b"\x01%d" % number) for number in range(17)) + command(b"PING", b"\0\0x")
    with subject(DAEMON) as daemon, ExitStack() as stack, Caller(DAEMON, daemon.folder) as caller:
        for _ in range(20):
            observer = stack.enter_context(Peer(observer_path(DAEMON, daemon.folder), b"SUB"))
            observer.pour(heap * 3)
            if leave:
                observer.close()
            caller.still_served()
        daemon.check_log()
        assert "disconnected" not in daemon.log()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (b"".join(frame(b"\x01%d" % number) for number in range(20_000)), "words within a second"),
        (b"".join(command(b"SUBSCRIBE", b"%d" % number) for number in range(20_000)), "words within a second"),
        ((frame(b"\x01llm") + frame(b"\x00llm")) * 10_000, "words within a second"),
        (frame(b"\x02hello") * 20_000, "words within a second"),
        (frame(b"x", MORE) * 20_000, "words within a second"),
        (frame(b"\x01" + bytes(limits.SUBSCRIPTION_MAX_BYTES)), "a frame of 257 bytes"),
        (b"\x06" + b"\xff" * 8, "a frame of 18,446,744,073,709,551,615 bytes"),
        (command(b"PING", bytes(100)), "a PING that is none"),
        (frame(b"", 4), "a command without a name"),
    ],
    ids=["subscriptions", "of 3.1", "changes of mind", "noise", "no end", "long", "longest", "ping", "no name"],
)
def test_an_observer_without_measure_is_disconnected_and_nobody_else(
    sockets: Wire, words: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with sockets.pair({Generate: tokens}) as (server, client):
            with _subscriber(_path(sockets), b"llm.token") as watch:
                await until(lambda: server._transport.observers == 1)
                await asyncio.to_thread(_pour, _path(sockets), words)
                await until(lambda: "an observer (uid" in caplog.text)
                await until(lambda: server._transport.observers == 1)
                assert len([item async for item in client.open(prompt(3))]) == 3
                seen = [await _took(watch) for _ in range(3)]
            assert [codec.decode([header]).body for _, header, _ in seen] == [
                Token(text=str(n), t_ns=n) for n in range(3)
            ]
            await asyncio.to_thread(_shakes_hands, _path(sockets))

    run(test())
    (line,) = [record.getMessage() for record in caplog.records if "an observer" in record.getMessage()]
    assert line.startswith("llm: an observer (uid ")
    assert why in line


def _subscribed(publisher: Observation, times: int) -> bool:
    return publisher.subscriptions == times


def _shakes_hands(path: Path) -> None:
    with Peer(path, b"SUB"):
        pass


def test_subscriptions_of_all_are_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who has the most goes."""
    each = limits.SUBSCRIPTIONS_MAX - 10

    async def test() -> None:
        async with _publishing(tmp_path) as publisher:
            with ExitStack() as stack:
                for number in range(5):
                    observer = stack.enter_context(
                        await asyncio.to_thread(Peer, observer_path(DAEMON, tmp_path), b"SUB")
                    )
                    count = each + (number == 2)
                    observer.pour(b"".join(frame(b"\x01%d" % topic) for topic in range(count)))
                    if number < 4:
                        await until(partial(_subscribed, publisher, each * (number + 1) + (number >= 2)))
                await until(lambda: len(publisher._connections) == 4)
                assert "most of over 4,096 subscriptions of all are its own" in caplog.text
                await until(lambda: publisher.subscriptions == 4 * each)

    run(test())


def test_floods_take_little_memory(sockets: Wire) -> None:
    floods = [
        b"".join(frame(b"\x01%07d" % number) for number in range(1_000_000)),
        command(b"PING", b"\0\0" + bytes(16)) * 300_000,
    ]
    with serving(_path(sockets).parent) as process:
        _pour(_path(sockets), floods[0])
        before = resident_bytes(process.pid)
        for words in floods * 3:
            _pour(_path(sockets), words)
        _shakes_hands(_path(sockets))
        assert resident_bytes(process.pid) - before < 10e6


# --- those that are not observers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun",
    [b"", GREETING[:1], GREETING, GREETING + ready(b"SUB")[:-1], b"GET / HTTP/1.1\r\n\r\n", bytes(5000)],
    ids=["nothing", "a byte", "a greeting", "half a handshake", "http", "zeros"],
)
def test_who_does_not_shake_hands_is_thrown_out(tmp_path: Path, begun: bytes) -> None:
    async def test() -> None:
        async with _publishing(tmp_path) as publisher:
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(str(observer_path(DAEMON, tmp_path)))
                raw.settimeout(HANG_S)
                raw.sendall(begun)
                with suppress(ConnectionResetError):
                    while await asyncio.to_thread(raw.recv, 4096):
                        pass
                assert not publisher._connections

    run(test())


@pytest.mark.parametrize("kind", [b"DEALER", b"PUB", b"", b"subscriber"])
def test_another_kind_of_socket_is_thrown_out(tmp_path: Path, kind: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with _publishing(tmp_path) as publisher:
            await asyncio.to_thread(_pour, observer_path(DAEMON, tmp_path), b"")
            await until(lambda: not publisher._connections)

            def shake_hands() -> None:
                with Peer(observer_path(DAEMON, tmp_path), kind) as peer:
                    peer.receive()

            with pytest.raises(Gone):
                await asyncio.to_thread(shake_hands)
            assert f"it is no subscriber: b'READY' {kind!r}" in caplog.text

    run(test())


def test_more_connections_than_are_allowed_wait(tmp_path: Path) -> None:
    async def test() -> None:
        async with _publishing(tmp_path) as publisher:
            path = observer_path(DAEMON, tmp_path)
            with ExitStack() as stack:
                those = [
                    stack.enter_context(await asyncio.to_thread(Peer, path, b"SUB"))
                    for _ in range(limits.OBSERVERS_MAX)
                ]
                waiting = asyncio.create_task(asyncio.to_thread(Peer, path, b"SUB"))
                await asyncio.sleep(0.1)
                assert len(publisher._connections) == limits.OBSERVERS_MAX
                assert not waiting.done()
                those[7].close()
                stack.enter_context(await waiting)
                assert len(publisher._connections) == limits.OBSERVERS_MAX

    run(test())


def test_without_descriptors_observers_wait(sockets: Wire) -> None:
    path = _path(sockets)
    with serving(path.parent) as process, Peer(path, b"SUB") as before, Caller(DAEMON, path.parent) as caller:
        before.pour(frame(b"\x01"))
        before.settle()
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        used = max(int(entry.name) for entry in Path(f"/proc/{process.pid}/fd").iterdir()) + 1
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used, hard))
        with closing(socket.socket(socket.AF_UNIX)) as waiting:
            waiting.connect(str(path))
            caller.still_served()
            assert before.receive()[0].startswith(b"llm.")
            waiting.settimeout(0.5)
            with pytest.raises(TimeoutError):
                waiting.recv(64)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
            waiting.settimeout(HANG_S)
            assert waiting.recv(64) == GREETING


class _NoDescriptors(socket.socket):
    """A listening socket, as the kernel answers when a process has all that it may have."""

    tries = 0

    def accept(self) -> NoReturn:
        self.tries += 1
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_without_descriptors_it_is_not_tried_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "REOPEN_S", 3600.0)

    async def test() -> None:
        async with _publishing(tmp_path) as publisher:
            with _NoDescriptors(fileno=os.dup(publisher._listener.fileno())) as listener:
                asyncio.get_running_loop().remove_reader(publisher._listener)
                real, publisher._listener = publisher._listener, listener
                publisher._open()
                shaking = asyncio.create_task(asyncio.to_thread(_shakes_hands, observer_path(DAEMON, tmp_path)))
                await until(lambda: listener.tries)
                await asyncio.sleep(0.05)
                assert listener.tries == 1
                assert "llm: lets no observer in for the moment: Too many open files" in caplog.text
                publisher._listener = real
            publisher._open()
            await shaking

    run(test())


# --- its end -------------------------------------------------------------------------------------------------


def test_a_daemon_ends_with_observers_and_leaves_no_socket(sockets: Wire) -> None:
    async def test() -> None:
        with ExitStack() as stack:
            async with sockets.server() as server:
                watch = stack.enter_context(await asyncio.to_thread(Peer, _path(sockets), b"SUB"))
                watch.pour(frame(b"\x01"))
                await until(lambda: server._transport.observers)
                server._transport.publish(b"last", [b"words"])
            assert not _path(sockets).exists()
            assert watch.receive() == [b"last", b"words"]
            with pytest.raises(Gone):
                watch.receive()

    run(test())


def test_a_daemon_ends_while_nobody_is_let_in(sockets: Wire, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with sockets.server():
            await asyncio.to_thread(_pour, _path(sockets), frame(b"\x02") * 20_000)
            await until(lambda: "an observer (uid" in caplog.text)
        assert not _path(sockets).exists()

    run(test())
