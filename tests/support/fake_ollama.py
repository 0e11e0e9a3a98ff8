"""A real HTTP server that speaks Ollama's API, and can be told how to fail."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

LINES = ("The", " capital", " of", " France", " is", " Paris", ".")


class FakeOllama:
    """`with FakeOllama() as server:` serves on `server.url`, which is on the loopback.

    `fault`: "" (none), "500", "404", "not json", "not ollama" (JSON of another kind), "stops" (hangs up after
    three pieces), "ends" (three pieces and a proper end of the HTTP answer, but no last message), "error"
    (an error in mid-stream), "endless" (pieces until the client hangs up), "silent" (nothing ever comes), "slow" (one
    byte a second), "bad UTF-8" (in the midst of a piece), "huge" (a piece of a million characters), "hangs up" (on a
    connection that was kept, when the next request comes over it).
    """

    def __init__(self, models: tuple[str, ...] = ("llama3.2:3b",), pieces: tuple[str, ...] = LINES) -> None:
        self.models = list(models)
        self.pieces = pieces
        self.fault = ""
        self.requests: list[dict[str, Any]] = []
        """Bodies of the chat requests, in their order."""
        self.asked = threading.Event()
        """A chat request has come."""
        self.connections: list[socket.socket] = []
        self.hung_up = threading.Event()
        """A client went away while it was being answered."""
        self.written = 0
        """Pieces written, over all answers."""
        self.closing = threading.Event()

    @property
    def handler(self) -> type[Handler]:
        return Handler

    def __enter__(self) -> Self:
        handler = type("Bound", (self.handler,), {"server_state": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.closing.is_set():
            self.stop()

    def stop(self) -> None:
        """Ends as a server that is killed: all connections with it."""
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # it was closed before
                connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """Of `FakeOllama`."""

    server_state: FakeOllama
    protocol_version = "HTTP/1.1"
    served = 0
    """Requests of this connection."""

    def setup(self) -> None:
        super().setup()
        self.server_state.connections.append(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionResetError):  # a client that hangs up is what is wanted
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        if not self._broken():
            models = [{"model": name, "name": name, "size": 1} for name in self.server_state.models]
            self._whole(200, json.dumps({"models": models}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._broken():
            return
        if self.path == "/api/pull":
            self._pull(body)
            return
        self.server_state.requests.append(body)
        self.server_state.asked.set()
        if body["model"] not in self.server_state.models:
            self._whole(404, json.dumps({"error": f"model '{body['model']}' not found"}))
            return
        try:
            self._chat(body)
        except (BrokenPipeError, ConnectionResetError):
            self.server_state.hung_up.set()
            self.close_connection = True

    def _broken(self) -> bool:
        """Answers with the fault that concerns every request, if one is set."""
        answers = {
            "500": (500, '{"error": "the runner has died"}'),
            "404": (404, '{"error": "model not found"}'),
            "not json": (200, "<html>a router's login page</html>\n"),
            "not ollama": (200, '["some", "other", "service"]\n'),
        }
        self.served += 1
        if self.server_state.fault == "hangs up" and self.served > 1:
            self.close_connection = True
            return True
        if fault := answers.get(self.server_state.fault):
            self._whole(*fault)
        return fault is not None

    def _chat(self, body: dict[str, Any]) -> None:
        state = self.server_state
        self._begin()
        if state.fault == "silent":
            state.closing.wait(20)
        limit = body["options"]["num_predict"]
        pieces = state.pieces[:limit]
        if state.fault in ("stops", "ends", "error"):
            pieces = pieces[:3]
        self._oddity(b'{"model": "m", "message": {"role": "assistant", "content": "%s"}, "done": false}\n')
        for piece in pieces:
            self._message(piece)
        while state.fault == "endless" and not state.closing.wait(0.01):
            self._message(" more")
        if state.fault == "stops":
            self.close_connection = True  # without the chunk that ends an HTTP answer
            return
        if state.fault == "error":
            self._line({"error": "out of memory"})
        elif state.fault != "ends":
            self._line(self._last(len(pieces), "length" if len(pieces) == limit else "stop"))
        self.wfile.write(b"0\r\n\r\n")

    def _oddity(self, piece: bytes) -> None:
        """What comes before the proper pieces."""
        match self.server_state.fault:
            case "huge":
                self._chunk(piece % (b"x" * 1_000_000))
            case "bad UTF-8":
                self._chunk(piece % b"caf\xe9 \xff")
            case "slow":
                self._trickle(piece % b"A")

    def _message(self, piece: str) -> None:
        self._line({"model": "m", "message": {"role": "assistant", "content": piece}, "done": False})
        self.server_state.written += 1

    def _last(self, pieces: int, reason: str) -> dict[str, Any]:
        return {
            "model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": reason,
            "prompt_eval_count": 21, "prompt_eval_cached_count": 8, "eval_count": pieces,
        }  # fmt: skip

    def _pull(self, body: dict[str, Any]) -> None:
        self._begin()
        self._line({"status": "pulling manifest"})
        if body["model"] == "no-such-model":
            self._line({"error": "pull model manifest: file does not exist"})
        elif self.server_state.fault == "error":
            self._line({"error": "write: no space left on device"})
        else:
            for done in (0, 500, 1000):
                self._line({"status": "pulling 8daa9615cce3", "digest": "sha256:8d", "total": 1000, "completed": done})
            if self.server_state.fault != "ends":
                self._line({"status": "success"})
        self.wfile.write(b"0\r\n\r\n")

    def _begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _line(self, value: dict[str, Any]) -> None:
        self._chunk(json.dumps(value).encode() + b"\n")

    def _trickle(self, data: bytes) -> None:
        for byte in data:
            self._chunk(bytes([byte]))
            if self.server_state.closing.wait(1.0):
                return

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _whole(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
