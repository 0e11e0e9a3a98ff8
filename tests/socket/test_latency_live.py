"""`timmy latency` beside the real house: a spoken turn is shown as it ends, and it is the turn that was held."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from ipc.errors import EXIT_OK
from tests.support.eventually import eventually
from tests.support.suite import EXAMPLES, ROOT, house, running
from tools.cli import EXIT_INTERRUPTED, cli

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with house(tmp_path_factory.mktemp("state"), {"TIMMY_DIALOG_TRACE_WORDS": "true"}), running():
        yield


def timmy(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def latency(*arguments: str) -> Any:
    return json.loads(timmy("latency", *arguments, "--json"))


def test_a_turn_is_seen_as_it_ends_and_explained(daemons: None) -> None:
    """Watched, listed and shown; its shares make the whole, and it is what `talk` says of the same turn."""
    timmy("ask", "What is the capital of France?")
    command = [sys.executable, "-m", "tools.cli", "latency", "watch"]
    environ = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environ
    ) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert watch.stderr.readline().startswith("timmy: watching ")
        said = json.loads(timmy("talk", "--wav", str(EXAMPLES / "2-capital.wav"), "--json"))
        line = watch.stdout.readline()
        if said["rid"][-6:] not in line:  # the marks of the typed question may be written after watch has begun
            line = watch.stdout.readline()
        watch.send_signal(signal.SIGINT)
        _, errors = watch.communicate()
    assert (watch.returncode, errors.strip()) == (EXIT_INTERRUPTED, "")
    first_audio_ms = round(said["speech_end_to_first_audio_ms"])
    assert re.search(rf"{said['rid'][-6:]}  \S+  {first_audio_ms} ms, \w+ \d+ ms, answered", line), line

    typed, spoken = latency("turns")["turns"]
    assert (typed["typed"], typed["first_audio_ms"], typed["outcome"]) == (True, None, "answered")
    assert (spoken["id"], spoken["heard"], spoken["outcome"]) == (said["rid"], said["heard"], "answered")
    assert (spoken["complete"], spoken["missing"]) == (True, [])
    assert spoken["first_audio_ms"] == pytest.approx(said["speech_end_to_first_audio_ms"], abs=0.02)
    assert sum(spoken["stages_ms"].values()) == pytest.approx(spoken["first_audio_ms"], abs=0.01)

    shown = latency("show", "last")
    assert (shown["id"], shown["notes"]) == (said["rid"], [])
    assert {"utterance", "endpoint", "llm_first_token", "tts_synthesis", "speaking"} <= {
        span["stage"] for span in shown["spans"]
    }
    assert "first audio" in timmy("latency", "show", said["rid"][:13])
    assert latency("show", typed["id"])["notes"] == ["Answered in writing: nothing sounded."]
    assert len(latency("sessions")["sessions"]) == 2
    assert {file["daemon"] for file in latency("files")["files"]} == {"stt", "dialog", "llm", "memory", "tts"}


def test_daemons_go_on_after_their_files_are_cleared(daemons: None) -> None:
    timmy("ask", "What is the capital of France?")
    assert timmy("latency", "clear", "--yes").startswith("removed ")
    timmy("ask", "--conversation", "other", "What is the capital of France?")

    async def written() -> bool:
        arguments = ["latency", "turns", "--session", "other", "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
        found = json.loads(result.stdout)["turns"] if result.exit_code == EXIT_OK else []
        return [turn["outcome"] for turn in found] == ["answered"]

    asyncio.run(eventually(written))
