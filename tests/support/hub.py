"""A model hub on this machine that speaks as much of Hugging Face's protocol as fetching needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves `files` of each repository. A context manager."""

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        self.repositories = repositories
        self.fetched: list[str] = []
        self.damage = b""
        """Put in the place of what every file begins with."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            def do_HEAD(self) -> None:
                hub.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        for repository, files in self.repositories.items():
            if path.startswith(f"/api/models/{repository}"):
                rest = path.removeprefix(f"/api/models/{repository}")
                self._send(request, json.dumps(_tree(files) if "/tree/" in rest else _info(repository, files)).encode())
                return
            if path.startswith(prefix := f"/{repository}/resolve/{COMMIT}/"):
                name = path.removeprefix(prefix)
                if request.command == "GET":
                    self.fetched.append(name)
                data = self.damage + files[name][len(self.damage) :]
                self._send(request, data, {"ETag": f'"{_sha256(files[name])}"', "X-Repo-Commit": COMMIT})
                return
        self._send(request, b"{}", {"X-Error-Code": "RepoNotFound"}, status=404)

    def _send(
        self, request: BaseHTTPRequestHandler, data: bytes, headers: Mapping[str, str] | None = None, status: int = 200
    ) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _lfs(data: bytes) -> dict[str, object]:
    return {"sha256": _sha256(data), "oid": _sha256(data), "size": len(data), "pointerSize": 134}


def _info(repository: str, files: Mapping[str, bytes]) -> dict[str, object]:
    siblings = [{"rfilename": name, "size": len(data), "lfs": _lfs(data)} for name, data in files.items()]
    return {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}


def _tree(files: Mapping[str, bytes]) -> list[dict[str, object]]:
    return [
        {"type": "file", "path": name, "size": len(data), "oid": _sha256(data)[:40], "lfs": _lfs(data)}
        for name, data in files.items()
    ]
