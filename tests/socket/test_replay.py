"""A recording before the daemons once more: the same is told as the same, and what is not is named."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipc import messages as m
from ipc.endpoints import DAEMONS
from ipc.errors import (
    EXIT_CANT_CREATE,
    EXIT_NO_INPUT,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
)
from tests.support.daemon_thread import DaemonThread
from tests.support.eventually import eventually
from tests.support.recording import ROOT, Fakes, ask, connected, conversation, feed, recorded, requests
from tools import cli
from tools.harness import House
from tools.recording.file import Writer
from tools.recording.take import Take


def replay(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = cli.run(["replay", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.usefixtures("house")
def test_what_was_under_way_is_told_first(tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    async def scene() -> None:
        async with connected("dialog") as dialog:
            following = dialog.open(m.Follow(conversation="c"))
            waiting = dialog.open(m.Ask(conversation="c", text="for ever"), ttl_ms=90_000)
            await eventually(lambda: len(fakes.followers) == 1 and len(fakes.conversations) == 1)
            writer = Writer(tmp_path / "a.rec", ["dialog"])
            async with Take(["dialog"], writer.write):
                await ask()
                waiting.cancel()
                following.cancel()
            writer.close()

    asyncio.run(scene())
    by_name = [(each.name, each.under_way) for each in requests(tmp_path / "a.rec")]
    assert by_name == [("follow", True), ("ask", True), ("ask", False)]
    assert 80_000 < requests(tmp_path / "a.rec")[1].ttl_ms < 90_000
    status, out, err = replay(capsys, tmp_path / "a.rec")
    assert status == 0, out
    assert "1 requests had come before the recording began" in err
    assert "2 of 2 requests came to the same" in out


@pytest.mark.usefixtures("house")
def test_a_replay_comes_to_the_same(tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "a.rec", conversation)
    first, fakes.heard, fakes.conversations = fakes.heard, [], []
    status, out, err = replay(capsys, path)
    assert (status, err) == (0, ""), out
    assert "5 of 5 requests came to the same" in out
    assert "turn: endpoint" in out
    assert "dialog ask: first reply" in out
    assert "tts speak: end" in out
    assert len(set(fakes.conversations)) == 1
    assert fakes.conversations[0].startswith("replay-")
    old, new = ([item.t_ns for item in items if isinstance(item, m.Audio)] for items in (first, fakes.heard))
    shift = new[0] - old[0]
    assert shift > 0
    assert all(abs(b - a - shift) < 1000 for a, b in zip(old, new, strict=True)), (
        "captured when they were, moved to now"
    )


@pytest.mark.usefixtures("house")
def test_at_another_speed_the_times_are_nearer(
    tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded(tmp_path / "a.rec", feed)
    first, fakes.heard = fakes.heard, []
    assert replay(capsys, path, "--speed", "4")[0] == 0
    old, new = ([item.t_ns for item in items if isinstance(item, m.Audio)] for items in (first, fakes.heard))
    assert (new[-1] - new[0]) * 4 == pytest.approx(old[-1] - old[0], abs=1000)


@pytest.mark.usefixtures("house")
def test_credit_is_heeded_and_what_it_delays_is_counted(
    tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded(tmp_path / "a.rec", feed)
    fakes.heard = []
    fakes.hears_in_s = 0.05
    status, out, _ = replay(capsys, path, "--json")
    told = json.loads(out)
    assert (status, told["same"]) == (0, 1)
    assert told["waited_for_credit"] >= 1
    assert told["waited_for_credit_ms"] > 0


@pytest.mark.usefixtures("house")
def test_each_planted_difference_is_told(tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    async def scene() -> None:
        await ask("Where?")
        await ask("When?")

    path = recorded(tmp_path / "a.rec", scene)
    assert replay(capsys, path)[0] == 0
    fakes.answer = "It is one."
    status, out, _ = replay(capsys, path)
    assert status == 1
    assert "dialog ask 'Where?': 'It is noon.', now 'It is one.'" in out
    assert "0 of 2 requests came to the same" in out
    fakes.answer = "It is noon."
    fakes.loses = {"When?"}
    status, out, _ = replay(capsys, path)
    assert status == 1
    assert "dialog ask 'When?': answered, now error engine_failed (the model fell over)" in out
    assert "1 of 2 requests came to the same" in out
    status, out, _ = replay(capsys, path, "--json")
    told = json.loads(out)
    assert (status, told["requests"], told["same"]) == (1, 2, 1)
    assert told["differences"][0]["what"][0].startswith("answered, now error engine_failed")
    assert len(told["stages_ms"]["dialog ask: end"]["then"]) == 2


@pytest.mark.usefixtures("house")
def test_against_another_recording(tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "a.rec", ask)
    fakes.answer = "It is one."
    command = [sys.executable, "-m", "tools.cli"]
    before = tmp_path / "before.rec"
    done = subprocess.run(
        [*command, "record", "--out", before, "--", *command, "replay", path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1, "the status is the command's"
    assert "'It is noon.', now 'It is one.'" in done.stdout
    assert replay(capsys, path, "--against", before)[0] == 0
    other = recorded(tmp_path / "other.rec", lambda: ask("Another question?"))
    status, _, err = replay(capsys, path, "--against", other)
    assert (status, err.count("\n")) == (EXIT_NO_INPUT, 1)
    assert "other.rec has no such ask of dialog" in err


@pytest.mark.usefixtures("house")
def test_one_daemon_alone(tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "a.rec", conversation)
    fakes.heard, fakes.conversations = [], []
    status, out, _ = replay(capsys, path, "--daemon", "stt")
    assert status == 0, out
    assert (len(fakes.heard), fakes.conversations) == (30, [])
    status, _, err = replay(capsys, path, "--daemon", "llm")
    assert (status, err.count("\n")) == (EXIT_NO_INPUT, 1)
    assert "no request in it can be sent to llm" in err


@pytest.mark.usefixtures("house")
def test_what_dialog_asked_is_asked_again_only_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def scene() -> None:
        await ask()
        async with connected("tts", "dialog") as tts:
            stream = tts.open(m.Speak(conversation="c"))
            stream.end()
            await stream.result()

    path = recorded(tmp_path / "a.rec", scene)
    assert "1 of 1 requests" in replay(capsys, path)[1]
    assert "1 of 1 requests" in replay(capsys, path, "--daemon", "tts")[1]


@pytest.mark.usefixtures("house")
def test_home_is_kept_for_its_loudspeaker_only(
    tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    async def typed() -> None:
        await ask("Where?", m.HOME)

    async def aloud() -> None:
        async with connected("dialog") as dialog:
            await dialog.request(m.Say(conversation=m.HOME, text="Dinner."))

    quiet, loud = recorded(tmp_path / "a.rec", typed), recorded(tmp_path / "b.rec", aloud)
    fakes.conversations = []
    assert (replay(capsys, quiet)[0], replay(capsys, loud)[0]) == (0, 0)
    assert [name == m.HOME for name in fakes.conversations] == [False, True]


def test_a_daemon_that_dies_meanwhile(runtime: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process of its own, which kills itself at the second question."""
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from ipc.messages import Answered, Ask\n"
        "from tests.support.daemon_thread import DaemonThread\n"
        "def answer(call):\n"
        "    if call.body.text == 'two' and Path(sys.argv[2]).exists(): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return Answered(said='', prompt_tokens=0, cached_tokens=0, completion_tokens=0, memories=0)\n"
        "with DaemonThread('dialog', {Ask: answer}, Path(sys.argv[1])):\n"
        "    print('ready', flush=True)\n"
        "    signal.pause()\n"
    )

    async def scene() -> None:
        await ask("one")
        await asyncio.sleep(0.5)  # what a process has sent is lost with it while it is on its way
        await ask("two")

    with subprocess.Popen(
        [sys.executable, "-c", script, runtime, tmp_path / "die"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "ready\n"
        path = recorded(tmp_path / "a.rec", scene, ["dialog"])
        (tmp_path / "die").touch()
        status, out, _ = replay(capsys, path)
        daemon.kill()
    assert status == 1
    assert "dialog went away during the replay" in out
    assert "dialog ask 'two': answered, now error peer_gone" in out
    assert "1 of 2 requests came to the same" in out


def test_nobody_to_record_or_to_replay_to(
    runtime: Path, tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    with DaemonThread("dialog", fakes.handlers(), runtime):
        path = recorded(tmp_path / "a.rec", ask, ["dialog"])
    for arguments in (["record", "--out", str(tmp_path / "b.rec")], ["replay", str(path)]):
        assert cli.run(arguments) == EXIT_UNAVAILABLE
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "is it running? (timmy up)" in err
    assert not (tmp_path / "b.rec").exists()


def test_what_cannot_be_used_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "foreign").write_bytes(b"something else")
    (tmp_path / "there").touch()
    for arguments, status in (
        (["replay", tmp_path / "foreign"], EXIT_NO_INPUT),
        (["replay", tmp_path / "nowhere"], EXIT_NO_INPUT),
        (["record", "--out", tmp_path / "there"], EXIT_CANT_CREATE),
        (["record", "--out", tmp_path / "new", "--", "no-such-command"], EXIT_USAGE),
        (["replay", tmp_path / "foreign", "--speed", "0"], EXIT_USAGE),
    ):
        assert cli.run(list(map(str, arguments))) == status
        _, err = capsys.readouterr()
        assert len([line for line in err.splitlines() if "Usage" not in line and "Try" not in line and line]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign", "there"]


@pytest.mark.usefixtures("house")
def test_a_torn_recording_is_replayed_up_to_the_tear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def scene() -> None:
        await ask("one")
        await ask("two")

    path = recorded(tmp_path / "a.rec", scene)
    os.truncate(path, path.stat().st_size - 3)
    status, out, err = replay(capsys, path)
    assert "cut off at byte" in err
    assert (status, "2 of 2 requests came to the same" in out) == (0, True), out


def test_five_daemons_with_fake_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.rec"
    with House() as house:
        monkeypatch.setenv("TIMMY_RUNTIME", str(house.place.run))
        recorded(path, lambda: said("Which city?"), DAEMONS)
        first = requests(path)
        assert {each.daemon for each in first} >= {"dialog", "llm", "memory"}, "what dialog asks is in it, too"
        assert replay(capsys, path)[0] == 0
        assert replay(capsys, path, "--daemon", "llm", "--daemon", "memory")[0] == 0
        house.engine("llm", text="It is noon.")
        status, out, _ = replay(capsys, path)
    assert status == 1
    assert "dialog ask 'Which city?': 'Paris it is.', now 'It is noon.'" in out


async def said(question: str) -> None:
    assert await ask(question)
