"""Daemons that cannot start: one line that says what is wrong and what to do, and a status that says whether to try
again. Nothing of what was there is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import config
from daemons.catalogue import MODELS
from ipc.endpoints import DAEMONS
from ipc.errors import EXIT_CANT_CREATE, EXIT_CONFIG
from tools.supervise import COMMANDS, StartError, Supervisor

MAIN_FILES = {
    "stt": ("tiny.en", "model.bin"),
    "llm": ("smollm2-135m", "SmolLM2-135M-Instruct.Q8_0.gguf"),
    "memory": ("minilm", "model.onnx"),
    "tts": ("joe", "en_US-joe-medium.onnx"),
}


def last_words(daemon: str, folder: Path, **settings: str) -> tuple[int, str]:
    """Starts it and waits for its end: the status, and the last line of its log."""
    places = {f"TIMMY_{place}": str(folder / place.lower()) for place in ("RUNTIME", "STATE", "CACHE")}
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TIMMY_LLM_ENGINE": "llama", **places, **settings}
    done = subprocess.run(
        [sys.executable, "-m", f"daemons.{daemon}"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.splitlines()[-1]


def own_model(folder: Path, name: str) -> Path:
    """A cache folder that holds the model by links."""
    source, copy = config.cache_dir() / "models" / name, folder / "cache" / "models" / name
    copy.mkdir(parents=True)
    for file in MODELS[name].files:
        (copy / file.name).symlink_to(source / file.name)
    return copy


@pytest.mark.parametrize("daemon", MAIN_FILES)
def test_a_missing_model(tmp_path: Path, daemon: str) -> None:
    name, _ = MAIN_FILES[daemon]
    assert last_words(daemon, tmp_path) == (
        EXIT_CONFIG,
        f"{daemon}: model {name!r} is not here: timmy models pull {name}",
    )


@pytest.mark.models
@pytest.mark.parametrize("daemon", MAIN_FILES)
@pytest.mark.parametrize("fault", ["partial", "damaged"])
def test_a_partial_or_damaged_model(tmp_path: Path, daemon: str, fault: str) -> None:
    name, file = MAIN_FILES[daemon]
    path = own_model(tmp_path, name) / file
    data = bytearray(path.read_bytes())
    path.unlink()
    if fault == "partial":
        reason = f"{file} has 1000 of {len(data)} bytes"
        del data[1000:]
    else:
        data[-1] ^= 1
        reason = f"{file} is not what was published (SHA-256)"
    path.write_bytes(data)
    assert last_words(daemon, tmp_path) == (
        EXIT_CONFIG,
        f"{daemon}: model {name!r}: {reason}; fetch it again: timmy models pull {name}",
    )
    assert path.read_bytes() == data


@pytest.mark.models
@pytest.mark.parametrize(
    ("daemon", "setting", "value"),
    [
        ("stt", "STT_DEVICE", "cuda"),
        ("stt", "STT_LANGUAGE", "de"),
        ("llm", "LLM_DEVICE", "cuda"),
        ("tts", "TTS_DEVICE", "cuda"),
    ],
)
def test_a_setting_that_this_machine_cannot_meet(tmp_path: Path, daemon: str, setting: str, value: str) -> None:
    without_gpu = {"TIMMY_CACHE": str(config.cache_dir()), "CUDA_VISIBLE_DEVICES": ""}
    status, line = last_words(daemon, tmp_path, **without_gpu, **{f"TIMMY_{setting}": value})
    assert status == EXIT_CONFIG
    assert setting.lower().replace("_", ".") in line


@pytest.mark.parametrize("daemon", DAEMONS)
@pytest.mark.parametrize(
    ("setting", "value", "line"),
    [
        ("STT_MODLE", "base", "TIMMY_STT_MODLE: [stt] has no key 'modle'; did you mean 'model'?"),
        ("LOG", "loud", "TIMMY_LOG = 'loud': not one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_a_wrong_configuration(tmp_path: Path, daemon: str, setting: str, value: str, line: str) -> None:
    assert last_words(daemon, tmp_path, **{f"TIMMY_{setting}": value}) == (EXIT_CONFIG, f"{daemon}: {line}")


def socket_folders(folder: Path) -> Iterator[tuple[Path, str]]:
    """What cannot be one, and what is said about it."""
    (folder / "open").mkdir(mode=0o755)
    yield folder / "open", "is open to others: chmod 700"
    (folder / "link").symlink_to(folder)
    yield folder / "link", "is a link, not a folder: remove it"
    (folder / "file").touch()
    yield folder / "file", "File exists; set TIMMY_RUNTIME"
    yield folder / ("x" * 110), "is too long, Unix sockets take 107: set TIMMY_RUNTIME to a shorter folder"


def test_a_socket_folder_that_cannot_be_one(tmp_path: Path) -> None:
    for folder, reason in socket_folders(tmp_path):
        status, line = last_words("dialog", tmp_path, TIMMY_RUNTIME=str(folder))
        assert status == EXIT_CANT_CREATE
        assert reason in line


def test_a_second_daemon_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir(mode=0o700)
    environ = {**os.environ, "TIMMY_RUNTIME": str(tmp_path / "runtime"), "TIMMY_STATE": str(tmp_path / "state")}
    environ.pop("NOTIFY_SOCKET", None)  # of whoever runs the tests: the daemon would speak of it first
    with subprocess.Popen(COMMANDS["dialog"], env=environ, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        assert first.stderr.readline().startswith("dialog: ready")
        assert last_words("dialog", tmp_path) == (
            EXIT_CANT_CREATE,
            f"dialog: dialog is running already (pid {first.pid})",
        )
        first.terminate()


def test_a_state_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    status, line = last_words("dialog", tmp_path)
    assert status == EXIT_CONFIG
    assert "cannot be used (Not a directory): check who owns it and its folder, or set TIMMY_STATE" in line


def test_what_cannot_start_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("RUNTIME", "STATE", "CACHE"):
        monkeypatch.setenv(f"TIMMY_{place}", str(tmp_path / place.lower()))
    told: list[tuple[str, str]] = []
    with (
        Supervisor({"tts": COMMANDS["tts"]}, tell=lambda *words: told.append(words)) as supervisor,
        pytest.raises(
            StartError, match=r"^tts cannot start: model 'joe' is not here: timmy models pull joe$"
        ) as caught,
    ):
        supervisor.wait_ready(60)
    assert caught.value.exit_status == EXIT_CONFIG
    assert told[-2:] == [
        ("tts", "model 'joe' is not here: timmy models pull joe"),
        ("tts", "cannot work as it is set up; not started again"),
    ]
