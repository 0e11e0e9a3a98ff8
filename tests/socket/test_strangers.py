"""Whoever is not let in, by whatever way he comes: nothing of him reaches the daemon. Needs root, to be others."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from ipc import codec
from ipc.codec import Message
from ipc.endpoints import observer_path, socket_path
from ipc.ids import new_rid
from ipc.server import Server
from tests.socket.rig import DAEMON, HANG_S, Wire, hello, run

STRANGER, OTHER_GROUP = 65533, 65532
PROGRAM = Path(__file__).with_name("stranger.py")
LET_IN = "HANDSHAKE_SUCCEEDED"
STAY_MS = 300
"""How long who was let in waits for an answer to what he sent."""

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


@dataclass(frozen=True)
class Attempt:
    """`inside`: its name in a user namespace of its own; `way`: see stranger.come_by."""

    uid: int = STRANGER
    gid: int = STRANGER
    groups: list[int] = field(default_factory=list)
    inside: int | None = None
    way: str = ""


ATTEMPTS = {
    "another user": Attempt(),
    "another user with the daemon's group": Attempt(gid=os.getgid()),
    "another user with the daemon's group beside his own": Attempt(groups=[os.getgid()]),
    "another user with a group that is not the folder's": Attempt(gid=OTHER_GROUP, groups=[OTHER_GROUP]),
    "root of a namespace of his own": Attempt(inside=0),
    "the daemon's uid in a namespace of his own": Attempt(inside=os.getuid()),
    "somebody in a namespace of his own": Attempt(inside=1000),
    "through a mount of his own": Attempt(inside=0, way="mount"),
    "through a link to the socket": Attempt(way="link"),
    "through a link to its folder": Attempt(way="linked folder"),
    "through a hard link": Attempt(way="hard link"),
    "through a link, as root of a namespace": Attempt(inside=0, way="link"),
}


@pytest.fixture
def open_wire() -> Iterator[Wire]:
    """A folder below /tmp, where anybody can be let in once the server is up."""
    with tempfile.TemporaryDirectory(prefix="timmy-") as folder:
        yield Wire(Path(folder))


def _come(attempt: Attempt, kind: str, path: Path) -> str:
    """What became of the attempt: the name of an event, or of an error."""
    frame = codec.encode(Message(new_rid(), 0, 1, 0, hello()))[0].hex()
    with tempfile.TemporaryDirectory(prefix="timmy-own-") as own:
        Path(own).chmod(0o777)
        how = {**asdict(attempt), "kind": kind, "path": str(path), "own": own, "frame": frame, "stay_ms": STAY_MS}
        command = [sys.executable, str(PROGRAM), json.dumps(how)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG_S).stdout.strip()


async def _attempts(wire: Wire, server: Server, kind: str) -> dict[str, str]:
    """Of each attempt what became of it, or `reached` when the daemon noticed anything of it."""
    outcomes: dict[str, str] = {}
    folder = wire.folder
    assert folder is not None
    folder.chmod(0o711)
    for entry in folder.iterdir():
        entry.chmod(0o666)
    path = (socket_path if kind == "DEALER" else observer_path)(DAEMON, folder)
    for name, attempt in ATTEMPTS.items():
        outcome = await asyncio.to_thread(_come, attempt, kind, path)
        outcomes[name] = "reached" if server._peers or server._transport.observers else outcome
        for route in list(server._peers):
            server._drop(route)
    return outcomes


@pytest.mark.parametrize("kind", ["DEALER", "SUB"], ids=["requests", "observation"])
def test_no_stranger_reaches_the_daemon(open_wire: Wire, kind: str) -> None:
    async def test() -> None:
        async with open_wire.server() as server:
            outcomes = await _attempts(open_wire, server, kind)
            assert {name for name, outcome in outcomes.items() if outcome in ("reached", LET_IN)} == set(), outcomes

    run(test())


@pytest.mark.parametrize("kind", ["DEALER", "SUB"], ids=["requests", "observation"])
def test_the_same_attempts_would_reach_a_daemon_that_asks_nobody(
    open_wire: Wire, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is the kernel's word that keeps them out, and not a way that leads nowhere."""
    monkeypatch.setattr("ipc.transport.members", lambda folder: lambda uid: True)

    async def test() -> None:
        async with open_wire.server() as server:
            outcomes = await _attempts(open_wire, server, kind)
            barred = {name for name, outcome in outcomes.items() if outcome not in ("reached", LET_IN)}
            assert barred <= {"through a hard link"}, outcomes  # the kernel's own `protected_hardlinks`

    run(test())
