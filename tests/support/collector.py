"""Rotel, an OpenTelemetry collector of another house and language, as a process; and what it says it has received.

It is asked for its detailed debug log, which tells all of every span.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import rotel

READY_S = 30.0
AGENT = Path(rotel.__file__).parent / "rotel-agent"

Attributes = dict[str, str | int | float | bool]


@dataclass
class Event:
    """A moment within a span, Unix ns."""

    attributes: Attributes
    name: str = ""
    at_ns: int = 0


@dataclass
class Received:
    """A span, as the collector shows it. Times are Unix ns, ids hex."""

    service: str
    name: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""
    kind: str = ""
    start_ns: int = 0
    end_ns: int = 0
    status: str = ""
    message: str = ""
    attributes: Attributes = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


class Receiver:
    """A running collector."""

    def __init__(self, port: int, log: Path) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._log = log

    def spans(self, count: int) -> list[Received]:
        """What has come, once there are so many spans."""
        deadline = time.monotonic() + READY_S
        while True:
            found = parse(self._log.read_text("utf-8"))
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"only {len(found)} of {count} spans have come"
            time.sleep(0.05)


@contextmanager
def receiving(folder: Path) -> Iterator[Receiver]:
    """A collector on a free port of the loopback, for as long as the test wants it."""
    http, grpc = _free_port(), _free_port()
    command = [str(AGENT), "start", "--exporter", "blackhole", "--pid-file", str(folder / "pid")]
    command += ["--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"]
    command += ["--debug-log", "traces", "--debug-log-verbosity", "detailed"]
    environ = {"NO_COLOR": "1", "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
    log = folder / "collector.log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environ) as process:
        try:
            _wait_until_it_listens(process, http, log)
            yield Receiver(http, log)
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        assert process.poll() is None, log.read_text("utf-8")
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.02)


_VALUES: dict[str, Callable[[str], str | int | float | bool]] = {
    "Str": str,
    "Int": int,
    "Double": float,
    "Bool": lambda text: text == "true",
}
_ATTRIBUTE = re.compile(r" +-> (\S+): (Str|Int|Double|Bool)\((.*)\)")
_FIELD = re.compile(r" *(?:-> )?(\w[\w ]*?) *: (.*)")
_FIELDS = {
    "Trace ID": "trace_id",
    "Parent ID": "parent_id",
    "ID": "span_id",
    "Name": "name",
    "Kind": "kind",
    "Status code": "status",
    "Status message": "message",
}


def parse(log: str) -> list[Received]:
    """The spans of a log."""
    spans: list[Received] = []
    attributes: Attributes = {}
    for line in log.splitlines():
        if line.startswith("ResourceSpans #"):
            resource = attributes = {}
        elif line.startswith("Span #"):
            attributes = {}
            spans.append(Received(str(resource["service.name"]), attributes=attributes))
        elif line.startswith("SpanEvent #"):
            attributes = {}
            spans[-1].events.append(Event(attributes))
        elif match := _ATTRIBUTE.match(line):
            attributes[match[1]] = _VALUES[match[2]](match[3])
        elif spans and (match := _FIELD.match(line)):
            _keep(spans[-1], match[1], match[2])
    return spans


def _keep(span: Received, key: str, value: str) -> None:
    if key == "Start time":
        span.start_ns = int(value)
    elif key == "End time":
        span.end_ns = int(value)
    elif key == "Timestamp":
        span.events[-1].at_ns = int(value)
    elif key == "Name" and span.events:
        span.events[-1].name = value
    elif key in _FIELDS:
        setattr(span, _FIELDS[key], value)
