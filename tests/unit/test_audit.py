"""The audit of dependencies: what is known fails, who cannot be asked is named, and nothing is passed over."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.audit import LOCKS, audit

_HASH = "--hash=sha256:" + "0" * 64


def _advisory(name: str) -> dict[str, Any]:
    fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [fixed]}
    return {"id": "PYSEC-2026-1", "aliases": [], "affected": [affected], "details": "It leaks."}


@contextmanager
def _osv(vulnerable: str = "", status: int = 200) -> Iterator[tuple[str, set[str]]]:
    """A service that speaks OSV's API and knows one vulnerable package: where it is, and what it was asked about."""
    asked: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
            asked.add(name)
            body = json.dumps({"vulns": [_advisory(name)]} if name == vulnerable else {}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(f"alpha==1.0 {_HASH}\nbeta==2.0 {_HASH}\n", "utf-8")
    return path


def test_a_known_vulnerability_fails(lock: Path) -> None:
    with _osv("beta") as (url, asked):
        status, said = audit([lock], url)
    assert status == 1
    assert said == "1 known vulnerabilities in 2 packages:\nbeta 2.0: PYSEC-2026-1, mended in 9.9"
    assert asked == {"pip", "alpha", "beta"}


def test_where_nothing_is_known_it_says_how_much_was_asked(lock: Path) -> None:
    with _osv() as (url, _):
        assert audit([lock], url) == (0, "2 packages, no known vulnerability")


def test_each_package_of_the_lock_files_is_asked_about() -> None:
    with _osv() as (url, asked):
        status, said = audit(osv=url)
    pinned = {line.split("==")[0] for lock in LOCKS for line in lock.read_text("utf-8").splitlines() if "==" in line}
    assert status == 0, said
    assert pinned <= asked
    assert {"pyzmq", "pip-audit"} <= asked


def test_a_service_that_cannot_be_reached_is_named_and_passes(lock: Path) -> None:
    with _osv() as (url, _):
        pass
    status, said = audit([lock], url)
    assert status == 0
    assert said.startswith(f"not audited: {url} cannot be reached (")


def test_a_service_that_refuses_is_one_that_cannot_be_reached(lock: Path) -> None:
    with _osv(status=403) as (url, asked):
        status, said = audit([lock], url)
    assert (status, asked) == (0, {"pip"})
    assert "403" in said


def test_a_lock_file_that_is_none_does_not_pass(tmp_path: Path) -> None:
    bad = tmp_path / "bad.lock"
    bad.write_text("alpha>=1.0\n", "utf-8")
    with _osv() as (url, _):
        status, said = audit([bad], url)
    assert status == 2
    assert said.startswith("not audited: ")


def test_what_users_install_has_no_known_vulnerability() -> None:
    """By the real service, where there is a network; where not, it says so."""
    status, said = audit(LOCKS[:1])
    print(said)
    assert status == 0, said
