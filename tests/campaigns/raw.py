"""Campaign 4: connections to a daemon's real sockets that are no peers: silence, noise, other protocols, half
handshakes. Nothing that they say reaches the application, each is thrown out, and gives its descriptor back."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from ipc import codec, zmtp
from ipc.codec import Message
from ipc.endpoints import observer_path, socket_path
from ipc.ids import new_rid
from ipc.messages import Ping
from tests.campaigns.subject import Subject, subject
from tests.campaigns.watch import Watch

AT_ONCE = 100
THROWN_OUT_S = 15.0
"""A handshake may take 1 s (ZMQ_HANDSHAKE_IVL), and a peer may leave heartbeats unanswered for 3 s. The rest is for a
busy machine."""

_HANDSHAKE = zmtp.GREETING + zmtp.ready(b"DEALER")


def _words() -> bytes:
    """What would reach the application, were it let in."""
    return b"".join(zmtp.frame(frame) for frame in codec.encode(Message(new_rid(), 0, 1, 0, Ping())))


def _silence(chance: random.Random) -> bytes:
    return b""


def _noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((1, 9, 10, 64, 1000, 100_000)))


def _http(chance: random.Random) -> bytes:
    line = chance.choice((b"GET / HTTP/1.1", b"POST /api/generate HTTP/1.0", b"PRI * HTTP/2.0"))
    return line + b"\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello" * chance.choice((1, 50))


def _zmtp_1(chance: random.Random) -> bytes:
    """A length and an identity, and messages after it: a default ROUTER takes this for an old peer."""
    identity = chance.randbytes(chance.choice((0, 1, 5, 200)))
    return bytes([len(identity) + 1, 0]) + identity + b"\x06\x00hello" * chance.randrange(50)


def _zmtp_2(chance: random.Random) -> bytes:
    kind = bytes([chance.randrange(12)])
    return b"\xff" + bytes(8) + b"\x7f\x01" + kind + b"\x00\x00" + b"\x00\x05hello" * chance.randrange(50)


def _half(chance: random.Random) -> bytes:
    return _HANDSHAKE[: chance.randrange(1, len(_HANDSHAKE))]


def _never_ready(chance: random.Random) -> bytes:
    """Messages in place of the end of the handshake."""
    return zmtp.GREETING + _words() * chance.randrange(1, 50)


def _stranger(chance: random.Random) -> bytes:
    """A mechanism, or a kind of socket, that the daemon does not have."""
    mechanism = chance.choice((b"PLAIN", b"CURVE", b"GSSAPI", b"X" * 20)).ljust(20, b"\0")
    if chance.random() < 0.5:
        return zmtp.GREETING[:12] + mechanism + bytes(32) + zmtp.command(b"HELLO", bytes(200)) + _words()
    return zmtp.GREETING + zmtp.ready(chance.choice((b"ROUTER!", b"PULL", b"PAIR", b"", b"x" * 200))) + _words()


def _huge(chance: random.Random) -> bytes:
    """A command that claims to be as large as there is, where the handshake should end."""
    size = chance.choice((b"\xff" * 8, b"\x7f" + b"\xff" * 7, (70_000).to_bytes(8, "big")))
    return zmtp.GREETING + b"\x06" + size + bytes(chance.choice((0, 4096, 70_000)))


KINDS: Mapping[str, Callable[[random.Random], bytes]] = {
    "silence": _silence,
    "noise": _noise,
    "http": _http,
    "zmtp 1": _zmtp_1,
    "zmtp 2": _zmtp_2,
    "half a handshake": _half,
    "never ready": _never_ready,
    "stranger": _stranger,
    "huge": _huge,
    "one byte a second": lambda chance: _HANDSHAKE,
}


def run(count: int, seed: int, fault: str = "") -> dict[str, int]:
    """How many connections there were, and how many messages of theirs reached the application: none. Raises
    AssertionError. `fault`: planted, for the daemon."""
    chance = random.Random(seed)
    with subject("llm", fault) as daemon, Watch(daemon.folder, "llm") as watch:
        before = _descriptors(daemon)
        stayed = asyncio.run(_all(daemon, count, chance))
        _, peers = daemon.arrived()
        assert peers == 1, f"{peers - 1} raw connections reached the application"
        assert not stayed, f"still connected after {THROWN_OUT_S:.0f} s: {', '.join(sorted(set(stayed)))}"
        figures = watch.verdict()
        daemon.check_log()
        assert (after := _descriptors(daemon)) <= before, f"{after} descriptors are open, there were {before}"
    return {"connections": count, "reached the application": peers - 1, **figures}


def _descriptors(daemon: Subject) -> int:
    return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))


async def _all(daemon: Subject, count: int, chance: random.Random) -> list[str]:
    """The kinds of those that were not thrown out."""
    stayed: list[str] = []
    paths = (socket_path(daemon.name, daemon.folder), observer_path(daemon.name, daemon.folder))
    waiting = iter(
        [(chance.choice((paths[0], *paths)), kind, random.Random(chance.random())) for kind in _kinds(count, chance)]
    )

    async def worker() -> None:
        for path, kind, own in waiting:
            if not await _thrown_out(path, kind, own):
                stayed.append(kind)

    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(worker())
    return stayed


def _kinds(count: int, chance: random.Random) -> list[str]:
    """Each as often as the others, in any order."""
    kinds = list(itertools.islice(itertools.cycle(KINDS), count))
    chance.shuffle(kinds)
    return kinds


async def _thrown_out(path: Path, kind: str, chance: random.Random) -> bool:
    """Says its piece and waits until that happens."""
    reader, writer = await asyncio.open_unix_connection(path)
    saying = asyncio.create_task(_say(writer, kind, chance))
    try:
        async with asyncio.timeout(THROWN_OUT_S):
            while await reader.read(65_536):
                pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    finally:
        saying.cancel()
        writer.close()
    return True


async def _say(writer: asyncio.StreamWriter, kind: str, chance: random.Random) -> None:
    data = KINDS[kind](chance)
    pause_s = 1.0 if kind == "one byte a second" else 0.0
    step = 1 if pause_s else chance.choice((1, 7, 100, len(data) or 1))
    try:
        for at in range(0, min(len(data), 300 * step), step):
            writer.write(data[at : at + step])
            await writer.drain()
            await asyncio.sleep(pause_s)
    except ConnectionError:
        return
