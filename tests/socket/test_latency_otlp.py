"""timmy latency export --otlp: to a real collector, and to servers that are busy, strange or not there."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from ipc.audio import read_wav
from ipc.client import Client
from ipc.errors import EXIT_OK, EXIT_SOFTWARE, EXIT_TEMPORARY, EXIT_UNAVAILABLE, EXIT_USAGE
from ipc.ids import new_rid
from ipc.marks import Stage
from ipc.messages import Ask
from tests.support.chrome_trace import check
from tests.support.collector import Received, Receiver, receiving
from tests.support.suite import EXAMPLES, running
from tests.support.suite import house as daemons
from tests.support.traces import DELAYS, House
from tools import cli
from tools.latency import otlp, perfetto
from tools.latency.collector import traces_url
from tools.latency.exporting import owner, unix_ns
from tools.latency.reading import Losses, read_turns
from tools.latency.turns import Turn
from tools.recorded import open_talk

BUSY_S = 1


@pytest.fixture
def house(tmp_path: Path) -> House:
    folder = tmp_path / "trace"
    folder.mkdir()
    return House(folder)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path) as receiver:
        yield receiver


def export(folder: Path, endpoint: str) -> int:
    return cli.run(["latency", "export", "--trace", str(folder), "--otlp", endpoint])


def turns_of(folder: Path) -> list[Turn]:
    return list(read_turns(folder, Losses()))


def _times(spans: list[Received]) -> list[tuple[str, str, int, int]]:
    return sorted((span.service, span.name, span.start_ns, span.end_ns) for span in spans)


# --- a real collector ------------------------------------------------------------------------------------------


def _check_trace(turn: Turn, received: list[Received]) -> Received:
    """All spans of the turn are there under its own id; returns the one of the whole turn."""
    spans = [span for span in received if span.trace_id == turn.rid.hex()]
    (root,) = [span for span in spans if span.name == otlp.ROOT]
    children = [span for span in spans if span is not root]
    assert (root.parent_id, root.service) == ("", "timmy-dialog")
    assert {span.parent_id for span in children} == {root.span_id}
    assert len({span.span_id for span in spans}) == len(spans)
    assert _times(children) == sorted(
        (f"timmy-{owner(span)}", span.stage, unix_ns(turn, span.start_ns), unix_ns(turn, span.end_ns))
        for span in turn.spans
    )
    assert root.start_ns == unix_ns(turn, min(mark.t_ns for mark in turn.marks))
    assert root.end_ns == unix_ns(turn, max(mark.t_ns for mark in turn.marks))
    assert root.attributes["timmy.outcome"] == turn.outcome
    assert root.attributes["gen_ai.conversation.id"] == turn.conversation
    assert root.attributes.get("timmy.first_audio_ms") == turn.first_audio_ms
    return root


def test_a_collector_receives_every_turn(house: House, collector: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    with house:
        house.turn({"recall": 250.0}, conversation="Küche", heard="Where is the key?")
        house.turn(attempts=2)
        house.turn(until=Stage.MODEL_SENT, outcome="failed")
        house.turn(until=Stage.MODEL_SENT, outcome="cancelled", typed=True)
    turns = turns_of(house.folder)
    expected = sum(1 + len(turn.spans) for turn in turns)
    assert export(house.folder, collector.endpoint) == EXIT_OK
    assert capfd.readouterr().err == f"4 turns, {expected} spans sent to {collector.endpoint}/v1/traces\n"
    received = collector.spans(expected)
    answered, resumed, failed, cancelled = (_check_trace(turn, received) for turn in turns)
    assert answered.attributes["timmy.first_audio_ms"] == sum(DELAYS.values()) - DELAYS["recall"] + 250.0
    assert (answered.status, failed.status) == ("", "STATUS_CODE_ERROR")
    assert [event.name for event in resumed.events] == ["resumed", "revoked", "muted", "muted"]
    assert resumed.events[1].attributes == {"timmy.daemon": "dialog", "timmy.revision": 0}
    assert [event.name for event in cancelled.events] == ["cancelled"]
    assert cancelled.events[0].at_ns <= cancelled.end_ns
    (model, *_) = [span for span in received if span.name == "llm_first_token"]
    assert model.service == "timmy-llm"
    assert model.attributes["gen_ai.usage.input_tokens"] == 400
    assert model.attributes["gen_ai.usage.cache_read.input_tokens"] == 300
    assert not [span for span in received if "key" in str(span)], "what was heard stays here"


def test_sent_twice_it_is_the_same(house: House, collector: Receiver) -> None:
    with house:
        house.turn(attempts=2)
    count = sum(1 + len(turn.spans) for turn in turns_of(house.folder))
    for _ in range(2):
        assert export(house.folder, collector.endpoint) == EXIT_OK
    received = collector.spans(2 * count)
    assert received[:count] == received[count:]


def test_many_turns_go_in_several_batches(house: House, collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "BATCH_SPANS", 40)
    with house:
        rids = [house.turn().hex() for _ in range(9)]
    turns = turns_of(house.folder)
    assert len(list(otlp.batches(turns))) > 2
    assert export(house.folder, collector.endpoint) == EXIT_OK
    received = collector.spans(sum(1 + len(turn.spans) for turn in turns))
    assert {span.trace_id for span in received} == set(rids)
    for turn in turns:
        _check_trace(turn, received)


@pytest.mark.models
def test_real_turns_at_a_time_are_sound_in_both_forms(tmp_path: Path, collector: Receiver) -> None:
    async def speak() -> None:
        async with AsyncExitStack() as stack:
            talk = await open_talk(stack, None)
            assert [result async for result in talk.play(read_wav(EXAMPLES / "2-capital.wav"))]

    async def ask() -> None:
        async with Client("dialog", "test") as dialog:
            await dialog.wait_connected()
            await dialog.request(Ask(conversation="typed", text="What is the capital of Italy?"), rid=new_rid())

    async def both() -> None:
        await asyncio.gather(speak(), ask())

    with daemons(tmp_path), running():
        asyncio.run(both())
    turns = turns_of(tmp_path / "trace")
    assert {turn.typed for turn in turns} == {True, False}
    file = io.BytesIO()
    perfetto.write(turns, Losses(), file)
    found = check(file.getvalue())
    assert {("stt", "dialog"), ("dialog", "llm"), ("llm", "dialog"), ("dialog", "tts")} <= set(found.arrows)
    assert export(tmp_path / "trace", collector.endpoint) == EXIT_OK
    received = collector.spans(sum(1 + len(turn.spans) for turn in turns))
    for turn in turns:
        _check_trace(turn, received)


# --- servers with faults ---------------------------------------------------------------------------------------


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


class Faulty(HTTPServer):
    """Gives these answers, one a request, and keeps the paths and bodies it was asked with."""

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, bytes]] = []
        self.endpoint = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Faulty

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/x-protobuf"
        self.server.asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        answer = self.server.answers.pop(0)
        self.send_response(answer.status)
        for key, value in {"Content-Type": "application/x-protobuf", **answer.headers}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Not into the test's output."""


