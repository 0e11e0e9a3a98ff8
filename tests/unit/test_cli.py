"""The `timmy` command: what it prints and what it exits with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import pytest

from daemons.catalogue import MODELS
from ipc import messages
from ipc.call import Call
from ipc.endpoints import DAEMONS, Lock
from ipc.errors import EXIT_CONFIG, EXIT_OK, EXIT_SOFTWARE, EXIT_UNAVAILABLE, EXIT_USAGE, CallError, Code
from ipc.messages import Answered, Ask, Delta, Done, Result, Say
from tests.support.daemon_thread import DaemonThread
from tests.support.fake_openai import FakeOpenAi
from tools import cli
from tools.supervise import lock_path

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TIMMY_")]:
        monkeypatch.delenv(name)
    for variable in ("RUNTIME", "CACHE", "STATE"):
        monkeypatch.setenv(f"TIMMY_{variable}", str(tmp_path / variable.lower()))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TIMMY_LLM_ENGINE", "llama")


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return tmp_path / "runtime"


class Run:
    """One command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.status = cli.run(arguments)
        self.out, self.err = capsys.readouterr()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def _paths(command: click.Command, context: click.Context, *path: str) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found += _paths(inner, context, *path, name)
    return found


ALL = _paths(cli.cli, click.Context(cli.cli))


