"""Asking one daemon by hand, and watching what passes, over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipc.call import Call, Handler
from ipc.client import Client
from ipc.codec import Message
from ipc.errors import EXIT_UNAVAILABLE, EXIT_USAGE, CallError, Code
from ipc.ids import new_rid
from ipc.messages import (
    Body,
    Clause,
    ClauseReady,
    CreditGrant,
    Generate,
    Mute,
    Recall,
    Recalled,
    Result,
    Speak,
    Spoken,
    Token,
)
from ipc.observer import Gaps, Observed, Observer
from tests.socket.rig import tokens
from tests.support.daemon_thread import DaemonThread
from tests.support.eventually import eventually
from tools import cli
from tools.plain import as_plain, in_a_line
from tools.tap import NICE, as_json, as_line

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIMMY_RUNTIME", str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture
def house(runtime: Path) -> Iterator[None]:
    handlers: dict[type[Body], Handler] = {Recall: _recalled, Speak: _spoken, Generate: tokens}
    with DaemonThread("tts", handlers, runtime), DaemonThread("llm", handlers, runtime):
        yield


def _recalled(call: Call) -> Result:
    if call.body.text == "fail":
        raise CallError(Code.STORE_DAMAGED, "the store is damaged: restore it")
    return Recalled(memories=[], received_ns=1, finished_ns=2)


async def _spoken(call: Call) -> Result:
    count = 0
    async for item, _ in call:
        assert isinstance(item, Clause)
        await call.send(ClauseReady(index=count, received_ns=len(item.text), started_ns=0, ready_ns=0))
        count += 1
    return Spoken(clauses=count, audio_ms=0)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[Any], str]:
    status = cli.run(["probe", *arguments])
    out, err = capsys.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err


# --- probe ---


@pytest.mark.usefixtures("house")
def test_a_probe_without_a_message_pings_the_work_loop(capsys: pytest.CaptureFixture[str]) -> None:
    status, (pong,), _ = run(capsys, "tts")
    assert (status, pong["type"]) == (0, "pong")
    assert pong["ms"] > 0


@pytest.mark.usefixtures("house")
def test_who_is_there_and_how_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    _, (welcome,), _ = run(capsys, "tts", "hello")
    assert (welcome["type"], welcome["daemon"], len(welcome["boot_id"])) == ("welcome", "tts", 32)
    _, (report,), _ = run(capsys, "tts", "health")
    assert (report["type"], report["state"]) == ("status_report", "ready")


@pytest.mark.usefixtures("house")
def test_a_request_with_its_items_and_all_that_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    speak = '{"type": "speak", "conversation": "home"}'
    clauses = ['{"type": "clause", "text": "Hello."}', '{"type": "clause", "text": "You."}']
    for items in (clauses, [*clauses, '{"type": "end"}']):
        status, told, _ = run(capsys, "tts", speak, *items)
        assert status == 0
        assert [(each["type"], each.get("received_ns")) for each in told] == [
            ("clause_ready", 6),
            ("clause_ready", 4),
            ("spoken", None),
        ]


@pytest.mark.usefixtures("house")
def test_what_the_daemon_refuses_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    status, told, err = run(capsys, "tts", '{"type": "recall", "text": "fail", "limit": 1}')
    assert status != 0
    assert told == []
    assert err.strip().endswith("the store is damaged: restore it")


def test_a_daemon_that_is_not_there(runtime: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "tts", "--ttl", "100")
    assert status == EXIT_UNAVAILABLE
    assert "does not answer" in err


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (["nonsense"], "is not ping, hello, health or a message"),
        (['["type"]'], "is not ping, hello, health or a message"),
        (['{"text": "x"}'], "is not ping, hello, health or a message"),
        (['{"type": "recal"}'], "there is no message 'recal'"),
        (['{"type": ["recall"]}'], "there is no message ['recall']"),
        (['{"type": "recall", "text": "x", "limit": 999}'], "it is no 'recall'"),
        (['{"type": "recall", "text": "x", "limit": 1, "much": 2}'], "has no field 'much'"),
        (['{"type": "clause", "text": "x"}'], "cannot come first"),
        (["ping", '{"type": "pong", "t_ns": 1}'], "cannot follow a request"),
        (["hello", "health"], "'hello' stands alone"),
        (["ping", "hello"], "'hello' stands alone"),
        (["ping", "health"], "'health' stands alone"),
        (["--rid", "xyz", "ping"], "32 hexadecimal digits"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(
    message: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told, err = run(capsys, "tts", *message)
    assert (status, told) == (EXIT_USAGE, [])
    assert says in err


# --- tap ---


async def _until_seen(client: Client, observer: Observer) -> None:
    """Asks until the observer's subscription has come to the daemon."""
    seen = asyncio.ensure_future(anext(observer))
    while not seen.done():
        await client.request(Recall(text="is anybody there?", limit=1))
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("house")
def test_an_observer_sees_both_ways_and_loses_nothing(runtime: Path) -> None:
    async def scene() -> None:
        rid = new_rid()
        async with Observer(["tts"], runtime) as observer, Client("tts", "test", folder=runtime) as client:
            await client.wait_connected()
            await _until_seen(client, observer)
            stream = client.open(Generate(messages=[], max_tokens=300), rid=rid)
            assert len([item async for item, _ in stream]) == 300
            types = []
            async for seen in observer:
                if seen.message.rid == rid:
                    types.append(seen.message.body.type_name())
                if types[-1:] == ["generated"]:
                    break
            assert types[0] == "generate"
            assert types.count("token") == 300
            assert types.count("credit_grant") >= 1
            assert observer.lost == 0

    asyncio.run(scene())


