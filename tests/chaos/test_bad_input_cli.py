"""What a person types wrongly, and a machine that cannot take what is asked of it: one line, a status, no traceback."""

from __future__ import annotations

import asyncio
import signal
import struct
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from ipc.call import Call
from ipc.endpoints import DAEMONS
from ipc.errors import (
    EXIT_CANT_CREATE,
    EXIT_IO,
    EXIT_NO_INPUT,
    EXIT_OK,
    EXIT_SOFTWARE,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CallError,
    Code,
)
from ipc.limits import TEXT_MAX_CHARS
from ipc.messages import Answered, Ask, Delta, Follow, Result
from tests.support.daemon_thread import DaemonThread

Output = tuple[int, str, str]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("RUNTIME", "STATE", "CACHE"):
        monkeypatch.setenv(f"TIMMY_{place}", str(tmp_path / place.lower()))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def timmy(*arguments: str | bytes, stdin: bytes = b"") -> Output:
    """The command as a process: status, output, errors."""
    done = subprocess.run([sys.executable, "-m", "tools.cli", *arguments], input=stdin, capture_output=True, timeout=60)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err
    return done.returncode, out, err


# --- sound ---


def recording(path: Path, seconds: float = 0.1) -> bytes:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(int(seconds * 16_000) * 2))
    return path.read_bytes()


def wavs(folder: Path) -> dict[str, bytes]:
    good = recording(folder / "good.wav")
    return {
        "the file is empty": b"",
        "not a WAV file (no RIFF/WAVE header)": b"Dear diary, today I said nothing.",
        "truncated: its format is cut off": good[:30],
        "truncated: it ends before the sound": good[:36],
        "truncated: 3200 bytes of sound promised, 1600 there": good[:-1600],
        "it holds no sound": recording(folder / "none.wav", 0),
        "compressed or unknown encoding (tag 85, 0 bits); save it as 16-bit PCM": good.replace(
            struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16), struct.pack("<HHIIHH", 85, 1, 16_000, 32_000, 2, 0)
        ),
    }


def test_recordings_that_cannot_be_played(tmp_path: Path) -> None:
    path = tmp_path / "question.wav"
    for reason, content in wavs(tmp_path).items():
        path.write_bytes(content)
        assert timmy("talk", "--wav", str(path)) == (EXIT_NO_INPUT, "", f"timmy: {path}: {reason}\n")
    assert timmy("talk", str(tmp_path / "nobody.wav"))[2].endswith("nobody.wav: No such file or directory\n")


def test_a_folder_for_answers_that_cannot_be_made(tmp_path: Path) -> None:
    recording(tmp_path / "good.wav")
    (tmp_path / "file").touch()
    arguments = ("talk", "--wav", str(tmp_path / "good.wav"), "--out", str(tmp_path / "file" / "out"))
    assert timmy(*arguments) == (EXIT_IO, "", f"timmy: {tmp_path}/file/out: Not a directory\n")


# --- words ---


@pytest.mark.parametrize("command", ["ask", "say"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b" ", "there is nothing in it"),
        (b"caf\xe9", "it is not UTF-8 text"),
        (b"x" * (TEXT_MAX_CHARS + 1), "8,193 characters are too long, 8,192 may be sent at once"),
    ],
)
def test_words_that_cannot_be_sent(command: str, text: bytes, reason: str) -> None:
    status, out, err = timmy(command, text)
    assert (status, out) == (EXIT_USAGE, "")
    assert err.splitlines()[-1].endswith(f": {reason}")


def test_typed_words_that_cannot_be_sent() -> None:
    status, _, err = timmy("chat", stdin=b"caf\xe9\n")
    assert (status, err.splitlines()[-1]) == (EXIT_USAGE, "Error: Invalid value: it is not UTF-8 text")


async def _breaks_off(call: Call) -> Result:
    await call.send(Delta(text="Sorry, I could not answer that."))
    raise CallError(Code.UPSTREAM_FAILED, "the model broke off")


def test_an_answer_that_breaks_off_ends_its_line(tmp_path: Path) -> None:
    with DaemonThread("dialog", {Ask: _breaks_off}, tmp_path / "runtime"):
        assert timmy("ask", "why") == (
            EXIT_SOFTWARE,
            "Sorry, I could not answer that.\n",
            "timmy: the model broke off\n",
        )


