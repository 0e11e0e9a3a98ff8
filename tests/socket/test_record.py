"""What a recording holds, and what it costs the daemon that is recorded: nothing that it would wait for."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from ipc import limits
from ipc import messages as m
from ipc.client import Client
from ipc.errors import (
    EXIT_IO,
    CallError,
    Code,
)
from ipc.messages import Body
from tests.support.daemon_thread import DaemonThread
from tests.support.eventually import eventually
from tests.support.recording import (
    ROOT,
    SOUND,
    Fakes,
    ask,
    connected,
    conversation,
    feed,
    read,
    recorded,
    requests,
    whole,
)
from tools.recording.file import Entry, Recording, Writer
from tools.recording.take import Take

# --- what is in a recording ---


@pytest.mark.usefixtures("house")
def test_every_frame_both_ways_with_its_time(tmp_path: Path) -> None:
    before = time.monotonic_ns()
    path = recorded(tmp_path / "a.rec", conversation)
    entries = [entry for entry in Recording(path) if isinstance(entry, Entry)]
    assert len([entry for entry in entries if entry.frames[1:] == [SOUND]]) == 30
    for daemon in ("stt", "dialog", "tts"):
        times = [entry.t_ns for entry in entries if entry.daemon == daemon]
        assert times == sorted(times)
        assert before < times[0]
        assert times[-1] < time.monotonic_ns()
    due: dict[tuple[Any, ...], int] = {}
    for entry in entries:
        message = entry.message
        key = (entry.daemon, entry.peer, message.rid, message.epoch, entry.incoming)
        assert message.seq == due.get(key, 0), "none of the numbers of either side is missing"
        due[key] = message.seq + 1
        if not isinstance(message.body, m.Hello):
            assert entry.caller == "test"
    kinds = {entry.message.body.type_name() for entry in entries}
    assert {"hello", "welcome", "ask", "delta", "answered", "audio", "end", "cancel", "credit_grant"} <= kinds
    assert not kinds & {"record", "passed"}
    asked = requests(path)
    assert sorted(each.name for each in asked) == ["ask", "ask", "feed", "follow", "speak"]
    assert all(each.end is not None and each.ended_ns > each.t_ns for each in asked)


@pytest.mark.usefixtures("house")
def test_two_record_at_once_and_not_each_other(tmp_path: Path) -> None:
    async def inner() -> None:
        writer = Writer(tmp_path / "b.rec", ["dialog"])
        async with Take(["dialog"], writer.write):
            await ask()
        writer.close()

    both = [recorded(tmp_path / "a.rec", inner), tmp_path / "b.rec"]
    assert [[each.texts for each in requests(path)] for path in both] == [[["It is noon. ", "It is noon."]]] * 2


def test_a_daemon_that_comes_back_leaves_a_gap(runtime: Path, tmp_path: Path, fakes: Fakes) -> None:
    async def scene() -> None:
        writer = Writer(tmp_path / "a.rec", ["dialog"])
        async with AsyncExitStack() as stack:
            with DaemonThread("dialog", fakes.handlers(), runtime):
                take = await stack.enter_async_context(Take(["dialog"], writer.write))
                await ask("one")
            await eventually(lambda: len(take.gaps) == 1)
            with DaemonThread("dialog", fakes.handlers(), runtime):
                await eventually(lambda: "dialog" in take._streams)
                await ask("two")
                await stack.aclose()
        writer.close()

    asyncio.run(scene())
    found = whole(tmp_path / "a.rec")
    assert [gap.daemon for gap in found.gaps] == ["dialog"]
    assert [(each.body, each.life) for each in found.asked.values()] == [
        (m.Ask(conversation="c", text="one"), 0),
        (m.Ask(conversation="c", text="two"), 1),
    ]


async def recording(client: Client) -> bool:
    """Whether a recording can begin, and end."""
    stream = client.open(m.Record())
    try:
        stream.end()
        return await stream.result() == m.Done()
    except CallError as error:
        return error.code is not Code.BUSY


@pytest.mark.usefixtures("house")
def test_who_does_not_read_loses_the_recording_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORD_BACKLOG_MAX_BYTES", 20_000)

    async def scene() -> None:
        async with connected("dialog", "lazy") as client:
            stream = client.open(m.Record())
            for _ in range(60):
                assert await ask() == "It is noon."
            seen: list[Body] = []
            with pytest.raises(CallError, match="does not keep up") as raised:
                await read(stream, seen)
            assert raised.value.code is Code.OVER_QUOTA
            assert len(seen) >= limits.CREDIT_EVENTS, "what had been sent before is whole"

    asyncio.run(scene())


@pytest.mark.usefixtures("house")
def test_no_more_recorders_than_there_is_room_for() -> None:
    async def scene() -> None:
        async with connected("dialog") as client:
            streams = [client.open(m.Record()) for _ in range(limits.RECORDERS_MAX)]
            with pytest.raises(CallError, match="are going on already"):
                await client.request(m.Record())
            streams[0].cancel()
            await eventually(lambda: recording(client))
            for stream in streams[1:]:
                stream.end()
                assert await stream.result() == m.Done()

    asyncio.run(scene())


# --- the commands ---


def timmy(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tools.cli", *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.usefixtures("house")
def test_record_until_it_is_told_to_end(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with timmy("record", "--out", path, "--daemon", "dialog") as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        asyncio.run(ask())
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    assert f"Recording dialog into {path} until Ctrl-C: all words and all sound" in first
    assert (process.returncode, rest.count("\n")) == (0, 1)
    assert "messages" in rest
    assert [each.texts for each in requests(path)] == [["It is noon. ", "It is noon."]]


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize("status", [0, 3])
def test_record_while_a_command_runs(tmp_path: Path, status: int) -> None:
    command = [sys.executable, "-c", f"import sys; sys.exit({status})"]
    done = timmy("record", "--out", tmp_path / "a.rec", "--", *command)
    _, err = done.communicate(timeout=30)
    assert done.returncode == status
    assert "while the command runs" in err
    assert err.endswith(f"{tmp_path}/a.rec: nothing passed, so there is no such file.\n")
    assert not (tmp_path / "a.rec").exists()


@pytest.mark.usefixtures("house")
def test_a_full_disk_ends_it_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)); import tools.cli; tools.cli.main()"  # noqa: E501
    with subprocess.Popen(
        [sys.executable, "-c", code, "record", "--out", path], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        asyncio.run(feed())
        _, err = process.communicate(timeout=30)
    assert process.returncode == EXIT_IO
    assert err == f"timmy: {path}: File too large; what it holds until now can be replayed\n"
    assert whole(path).asked