@pytest.mark.usefixtures("house")
def test_a_tap_prints_a_line_for_each_message_and_writes_them_down(runtime: Path, tmp_path: Path) -> None:
    out, rid = tmp_path / "tap.jsonl", new_rid()
    command = [
        sys.executable,
        "-m",
        "tools.cli",
        "tap",
        "tts",
        "--type",
        "recall",
        "--type",
        "spoken",
        "--out",
        str(out),
    ]

    async def talk(tap: subprocess.Popen[str]) -> None:
        async with Client("tts", "test", folder=runtime) as client:
            await client.wait_connected()
            while not out.exists() or not out.read_text():
                await client.request(Recall(text="is anybody there?", limit=1))
                await asyncio.sleep(0.02)
            stream = client.open(Speak(conversation="home"), rid=rid)
            await stream.send(Clause(text="Hello."))
            stream.end()
            await stream.result()
            await eventually(lambda: rid.hex() in out.read_text())
            assert min(_nice(tap.pid)) >= NICE, "what is watched has to wait for a core that its tap has"
            tap.terminate()

    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tap:
        asyncio.run(talk(tap))
        printed, _ = tap.communicate(timeout=20)
    first, *_, last = printed.splitlines()
    assert first.split()[1:3] == ["tts", ">"]
    assert first.endswith('recall           text="is anybody there?" limit=1')
    assert last.split()[1:] == ["tts", "<", rid.hex()[-8:], "spoken", "clauses=1"]
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert {each["message"]["type"] for each in written} == {"recall", "spoken"}
    assert (written[-1]["rid"], written[-1]["message"]["clauses"], written[-1]["way"]) == (rid.hex(), 1, "<")


def _nice(pid: int) -> list[int]:
    """Of each thread."""
    return [os.getpriority(os.PRIO_PROCESS, int(each.name)) for each in Path(f"/proc/{pid}/task").iterdir()]


def test_a_tap_of_nobody_ends_when_it_should(runtime: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tap", "--seconds", "0.1"]) == 0
    told = "not running: stt, dialog, llm, memory, tts. What they say is shown as soon as they do (timmy up)."
    assert capsys.readouterr() == ("", f"{told}\n0 messages were not seen\n")


@pytest.mark.usefixtures("house")
def test_a_tap_says_who_of_those_that_it_watches_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tap", "tts", "stt", "--seconds", "0.1"]) == 0
    assert capsys.readouterr().err.startswith("not running: stt. ")
    assert cli.run(["tap", "tts", "llm", "--seconds", "0.1"]) == 0
    assert capsys.readouterr().err == "0 messages were not seen\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--type", "tokens"], "there is no message 'tokens'"),
        (["--rid", "x"], "hexadecimal digits"),
        (["--seconds", "0", "--out", "/no/such/folder"], "'/no/such/folder': No such file or directory"),
    ],
)
def test_a_wrong_filter_is_told(options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tap", *options]) == EXIT_USAGE
    assert says in capsys.readouterr().err


# --- what was missed ---


def header(body: Body, seq: int, rid: bytes = b"r" * 16) -> Message:
    return Message(rid, seq, 1, 0, body)


def _published(number: int) -> bytes:
    return number.to_bytes(8, "big")


def test_gaps_are_counted_by_daemon() -> None:
    gaps = Gaps()
    for daemon, number in (("llm", 5), ("llm", 6), ("tts", 1), ("llm", 9), ("tts", 3), ("llm", 10)):
        gaps.see(daemon, _published(number))
    assert gaps.lost == 3, "7 and 8 of llm, 2 of tts; nobody knows what came before the first"


def test_a_daemon_that_begins_anew_has_lost_nothing() -> None:
    gaps = Gaps()
    for number in (8, 9, 1, 2, 4):
        gaps.see("llm", _published(number))
    assert gaps.lost == 1


def test_a_message_in_a_line_is_short_and_on_one_line() -> None:
    said = Clause(text="a\nb\x1b[31m" + "c" * 100)
    line = in_a_line(said)
    assert line.isprintable()
    assert len(line) < 100
    assert in_a_line(Mute(conversation="home", from_ns=5, lease_ms=0)) == 'conversation="home"'
    assert as_plain(said) == {"type": "clause", "text": said.text}


def test_lines_of_a_tap() -> None:
    seen = Observed(5, "llm", header(Token(text="Hi", t_ns=1), 3, bytes(range(16))))
    assert as_line(seen).split()[1:] == ["llm", "<", "0c0d0e0f", "token", 'text="Hi"']
    assert json.loads(as_json(seen)) == {
        "seen_ns": 5, "daemon": "llm", "way": "<", "rid": bytes(range(16)).hex(), "epoch": 1, "seq": 3,
        "message": {"type": "token", "text": "Hi", "t_ns": 1},
    }  # fmt: skip
    assert " = " in as_line(Observed(5, "llm", header(CreditGrant(n=2), 1)))
