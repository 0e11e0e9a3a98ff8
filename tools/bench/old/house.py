"""The three services as processes of their own."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

import msgspec

from tools.bench.old.replies import Done, Listened, Text
from tools.bench.old.web import Caller, ServiceError, Setup

SERVICES = {"stt": "stt_service", "preprocessor": "preprocessor", "tts": "tts_service"}
"""Each service's module."""

READY_S = 120.0
_END_S = 10.0
_DEATH_S = 1.0
"""A connection breaks a moment before its process can be seen to have ended."""

T = TypeVar("T")


class OldHouse:
    """After `start` the services are ready; `close` ends them. Everything raises ServiceError with one line when one of
    them cannot start or has ended. `engines`: what they run, one line each."""

    def __init__(self, name: str, pooled: bool) -> None:
        self.engines: list[str] = []
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self._name = name
        self._pooled = pooled
        self._stack = ExitStack()

    def start(self) -> None:
        """What was started before it fails is ended by `close`."""
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="timmy-")))
        self._caller = self._stack.enter_context(closing(Caller(self._pooled)))
        self._stack.callback(self._end)
        self._spawn()
        for service in SERVICES:
            self.engines += self._until_ready(service)

    def close(self) -> None:
        self._stack.close()

    def listen(self, rid: str, pcm: bytes) -> Listened:
        """Says `pcm` (STT_RATE, 16-bit mono) to the microphone; returns when the answer has sounded."""
        return self._post("stt", "/listen", rid, pcm, Listened)

    def remember(self, rid: str, text: str) -> None:
        """Keeps `text`."""
        self._post("preprocessor", "/remember", rid, msgspec.json.encode(Text(text)), Done)

    def _post(self, service: str, path: str, rid: str, body: bytes, kind: type[T]) -> T:
        try:
            return self._caller.post(self._addresses[service] + path, rid, body, kind)
        except ServiceError as error:
            for name, process in self.processes.items():
                if _ended(process):
                    raise self._gone(name) from None
            raise ServiceError(f"{self._name}: {error}") from None

    def _spawn(self) -> None:
        with ExitStack() as stack:
            sockets = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in SERVICES}
            self._addresses = {name: f"http://127.0.0.1:{bound.getsockname()[1]}" for name, bound in sockets.items()}
            for name, module in SERVICES.items():
                listener = sockets[name].fileno()
                setup = Setup(listener, self._pooled, self._addresses, str(self._folder))
                log = stack.enter_context(self._log(name).open("wb"))
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", f"tools.bench.old.{module}", msgspec.json.encode(setup).decode()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=[listener],
                    text=True,
                )

    def _until_ready(self, service: str) -> list[str]:
        """The engines that a service has loaded."""
        stdout = self.processes[service].stdout
        assert stdout is not None
        if not select.select([stdout], [], [], READY_S)[0]:
            raise ServiceError(f"{self._name}: the {service} service was not ready after {READY_S:.0f} s")
        line = stdout.readline()
        if not line:
            raise self._gone(service)
        return msgspec.json.decode(line, type=list[str])

    def _end(self) -> None:
        """Their stdin ends, and so do they."""
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes.values():
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def _gone(self, service: str) -> ServiceError:
        """Why a service is not there, in its own last words."""
        status = self.processes[service].wait()
        words = self._log(service).read_text("utf-8", "replace").strip().splitlines()
        last = f": {words[-1]}" if words else ""
        return ServiceError(f"{self._name}: the {service} service ended with status {status}{last}")

    def _log(self, service: str) -> Path:
        return self._folder / f"{service}.log"


def _ended(process: subprocess.Popen[str]) -> bool:
    try:
        process.wait(_DEATH_S / len(SERVICES))
    except subprocess.TimeoutExpired:
        return False
    return True
