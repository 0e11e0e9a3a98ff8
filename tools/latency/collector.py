"""Sends requests to an OpenTelemetry collector by OTLP/HTTP, as its specification says: which address belongs to a
base URL, what may be tried again and when, and what an answer means."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Self

import httpx
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ipc.errors import EXIT_TEMPORARY, EXIT_UNAVAILABLE, TimmyError

PATH = "/v1/traces"

RETRYABLE = frozenset({429, 502, 503, 504})
PATIENCE_S = 60.0
"""So long one request waits for a busy collector, all its pauses together."""

_FIRST_PAUSE_S = 0.5
_CONNECT_S, _ANSWER_S = 5.0, 30.0
_PROTOBUF = "application/x-protobuf"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class CollectorUnreachable(TimmyError):
    """Nothing answers there, or not in time."""

    exit_status = EXIT_UNAVAILABLE


class CollectorBusy(TimmyError):
    """It asks for more time than there is."""

    exit_status = EXIT_TEMPORARY


class CollectorRefuses(TimmyError):
    """It does not take what was sent, or is no collector."""


def traces_url(endpoint: str) -> str:
    """Where traces go, from the base URL of a collector. Raises ValueError when it is none."""
    try:
        url = httpx.URL(endpoint)
    except httpx.InvalidURL as error:
        raise ValueError(f"{endpoint!r} is no URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{endpoint!r} is not the URL of a collector: write for example http://localhost:4318")
    path = url.path.rstrip("/")
    return str(url.copy_with(path=path if path.endswith(PATH) else path + PATH))


class Collector:
    """One connection to a collector; use it as a context manager. `say` gets a line whenever it asks for time."""

    def __init__(self, endpoint: str, say: Callable[[str], None]) -> None:
        self.url = traces_url(endpoint)
        self._say = say
        # A proxy of the environment would be asked for this machine's own address.
        loopback = httpx.URL(self.url).host in _LOOPBACK
        timeout = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S)
        self._client = httpx.Client(timeout=timeout, trust_env=not loopback, headers={"Content-Type": _PROTOBUF})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def post(self, request: ExportTraceServiceRequest) -> ExportTracePartialSuccess:
        """Sends it, and again for PATIENCE_S while the collector is busy. Gives what was not taken of it."""
        body = request.SerializeToString()
        waited_s = 0.0
        for attempt in itertools.count():
            response = self._once(body)
            if response.status_code not in RETRYABLE:
                return self._taken(response)
            pause_s = _asked_for(response)
            if pause_s is None:
                pause_s = _FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0)
            if waited_s + pause_s > PATIENCE_S:
                raise CollectorBusy(f"{self.url} is busy ({_status(response)}): try again later")
            self._say(f"{self.url} is busy ({_status(response)}); again in {pause_s:.1f} s")
            time.sleep(pause_s)
            waited_s += pause_s
        raise AssertionError("counting has no end")

    def _once(self, body: bytes) -> httpx.Response:
        try:
            return self._client.post(self.url, content=body)
        except httpx.TimeoutException:
            raise CollectorUnreachable(f"{self.url} does not answer in time") from None
        except httpx.RemoteProtocolError:
            raise CollectorUnreachable(
                f"{self.url} does not speak HTTP: is it the gRPC port? OTLP/HTTP is usually at 4318"
            ) from None
        except httpx.TransportError as error:
            raise CollectorUnreachable(f"no collector at {self.url}: {error}") from None

    def _taken(self, response: httpx.Response) -> ExportTracePartialSuccess:
        if not response.is_success:
            hint = "; give the base URL of an OTLP/HTTP collector" if response.status_code in (404, 405) else ""
            raise CollectorRefuses(f"{self.url} refuses the spans: {_status(response)}{hint}")
        protobuf = response.headers.get("Content-Type", "").startswith(_PROTOBUF)
        try:
            if response.content and not protobuf:
                raise DecodeError
            answer: ExportTraceServiceResponse = ExportTraceServiceResponse.FromString(response.content)
        except DecodeError:
            raise CollectorRefuses(f"{self.url} does not answer as an OTLP/HTTP collector does") from None
        return answer.partial_success


def _asked_for(response: httpx.Response) -> float | None:
    """The pause in seconds that `Retry-After` (RFC 9110, 10.2.3) asks for, as a number or as a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _status(response: httpx.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".strip()
