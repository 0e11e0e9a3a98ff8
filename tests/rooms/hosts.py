"""A house and its rooms as hosts of their own: network namespaces, cables that can be bad, and real processes in them.
Needs root and ip(8).
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Self

from ipc.access import Guest, Role
from ipc.endpoints import DAEMONS
from ipc.keys import allow, write_secret
from ipc.messages import Status, StatusReport
from ipc.security import new_secret, public_of
from tests.rooms import hub
from tests.support.eventually import PATIENCE_S
from tools.harness import Line

HOUSE = "10.77.0.1"
BASE = 7870
_numbers = itertools.count()


class Host:
    """A network namespace with one interface. `run` gives a process in it that ends with the stack."""

    def __init__(self, stack: ExitStack, name: str) -> None:
        self.name = name
        self.namespace = f"timmy-{os.getpid()}-{next(_numbers)}"
        self._stack = stack
        ip("netns", "add", self.namespace)
        stack.callback(ip, "netns", "delete", self.namespace)
        ip("-n", self.namespace, "link", "set", "lo", "up")

    def give_address(self, address: str, interface: str = "eth0") -> None:
        ip("-n", self.namespace, "address", "add", f"{address}/24", "dev", interface)

    def run(self, *command: str, environ: Mapping[str, str] | None = None, log: Path | None = None) -> Process:
        inside = ["ip", "netns", "exec", self.namespace, sys.executable, *command]
        return self._stack.enter_context(Process(inside, dict(environ or os.environ), log))


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


class Process:
    """A process that is told things by lines and tells things by lines of JSON."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log: Path | None) -> None:
        self._command, self._environ, self._log = command, environ, log
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def __enter__(self) -> Self:
        with Path(self._log or os.devnull).open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=dict(self._environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self.kill()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._reader.join()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                self._lines.put(json.loads(line))
        self._lines.put(None)

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hears(self, **expected: object) -> dict[str, Any]:
        """The next line that says so: `hears(played=7)`. A text is found within what is told."""
        return self.hears_when(lambda line: all(_matches(line.get(key), value) for key, value in expected.items()))

    def hears_when(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The next such line. What is told before it is passed over."""
        deadline = time.monotonic() + PATIENCE_S
        passed: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            assert line is not None, f"it ended; before that it told {passed}; see {self._log}"
            if wanted(line):
                return line
            passed.append(line)
        raise AssertionError(f"what was waited for was not told, only {passed}")

    def told(self) -> list[dict[str, Any]]:
        """What it has told by now and nobody has asked for."""
        found = []
        while not self._lines.empty():
            if (line := self._lines.get()) is not None:
                found.append(line)
        return found


def _matches(told: object, expected: object) -> bool:
    return isinstance(told, str) and expected in told if isinstance(expected, str) and expected else told == expected


class Street:
    """A house with its five daemons, and rooms that are cabled to it."""

    def __init__(self, stack: ExitStack, folder: Path, rooms: Sequence[str]) -> None:
        self._stack, self.folder = stack, folder
        self.house = Host(stack, "house")
        cables = Host(stack, "cables")
        self._plug(self.house, cables, "house")
        self.house.give_address(HOUSE)
        self.rooms: dict[str, Host] = {}
        for number, name in enumerate(rooms, 2):
            self.rooms[name] = Host(stack, name)
            self._plug(self.rooms[name], cables, name)
            self.rooms[name].give_address(f"10.77.0.{number}")
        self._hub = cables.run(hub.__file__, "house", *rooms)
        self._hub.hears()
        self.keys = folder / "house" / "timmy" / "keys"
        secret = new_secret()
        write_secret(self.keys, secret)
        self.key = public_of(secret)

    def _plug(self, host: Host, cables: Host, name: str) -> None:
        here, there = f"ta{os.getpid() % 100000}", f"tb{os.getpid() % 100000}"
        ip("link", "add", here, "type", "veth", "peer", "name", there)
        for end in (here, there):
            hub.without_offloads(end)
        ip("link", "set", here, "netns", host.namespace, "name", "eth0")
        ip("link", "set", there, "netns", cables.namespace, "name", name)
        ip("-n", host.namespace, "link", "set", "eth0", "up")
        ip("-n", cables.namespace, "link", "set", name, "up")

    def cable(self, room: str, delay_s: float = 0.0, loss: float = 0.0) -> None:
        """How the way to that room is from now on. A loss of 1: it is cut."""
        self._hub.tell(json.dumps({"room": room, "delay_s": delay_s, "loss": loss}))
        self._hub.hears(room=room)

    def _environ(self, folder: Path, **settings: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIMMY_", "XDG_"))}
        places = {"XDG_CONFIG_HOME": folder, "TIMMY_RUNTIME": folder / "run", "TIMMY_STATE": folder / "state"}
        return {**kept, **{name: str(place) for name, place in places.items()}, **settings}

    @property
    def runtime(self) -> Path:
        return self.folder / "house" / "run"

    def open_house(self, daemons: Sequence[str] = DAEMONS) -> dict[str, Process]:
        """Starts daemons, and returns when they are ready."""
        settings = {"TIMMY_STT_INPUT": "none", "TIMMY_TTS_OUTPUT": "none", "TIMMY_LLM_ENGINE": "llama"}
        environ = self._environ(self.folder / "house", TIMMY_NETWORK_LISTEN=HOUSE, **settings)
        started = {
            name: self.house.run("-m", "tests.rooms.engines", name, environ=environ, log=self.folder / f"{name}.log")
            for name in daemons
        }
        deadline = time.monotonic() + PATIENCE_S
        for name in daemons:
            while not self._ready(name):
                assert time.monotonic() < deadline, (self.folder / f"{name}.log").read_text("utf-8")
        return started

    def _ready(self, daemon: str) -> bool:
        with Line(daemon, self.runtime) as line:
            result = line.ask(Status(), ttl_ms=1000).result
        return isinstance(result, StatusReport) and result.state == "ready"

    def room(self, name: str, *, allowed: bool = True, house_key: str = "", as_name: str = "") -> Process:
        """Starts the satellite of that room, with a key of its own."""
        folder, secret = self.folder / name, new_secret()
        write_secret(folder / "timmy" / "keys", secret)
        if allowed:
            allow(self.keys, Guest(public_of(secret), Role.SATELLITE, as_name or name))
        environ = self._environ(folder, TIMMY_HOUSE_ADDRESS=HOUSE, TIMMY_HOUSE_KEY=house_key or self.key)
        return self.rooms[name].run("-m", "tests.rooms.room", environ=environ, log=self.folder / f"{name}.log")


@contextmanager
def street(folder: Path, *rooms: str) -> Iterator[Street]:
    with ExitStack() as stack:
        yield Street(stack, folder, rooms)
