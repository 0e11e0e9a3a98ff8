"""A reader that is told how much to read: python -m tests.campaigns.reader observer|caller FOLDER DAEMON [FAULT]

In a process of its own, since what goes wrong may end it. It obeys lines of JSON on its standard input, and stands
still between them, as a program does whose own output nobody takes. FAULT is planted: `beats` gives it the ZeroMQ
settings with which libzmq aborts.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from ipc import codec, sockets
from ipc.client import Client
from ipc.endpoints import observer_path
from ipc.errors import CallError
from ipc.observer import Gaps
from tests.socket.rig import prompt

UPKEEP = frozenset({b"hello", b"welcome", b"ping", b"pong", b"status", b"status_report"})
"""What others say meanwhile."""

QUIET_MS = 300
STREAMS = 20
TOKENS = 1000


# --- what the process does -----------------------------------------------------------------------------------


class _Observer:
    """Reads with the socket and counts with the numbers that `timmy tap` has."""

    def __init__(self, folder: Path, daemon: str) -> None:
        self._daemon = daemon
        self._gaps = Gaps()
        self._seen = self._work = 0
        self._rid = b""
        self._context: sockets.Context = zmq.Context()
        self._socket = sockets.subscriber(self._context, f"ipc://{observer_path(daemon, folder)}")

    def obey(self, read: int = 0, rid: str = "") -> dict[str, Any] | None:
        """`read`: until it has seen so many headers that are work, or nothing waits; nothing is answered. `rid`: until
        it sees that request, or nothing has come for QUIET_MS."""
        if not rid:
            while self._work < read and self._one(0):
                pass
            return None
        while (more := self._one(QUIET_MS)) and self._rid.hex() != rid:
            pass
        return {"seen": self._seen, "work": self._work, "lost": self._gaps.lost, "found": more}

    def _one(self, patience_ms: int) -> bool:
        if not self._socket.poll(patience_ms):
            return False
        topic, header, number = self._socket.recv_multipart()
        self._gaps.see(self._daemon, number)
        self._rid = codec.decode([header]).rid
        self._seen += 1
        self._work += topic.partition(b".")[2] not in UPKEEP
        return True


def _observe(folder: Path, daemon: str) -> None:
    observer = _Observer(folder, daemon)
    for line in sys.stdin:
        if answer := observer.obey(**json.loads(line)):
            print(json.dumps(answer), flush=True)


async def _call(folder: Path, daemon: str) -> None:
    """Opens STREAMS answers, and reads them when it is told so."""
    read = 0
    async with Client(daemon, "reader", folder=folder) as client:
        await client.wait_connected(30)
        streams = [client.open(prompt(TOKENS)) for _ in range(STREAMS)]
        print(json.dumps({"open": len(streams)}), flush=True)
        sys.stdin.readline()  # its loop stands still meanwhile
        for stream in streams:
            try:
                async for _ in stream:
                    read += 1
            except CallError:
                continue
    print(json.dumps({"read": read}), flush=True)


def _beat() -> None:
    """With a queue that is full even where a busy daemon has little left for its readers."""
    beats = {**sockets._BEATS, zmq.RCVHWM: 100}
    sockets._EVERY.update(beats)
    sockets._CLIENT.update(beats)


def main(kind: str, folder: Path, daemon: str, fault: str = "") -> None:
    if fault:
        _beat()
    if kind == "observer":
        _observe(folder, daemon)
    else:
        asyncio.run(_call(folder, daemon))


# --- who tells it --------------------------------------------------------------------------------------------


class Reader:
    """Such a process, as a context manager. Raises AssertionError when it ends before it was told to."""

    def __init__(self, kind: str, folder: Path, daemon: str, fault: str = "") -> None:
        self._command = [sys.executable, "-m", "tests.campaigns.reader", kind, str(folder), daemon, fault]
        self._kind = kind

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._process.communicate()

    def kill(self) -> None:
        self._process.kill()

    def tell(self, **what: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._ended()

    def hear(self) -> dict[str, Any]:
        """Its next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._ended()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> None:
        status = self._process.wait()
        assert self._process.stderr is not None
        said = self._process.stderr.read().partition("\n")[0]
        raise AssertionError(f"a reader ({self._kind}) ended with {status}: {said}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