async def _foreign(call: Call) -> Result:
    await call.send(Delta(text="Fünf €."))
    return Answered(said="Fünf €.", prompt_tokens=1, cached_tokens=0, completion_tokens=1, memories=0)


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "Fünf €."), ("latin-1", "Fünf ?.")])
def test_a_terminal_that_does_not_know_all_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    with DaemonThread("dialog", {Ask: _foreign}, tmp_path / "runtime"):
        run = [sys.executable, "-m", "tools.cli", "ask", "how much"]
        done = subprocess.run(run, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout.decode(encoding)) == (EXIT_OK, f"{shown}\n")
    assert b"Traceback" not in done.stderr


# --- daemons that are not there, or not ready ---


@pytest.mark.parametrize(("command", "daemon"), [("ask why", "dialog"), ("say why", "dialog"), ("talk", "stt")])
def test_no_daemon(tmp_path: Path, command: str, daemon: str) -> None:
    socket = tmp_path / "runtime" / f"{daemon}.sock"
    expected = f"timmy: {daemon} does not answer at {socket}: is it running? (timmy up)\n"
    assert timmy(*command.split()) == (EXIT_UNAVAILABLE, "", expected)


def test_a_daemon_that_is_still_loading(tmp_path: Path) -> None:
    def loading(call: Call) -> Result:
        raise CallError(Code.NOT_READY, "dialog is still loading: ask again in a moment")

    with DaemonThread("dialog", {Ask: loading}, tmp_path / "runtime", "loading"):
        assert timmy("ask", "why") == (EXIT_SOFTWARE, "", "timmy: dialog is still loading: ask again in a moment\n")


async def _follows(call: Call) -> Result:
    async for _ in call:
        pass
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(
    ("command", "typed", "shown"),
    [("talk", b"", b"Speak. Ctrl-C ends it.\n"), ("chat", b"What?\n", b"Nothing.\n")],
)
def test_ctrl_c_is_no_error(tmp_path: Path, command: str, typed: bytes, shown: bytes) -> None:
    async def answers(call: Call) -> Result:
        await call.send(Delta(text="Nothing."))
        return Answered(said="", prompt_tokens=0, cached_tokens=0, completion_tokens=0, memories=0)

    run = [sys.executable, "-m", "tools.cli", command]
    runtime = tmp_path / "runtime"
    with (
        DaemonThread("stt", {}, runtime),
        DaemonThread("dialog", {Ask: answers, Follow: _follows}, runtime),
        subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as victim,
    ):
        assert victim.stdin is not None
        assert victim.stdout is not None
        victim.stdin.write(typed)
        victim.stdin.flush()
        assert victim.stdout.readline() == shown
        victim.send_signal(signal.SIGINT)
        assert (victim.communicate(timeout=20)[1], victim.returncode) == (b"\n", 130)


# --- the machine ---


def test_an_output_that_is_full() -> None:
    """/dev/full refuses every byte, as a full disk does."""
    for command in ("config show", "config show --json", "config show --default", "status"):
        with Path("/dev/full").open("wb") as full:
            run = [sys.executable, "-m", "tools.cli", *command.split()]
            done = subprocess.run(run, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (EXIT_IO, "timmy: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("command", ["up", "status", "ask why"])
def test_a_socket_path_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    runtime = tmp_path / ("x" * 110)
    monkeypatch.setenv("TIMMY_RUNTIME", str(runtime))
    status, _, err = timmy(*command.split())
    assert status == EXIT_CANT_CREATE
    assert err.endswith(f"Unix sockets take 107: set TIMMY_RUNTIME to a shorter folder than {runtime}\n")
    assert err.count("\n") == 1
    assert not runtime.exists()


def test_the_doctor_looks_on_when_there_can_be_no_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMMY_RUNTIME", str(tmp_path / ("x" * 110)))
    status, out, err = timmy("doctor")
    assert (status, err) == (1, "")
    assert "see the socket folder" in out


def test_a_socket_folder_that_is_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir(mode=0o755)
    expected = f"timmy: socket folder {tmp_path}/runtime is open to others: chmod 700 {tmp_path}/runtime\n"
    for command in ("up", "ask why"):
        assert timmy(*command.split()) == (EXIT_CANT_CREATE, "", expected)


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert timmy("config", "check")[0] == EXIT_OK
    status, out, _ = timmy("status")
    assert status == EXIT_UNAVAILABLE
    assert out.count("not running") == len(DAEMONS)


def test_a_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    expected = f"timmy: log {tmp_path}/state/log/stt.log: Not a directory; set TIMMY_STATE\n"
    assert timmy("up") == (EXIT_CANT_CREATE, "", expected)
    assert [path.name for path in (tmp_path / "runtime").iterdir()] == ["supervisor.lock"]