@contextmanager
def answering(*answers: Answer) -> Iterator[Faulty]:
    with Faulty(list(answers)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def folder(house: House) -> Path:
    with house:
        house.turn()
    return house.folder


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_collector_is_asked_again_when_it_says(
    status: int, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with answering(Answer(status, {"Retry-After": str(BUSY_S)}), Answer(status), Answer(200)) as server:
        assert export(folder, server.endpoint) == EXIT_OK
    assert [path for path, _ in server.asked] == ["/v1/traces"] * 3
    assert len({body for _, body in server.asked}) == 1
    told = capfd.readouterr().err.splitlines()
    assert told[0].startswith(f"{server.endpoint}/v1/traces is busy ({status} ")
    assert told[0].endswith(f"; again in {BUSY_S}.0 s")
    assert len(told) == 3


def test_a_collector_may_name_the_time(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dates = [format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True) for ahead in (-60, 3600)]
    with answering(*(Answer(503, {"Retry-After": date}) for date in dates)) as server:
        assert export(folder, server.endpoint) == EXIT_TEMPORARY
    past, far = capfd.readouterr().err.splitlines()
    assert past.endswith("; again in 0.0 s")
    assert far.startswith(f"timmy: {server.endpoint}/v1/traces is busy (503 ")
    assert far.endswith("try again later")


def test_what_is_not_taken_is_told(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    partly = ExportTraceServiceResponse()
    partly.partial_success.rejected_spans = 3
    partly.partial_success.error_message = "too old"
    with answering(Answer(200, body=partly.SerializeToString())) as server:
        assert export(folder, server.endpoint) == 1
    told = capfd.readouterr().err.splitlines()
    assert told[0] == f"{server.endpoint}/v1/traces: too old"
    assert told[-1].startswith("Error: the collector did not take 3 of the ")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(404), "refuses the spans: 404 Not Found; give the base URL of an OTLP/HTTP collector"),
        (Answer(400), "refuses the spans: 400 Bad Request"),
        (Answer(307, {"Location": "/elsewhere"}), "refuses the spans: 307 Temporary Redirect"),
        (Answer(500), "refuses the spans: 500 Internal Server Error"),
        (Answer(200, {"Content-Type": "text/html"}, b"<p>Hello"), "does not answer as an OTLP/HTTP collector does"),
        (Answer(200, body=b"<p>Hello"), "does not answer as an OTLP/HTTP collector does"),
    ],
)
def test_who_is_no_collector_is_asked_once(
    answer: Answer, said: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with answering(answer) as server:
        assert export(folder, server.endpoint) == EXIT_SOFTWARE
    assert len(server.asked) == 1
    assert capfd.readouterr().err == f"timmy: {server.endpoint}/v1/traces {said}\n"


def test_nobody_there_is_one_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
    assert export(folder, endpoint) == EXIT_UNAVAILABLE
    assert capfd.readouterr().err == f"timmy: no collector at {endpoint}/v1/traces: [Errno 111] Connection refused\n"


def test_a_server_of_another_protocol_is_one_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"\0\0\x12\4\0\0\0\0\0")
                while connection.recv(65536):
                    pass

        thread = threading.Thread(target=greet)
        thread.start()
        assert export(folder, f"http://127.0.0.1:{server.getsockname()[1]}") == EXIT_UNAVAILABLE
        thread.join()
    told = capfd.readouterr().err
    assert "does not speak HTTP: is it the gRPC port?" in told
    assert told.count("\n") == 1


def test_a_server_that_stays_silent_is_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.latency.collector._ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert export(folder, f"http://127.0.0.1:{server.getsockname()[1]}") == EXIT_UNAVAILABLE
    told = capfd.readouterr().err
    assert "does not answer in time" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("endpoint", ["localhost:4318", "4318", "", "ftp://localhost", "http://", "http://a:b"])
def test_an_endpoint_is_a_url(endpoint: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(folder, endpoint) == EXIT_USAGE
    assert f"Error: {endpoint!r} is " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("https://house.example/otel/", "https://house.example/otel/v1/traces"),
        ("https://house.example/otel?key=1", "https://house.example/otel/v1/traces?key=1"),
        ("http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces"),
    ],
)
def test_the_path_is_that_of_the_specification(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url