# --- help ---


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) or "timmy" for path, _ in ALL])
def test_every_command_has_help_with_an_example(
    path: tuple[str, ...], command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Run(capsys, *path, "--help")
    assert shown.status == EXIT_OK
    assert f"  timmy {' '.join(path)}".rstrip() in shown.out or f'"$(timmy {" ".join(path)}' in shown.out


def test_the_list_of_commands_says_what_their_help_says() -> None:
    for name, lazy in cli.COMMANDS.items():
        command = cli.cli.get_command(click.Context(cli.cli), name)
        assert command is not None
        assert command.help is not None
        assert command.help.startswith(lazy.help.rstrip("."))
        assert command.name == name


def test_help_imports_no_command() -> None:
    script = (
        "import sys, tools.cli; tools.cli.run(['--help']); print([m for m in sys.modules if m.startswith('tools.')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['tools.cli']"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "_TIMMY_COMPLETE" in Run(capsys, "completion", shell).out


def test_the_shell_gets_the_commands() -> None:
    environ = os.environ | {"_TIMMY_COMPLETE": "bash_complete", "COMP_WORDS": "timmy mo", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-m", "tools.cli"], env=environ, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["plain,models"]


# --- how it ends ---


@pytest.mark.parametrize("arguments", [["nope"], ["ask"], ["status", "--nope"], ["models", "pull", "tiny.em"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert Run(capsys, *arguments).status == EXIT_USAGE


@pytest.mark.parametrize(
    ("arguments", "meant"), [(["stauts"], "status"), (["latency", "sumary"], "summary"), (["memory", "lst"], "list")]
)
def test_a_misspelt_command_is_set_right(arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Run(capsys, *arguments)
    assert asked.status == EXIT_USAGE
    assert f"Did you mean '{meant}'" in asked.err


def test_a_misspelt_model_is_set_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'tiny.en'?" in Run(capsys, "models", "pull", "tiny.em").err


def test_a_wrong_configuration_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMMY_STT_DEVICE", "gpu")
    for arguments in (["config", "check"], ["config", "show"], ["up"], ["models", "pull"]):
        run = Run(capsys, *arguments)
        assert run.status == EXIT_CONFIG
        assert run.err == (
            "timmy: TIMMY_STT_DEVICE: [stt] device = 'gpu': not one of auto, cpu, cuda; did you mean 'cpu'?\n"
        )


def test_no_daemon_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "ask", "hello")
    assert run.status == EXIT_UNAVAILABLE
    assert run.err.startswith("timmy: dialog does not answer at ")
    assert run.err.count("\n") == 1


def test_ctrl_c(runtime: Path) -> None:
    """130 and no traceback, in the middle of an answer."""

    async def silent(call: Call) -> Result:
        await call.send(Delta(text="one "))
        async for _ in call:
            pass
        return await _never()

    with DaemonThread("dialog", {Ask: silent}, runtime):
        run = [sys.executable, "-m", "tools.cli", "ask", "hello"]
        with subprocess.Popen(run, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as victim:
            assert victim.stdout is not None
            assert victim.stdout.read(4) == "one "
            victim.send_signal(signal.SIGINT)
            _, err = victim.communicate(timeout=20)
        assert (victim.returncode, err.strip()) == (130, "")


async def _never() -> Result:
    import asyncio

    await asyncio.get_running_loop().create_future()
    raise AssertionError


def test_a_closed_pipe_is_no_traceback() -> None:
    run = f"{sys.executable} -m tools.cli config show | head -c 10"
    done = subprocess.run(["/bin/sh", "-c", run], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (len(done.stdout), done.stderr) == (10, "")


# --- status ---


def test_status_of_what_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "status", "--json")
    assert run.status == EXIT_UNAVAILABLE
    assert list(run.json) == list(DAEMONS)
    assert {report["state"] for report in run.json.values()} == {"down"}
    assert "not running" in run.json["stt"]["detail"]
    assert "down" in Run(capsys, "status").out


def test_status_of_what_runs(capsys: pytest.CaptureFixture[str], runtime: Path) -> None:
    with ExitStack() as stack:
        for name in DAEMONS:
            state = "degraded" if name == "stt" else "ready"
            stack.enter_context(DaemonThread(name, {}, runtime, state))
        run = Run(capsys, "status", "--json")
        assert run.status == EXIT_OK
        table = Run(capsys, "status").out
    assert run.json["llm"] == {
        "state": "ready",
        "detail": "",
        "engine": "fake",
        "model": "none",
        "device": "cpu",
        "pid": os.getpid(),
        "uptime_s": 3725.0,
        "rss_bytes": 123456789,
        "requests_open": 0,
        "last_error": "",
    }
    assert (run.json["stt"]["state"], run.json["stt"]["detail"]) == ("degraded", "no microphone")
    assert "1:02:05" in table
    assert "123 MB" in table


@pytest.mark.parametrize("columns", ["20", "50"])
def test_a_narrow_terminal_breaks_no_short_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    head, first, *_ = Run(capsys, "status").out.splitlines()
    assert re.sub(r"\x1b\[\d*m", "", head).split()[:3] == ["daemon", "state", "pid"]
    assert re.sub(r"\x1b\[\d*m", "", first).split()[:2] == ["stt", "down"]


# --- ask, chat, say ---


async def _echo(call: Call) -> Result:
    for word in call.body.text.split():
        await call.send(Delta(text=f"{word} "))
    if call.body.text == "fail":
        raise CallError(Code.ENGINE_FAILED, "the model fell over")
    spoken = " aloud" if call.body.speak else ""
    return Answered(said=call.body.text + spoken, prompt_tokens=3, cached_tokens=2, completion_tokens=1, memories=0)


def test_ask(capsys: pytest.CaptureFixture[str], runtime: Path) -> None:
    with DaemonThread("dialog", {Ask: _echo}, runtime):
        assert Run(capsys, "ask", "when", "is it").out == "when is it \n"
        answer = Run(capsys, "ask", "--json", "--aloud", "now").json
    assert answer == {
        "said": "now aloud",
        "prompt_tokens": 3,
        "cached_tokens": 2,
        "completion_tokens": 1,
        "memories": 0,
    }


def test_a_conversation_has_a_plain_name(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "ask", "--conversation", "Not This", "x")
    assert run.status == EXIT_USAGE
    assert "lower-case" in run.err


def test_chat_from_a_pipe(capsys: pytest.CaptureFixture[str], runtime: Path) -> None:
    run = [sys.executable, "-m", "tools.cli", "chat"]
    with DaemonThread("dialog", {Ask: _echo}, runtime):
        good = subprocess.run(run, input="one\n\ntwo words\n", capture_output=True, text=True, cwd=ROOT)
        bad = subprocess.run(run, input="fail\nmore\n", capture_output=True, text=True, cwd=ROOT)
    assert (good.returncode, good.stdout) == (EXIT_OK, "one \ntwo words \n")
    assert (bad.returncode, bad.stderr) == (70, "timmy: the model fell over\n")


def test_say(capsys: pytest.CaptureFixture[str], runtime: Path) -> None:
    said = []

    def hear(call: Call) -> Result:
        said.append((call.body.conversation, call.body.text))
        return Done()

    with DaemonThread("dialog", {Say: hear}, runtime):
        with DaemonThread("tts", {}, runtime):
            assert Run(capsys, "say", "Dinner", "is ready.").status == EXIT_OK
        with DaemonThread("tts", {}, runtime, "degraded"):
            deaf = Run(capsys, "say", "Is anybody there?")
            assert Run(capsys, "say", "--conversation", "kitchen", "You, there.").status == EXIT_OK
        with DaemonThread("tts", {}, runtime, "loading", "loading", "degraded"):
            early = Run(capsys, "say", "Is it too early?")
        with DaemonThread("tts", {}, runtime, "loading", "ready"):
            assert Run(capsys, "say", "Good morning.").status == EXIT_OK
    assert said == [(messages.HOME, "Dinner is ready."), ("kitchen", "You, there."), (messages.HOME, "Good morning.")]
    for run in (deaf, early):
        assert (run.status, run.out, run.err) == (EXIT_SOFTWARE, "", "timmy: no microphone\n")


# --- models, config, doctor ---


def _install(name: str, tmp_path: Path) -> None:
    for file in MODELS[name].files:
        path = tmp_path / "cache" / "models" / name / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.truncate(file.size)


def test_models_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _install("joe", tmp_path)
    (tmp_path / "cache/models/joe/en_US-joe-medium.onnx").write_bytes(b"")
    _install("minilm", tmp_path)
    listed = {model["name"]: model for model in Run(capsys, "models", "list", "--json").json["models"]}
    assert {name: model["state"] for name, model in listed.items()} == {
        "tiny.en": "not here",
        "base": "not here",
        "smollm2-135m": "not here",
        "joe": "damaged",
        "minilm": "here",
    }
    assert listed["joe"]["faults"] == ["en_US-joe-medium.onnx has 0 of 63201294 bytes"]
    assert "(timmy models pull joe)" in Run(capsys, "models", "list").out


def test_models_verify_checks_sums(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert Run(capsys, "models", "verify").status == EXIT_OK
    _install("minilm", tmp_path)
    run = Run(capsys, "models", "verify", "--json")
    assert run.status == 1
    assert [model["name"] for model in run.json["models"]] == ["minilm"]
    assert run.json["models"][0]["faults"][0] == "model.onnx is not what was published (SHA-256)"


def test_a_name_that_no_model_can_have_is_not_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "models", "verify", "tiny.em")
    assert (run.status, run.out) == (EXIT_USAGE, "")
    assert "did you mean 'tiny.en'?" in run.err
    assert Run(capsys, "models", "verify", "base", "somebody/whisper").status == 1


def test_a_word_is_no_memory(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "memory", "forget", "plumber")
    assert run.status == EXIT_USAGE
    assert run.err.endswith("'plumber' is not a valid id, as `timmy memory list` shows it.\n")


def test_config_show(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Run(capsys, "config", "show", "--json").json["settings"]
    by_key = {(s["table"], s["key"]): (s["value"], s["source"]) for s in settings}
    assert by_key["llm", "engine"] == ("llama", "TIMMY_LLM_ENGINE")
    assert by_key["stt", "threads"] == (2, "default")
    assert "llm.engine" in Run(capsys, "config", "show").out


def test_the_default_file_can_be_written_down(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "timmy"
    folder.mkdir()
    (folder / "timmy.toml").write_text(Run(capsys, "config", "show", "--default").out)
    run = Run(capsys, "config", "check", "--json")
    assert run.json == {"file": str(folder / "timmy.toml"), "exists": True, "ok": True}
    assert Run(capsys, "config", "check").out == f"{folder / 'timmy.toml'}: good\n"


def test_doctor(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMMY_LLM_ENGINE", "ollama")
    monkeypatch.setenv("TIMMY_LLM_OLLAMA_URL", "http://127.0.0.1:9")
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "runtime").symlink_to(tmp_path / "state")
    run = Run(capsys, "doctor", "--json")
    checks = {check["name"]: check for check in run.json["checks"]}
    assert (run.status, run.json["ok"]) == (1, False)
    assert checks["python"]["state"] == checks["libraries"]["state"] == checks["configuration"]["state"] == "good"
    assert (checks["stt model"]["state"], checks["stt model"]["advice"]) == ("bad", "timmy models pull tiny.en")
    assert "is a link" in checks["socket folder"]["found"]
    assert (checks["ollama"]["state"], checks["ollama"]["advice"]) == ("bad", "start it: ollama serve")
    assert all(check["advice"] for check in checks.values() if check["state"] != "good")


@pytest.mark.parametrize(
    ("settings", "state", "told"),
    [
        ({}, "good", "qwen3-8b at http://127.0.0.1:"),
        ({"MODEL": "other"}, "bad", "no model 'other'"),
        ({"KEY_FILE": "/nowhere/key"}, "bad", "cannot be read: No such file"),
        ({"URL": "http://127.0.0.1:9/v1"}, "bad", "no answer at http://127.0.0.1:9/v1: "),
    ],
)
def test_doctor_asks_a_model_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], state: str, told: str
) -> None:
    with FakeOpenAi() as server:
        for name, value in ({"ENGINE": "openai", "OPENAI_URL": server.api}).items():
            monkeypatch.setenv(f"TIMMY_LLM_{name}", value)
        for name, value in settings.items():
            monkeypatch.setenv(f"TIMMY_LLM_OPENAI_{name}", value)
        run = Run(capsys, "doctor", "--json")
    checks = {check["name"]: check for check in run.json["checks"]}
    assert "ollama" not in checks
    assert "llm model" not in checks
    assert checks["model server"]["state"] == state
    assert told in checks["model server"]["found"]
    assert bool(checks["model server"]["advice"]) == (state == "bad")


@pytest.mark.parametrize("output", ["none", "answers.WAV"])
def test_doctor_wants_no_speaker_where_none_is_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.setenv("TIMMY_TTS_OUTPUT", output)
    checks = {check["name"]: check for check in Run(capsys, "doctor", "--json").json["checks"]}
    assert (checks["speaker"]["state"], checks["speaker"]["advice"]) == ("good", "")


def test_doctor_with_a_wrong_configuration(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMMY_STT_MODLE", "x")
    checks = {check["name"]: check for check in Run(capsys, "doctor", "--json").json["checks"]}
    assert "did you mean 'model'?" in checks["configuration"]["found"]


# --- up, down ---


def test_down_with_nothing_to_end(capsys: pytest.CaptureFixture[str], runtime: Path) -> None:
    assert (Run(capsys, "down").status, Run(capsys, "down").err) == (EXIT_OK, "nothing is running\n")
    runtime.mkdir(mode=0o700)
    Lock(lock_path(runtime)).release()  # the file stays, its pid is this process: it must not be ended
    assert Run(capsys, "down").err == "nothing is running\n"


def test_up_and_down(capsys: pytest.CaptureFixture[str], runtime: Path, tmp_path: Path) -> None:
    """The real command with stand-ins for the daemons, ended by the real `down`."""
    with _up(tmp_path) as running:
        assert _line(running, "ready after")
        second = Run(capsys, "up")
        assert (second.status, "supervisor is running already" in second.err) == (73, True)
        assert Run(capsys, "down").status == EXIT_OK
        assert running.wait(20) == EXIT_OK
    assert [path.name for path in runtime.iterdir()] == ["supervisor.lock"]


def test_ctrl_c_ends_up_cleanly(runtime: Path, tmp_path: Path) -> None:
    with _up(tmp_path) as running:
        assert _line(running, "ready after")
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == EXIT_OK
    assert [path.name for path in runtime.iterdir()] == ["supervisor.lock"]


def test_up_gives_up_on_what_cannot_start(tmp_path: Path) -> None:
    with _up(tmp_path, "import sys; sys.exit(78)") as running:
        _, err = running.communicate(timeout=20)
    assert running.returncode == EXIT_CONFIG
    # All five fail at once; whichever is noticed first is named.
    assert re.match(r"timmy: (stt|dialog|llm|memory|tts) cannot start: see ", err.splitlines()[-1])


STAND_IN = """
import os, signal, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
    channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
"""


def _up(tmp_path: Path, program: str = STAND_IN) -> subprocess.Popen[str]:
    script = (
        "import sys; from tools import cli, supervise\n"
        f"program = [sys.executable, '-c', {program!r}]\n"
        "supervise.Supervisor.__init__.__defaults__ = ({'stt': program, 'tts': program},)\n"
        "sys.exit(cli.run(['up']))"
    )
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, cwd=ROOT)


def _line(process: subprocess.Popen[str], text: str) -> bool:
    assert process.stderr is not None
    return any(text in line for line in iter(process.stderr.readline, ""))
