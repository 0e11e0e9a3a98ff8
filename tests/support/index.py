"""A package index on this machine that can be told to misbehave: pip and the fetcher talk to it for real."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self


def write_wheel(folder: Path, package: str, version: str, files: Mapping[str, bytes]) -> Path:
    """A wheel that holds `files` and what pip insists on."""
    stem = f"{package.replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


class Index:
    """Serves the wheels of a folder on localhost. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata = True
        """The index tells the metadata of wheels; old ones and many mirrors do not."""
        self.heads = True
        """HEAD is answered; where downloads are signed for GET alone, it is not."""
        self.ranges = True
        self.refuse_status = 0
        """Wheels are answered with this status when asked for by anybody but pip."""
        self.break_after = 0
        """Each answer with a wheel breaks off after this many bytes."""
        self.hold = threading.Event()
        """While clear, an answer stops after its first half."""
        self.hold.set()
        self.halfway = threading.Event()
        self.sent_bytes = 0
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.answer(self)

            def do_HEAD(self) -> None:
                if index.heads:
                    index.answer(self)
                else:
                    self.send_error(403)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        _, kind, name, *_ = f"{request.path}//".split("/")
        if kind == "simple":
            self._list(request, name)
        elif name.endswith(".metadata"):
            self._send(request, 200, _metadata(self.folder / name.removesuffix(".metadata")), {})
        elif self.refuse_status and not request.headers.get("User-Agent", "").startswith("pip"):
            self._send(request, self.refuse_status, b"", {})
        else:
            self._wheel(request, (self.folder / name).read_bytes())

    def _list(self, request: BaseHTTPRequestHandler, package: str) -> None:
        links = []
        for path in sorted(self.folder.glob(f"{package.replace('-', '_')}-*.whl")):
            known = (
                f'data-core-metadata="sha256={hashlib.sha256(_metadata(path)).hexdigest()}"' if self.metadata else ""
            )
            links.append(f'<a href="/files/{path.name}" {known}>{path.name}</a>')
        status = 200 if links else 404
        self._send(request, status, "\n".join(links).encode(), {"Content-Type": "text/html"})

    def _wheel(self, request: BaseHTTPRequestHandler, data: bytes) -> None:
        asked = request.headers.get("Range")
        if not (self.ranges and asked):
            self._send(request, 200, data, {}, of_wheel=True)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else len(data)]
        where = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._send(request, 206, part, {"Content-Range": where}, of_wheel=True)

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        data: bytes,
        headers: Mapping[str, str],
        of_wheel: bool = False,
    ) -> None:
        request.send_response(status)
        ranges = {"Accept-Ranges": "bytes"} if of_wheel and self.ranges else {}
        for name, value in {"Content-Length": str(len(data)), **ranges, **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        try:
            self._body(request, data, of_wheel)
        except OSError:
            request.close_connection = True  # the client has enough

    def _body(self, request: BaseHTTPRequestHandler, data: bytes, of_wheel: bool) -> None:
        if of_wheel and self.break_after and len(data) > self.break_after:
            data = data[: self.break_after]
            request.close_connection = True
        middle = len(data) // 2
        for half in (data[:middle], data[middle:]):
            request.wfile.write(half)
            request.wfile.flush()
            if of_wheel:
                self.sent_bytes += len(half)
            if of_wheel and len(data) > 64 * 1024 and not self.hold.is_set():
                self.halfway.set()
                self.hold.wait()


def _metadata(path: Path) -> bytes:
    with zipfile.ZipFile(path) as wheel:
        return next(wheel.read(name) for name in wheel.namelist() if name.endswith("METADATA"))
