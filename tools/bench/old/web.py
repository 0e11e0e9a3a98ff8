"""What the three services share: HTTP/1.1 over kept connections, a request id in a header, calls to each other.

A service inherits its listening socket, so that all three know each other's addresses before any of them runs. It
ends when its stdin does: with whoever started it, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
import requests

from daemons.engines.base import EngineInfo
from ipc.errors import EXIT_UNAVAILABLE, TimmyError
from tools.bench.old.replies import Failure

RID_HEADER = "X-Request-Id"

PATIENCE_S = 120.0
"""Far longer than any turn: what takes longer hangs."""

T = TypeVar("T")


class ServiceError(TimmyError):
    """A service is gone, or could not do what it was asked."""

    exit_status = EXIT_UNAVAILABLE


class Setup(msgspec.Struct, frozen=True):
    """What a service is started with. `listener`: its socket's descriptor; `peers`: the address of each service."""

    listener: int
    pooled: bool
    peers: dict[str, str]
    folder: str


class Request(NamedTuple):
    """`received_ns`: when all of it was there."""

    rid: str
    body: bytes
    received_ns: int


Route = Callable[[Request], msgspec.Struct]


class Service(Protocol):
    """`engines` says what it runs, one line each."""

    engines: list[str]
    routes: Mapping[str, Route]

    def close(self) -> None: ...


def main(make: Callable[[Setup], Service]) -> None:
    """Runs a service until stdin ends. The line it prints when it is ready lists its engines."""
    setup = msgspec.json.decode(sys.argv[1], type=Setup)
    try:
        service = make(setup)
    except TimmyError as error:
        sys.exit(str(error))
    server = serving(socket.socket(fileno=setup.listener), service.routes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(msgspec.json.encode(service.engines).decode(), flush=True)
    try:
        sys.stdin.read()
    finally:
        service.close()


def serving(listener: socket.socket, routes: Mapping[str, Route]) -> ThreadingHTTPServer:
    """A server on a socket that listens already, a thread for each connection."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(routes), bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    return server


def _handler(routes: Mapping[str, Route]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # As it comes, head and body leave apart and a kept connection waits 40 ms for an acknowledgement each time.
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = Request(self.headers[RID_HEADER], body, time.monotonic_ns())
            reply: msgspec.Struct
            try:
                status, reply = 200, routes[self.path](request)
            except Exception as error:  # whatever it is, the caller is told
                status, reply = 500, Failure(str(error) or type(error).__name__)
            answer = msgspec.json.encode(reply)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.send_header(RID_HEADER, request.rid)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """A log line for each request would be measured too."""

    return Handler


class Caller:
    """Posts to services: over one pool of kept connections, or over a new one each time."""

    def __init__(self, pooled: bool) -> None:
        self._pool = _session() if pooled else None

    def post(self, url: str, rid: str, body: bytes, kind: type[T]) -> T:
        """The reply. Raises ServiceError with one line when there is none, or it tells of a failure."""
        try:
            with contextlib.nullcontext(self._pool) if self._pool else _session() as session:
                assert session is not None
                reply = session.post(url, data=body, headers={RID_HEADER: rid}, timeout=PATIENCE_S)
        except requests.RequestException as error:
            raise ServiceError(f"no answer from {url} ({type(error).__name__})") from None
        if reply.status_code != 200:
            raise ServiceError(msgspec.json.decode(reply.content, type=Failure).error)
        if reply.headers[RID_HEADER] != rid:
            raise ServiceError(f"{url} answered another request than it was asked")
        return msgspec.json.decode(reply.content, type=kind)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # a proxy of the environment would be asked for this machine's own address
    return session


def described(info: EngineInfo) -> str:
    return f"{info.engine} {info.model} {info.device}"


class EngineLoop:
    """An event loop in a thread of its own, for the engines that want one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engines", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns or raises; the calling thread waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
