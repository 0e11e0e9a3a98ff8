"""What `timmy bench ipc` compares: for each way to ask a question a server in its own process, and its caller.

All carry the same words. `python -m tools.bench.peers NAME FOLDER` is a server; it prints where it listens.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import zmq

from ipc import codec
from ipc.call import Call
from ipc.codec import Message
from ipc.ids import new_rid
from ipc.messages import Recall, Recalled, Result, StatusReport
from ipc.server import Server
from ipc.transport import ZmqServerTransport

QUESTION = Recall(text="When does the plumber come?", limit=3)
ANSWER = Recalled(memories=[], received_ns=1, finished_ns=2)
PLAIN = {"type": "recall", "rid": "0199c0ffee007abc8def0123456789ab", **msgspec.to_builtins(QUESTION)}
FRAME = codec.encode(Message(new_rid(), 0, 1, 5000, QUESTION))[0]

Ask = Callable[[], object]
AskSoon = Callable[[], Awaitable[object]]


# --- servers: each runs until it is ended ------------------------------------------------------------------


def serve_request(folder: Path) -> None:
    def answer(call: Call) -> Result:
        return ANSWER

    def status() -> StatusReport:
        raise NotImplementedError

    async def run() -> None:
        Server("memory", ZmqServerTransport("memory", folder), {Recall: answer}, status).start()
        _ready(folder)
        await asyncio.Event().wait()

    asyncio.run(run())


def serve_bare_blocking(folder: Path) -> None:
    with _socket(zmq.ROUTER) as router:
        router.bind(f"ipc://{folder}/blocking.sock")
        _ready(folder)
        while True:
            router.send_multipart(router.recv_multipart())


def serve_bare_pyzmq(folder: Path) -> None:
    async def run() -> None:
        with _socket(zmq.ROUTER) as router:
            router.bind(f"ipc://{folder}/bare.sock")
            _on_message(router, lambda frames: router.send_multipart(frames, zmq.DONTWAIT))
            _ready(folder)
            await asyncio.Event().wait()

    asyncio.run(run())


def _socket(kind: int) -> zmq.Socket[bytes]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    made = context.socket(kind)
    made.setsockopt(zmq.LINGER, 0)
    return made


def _on_message(reader: zmq.Socket[bytes], deal: Callable[[list[bytes]], object]) -> Callable[[], None]:
    """A bare socket on the running loop. Returns what to call after a send: it looks whether an edge was missed."""
    loop = asyncio.get_running_loop()

    def drain() -> None:
        while True:
            try:
                deal(reader.recv_multipart(zmq.DONTWAIT))
            except zmq.Again:
                return

    def sent() -> None:
        if int(reader.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            loop.call_soon(drain)

    loop.add_reader(int(reader.getsockopt(zmq.FD)), drain)
    sent()
    return sent


def serve_unix_raw(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/raw.sock")
        listener.listen()
        _ready(folder)
        connection, _ = listener.accept()
        while request := connection.recv(65536):
            connection.sendall(msgspec.msgpack.encode(msgspec.msgpack.decode(request)))


def serve_http(folder: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # As it comes, head and body leave apart and a kept connection waits 40 ms for an acknowledgement each time.
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps(request).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """A log line for each request would be measured too."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    _ready(f"http://127.0.0.1:{server.server_port}/recall")
    server.serve_forever()


def _ready(where: object) -> None:
    print(where, flush=True)


SERVERS = {
    "request": serve_request,
    "bare_pyzmq": serve_bare_pyzmq,
    "bare_blocking": serve_bare_blocking,
    "unix_raw": serve_unix_raw,
    "http": serve_http,
}


@contextmanager
def serving(name: str, folder: Path) -> Iterator[str]:
    """The server of that name; where it listens."""
    command = [sys.executable, "-m", "tools.bench.peers", name, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


# --- callers on a loop -------------------------------------------------------------------------------------


@contextmanager
def bare_pyzmq(folder: str) -> Iterator[AskSoon]:
    """The same sockets on the same kind of loop, without codec, session and rules."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[list[bytes]]] = []
    with _socket(zmq.DEALER) as dealer:
        dealer.connect(f"ipc://{folder}/bare.sock")
        sent = _on_message(dealer, lambda frames: waiting.pop().set_result(frames))

        async def ask() -> object:
            waiting.append(loop.create_future())
            answer = waiting[-1]
            dealer.send_multipart([FRAME], zmq.DONTWAIT)
            sent()
            return await answer

        yield ask
        loop.remove_reader(int(dealer.getsockopt(zmq.FD)))


# --- callers that block: one question, one answer ----------------------------------------------------------


@contextmanager
def bare_blocking(folder: str) -> Iterator[Ask]:
    with _socket(zmq.DEALER) as dealer:
        dealer.connect(f"ipc://{folder}/blocking.sock")

        def ask() -> object:
            dealer.send_multipart([FRAME])
            return dealer.recv_multipart()

        yield ask


@contextmanager
def unix_raw(folder: str) -> Iterator[Ask]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{folder}/raw.sock")

        def ask() -> object:
            connection.sendall(msgspec.msgpack.encode(PLAIN))
            return msgspec.msgpack.decode(connection.recv(65536))

        yield ask


@contextmanager
def http_pooled(url: str) -> Iterator[Ask]:
    import requests

    with requests.Session() as session:
        yield lambda: session.post(url, json=PLAIN, timeout=10).json()


@contextmanager
def http_new(url: str) -> Iterator[Ask]:
    import requests

    yield lambda: requests.post(url, json=PLAIN, timeout=10).json()


if __name__ == "__main__":
    SERVERS[sys.argv[1]](Path(sys.argv[2]))
