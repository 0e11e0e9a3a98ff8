"""What a daemon does that is told to listen on a network, as its own process; and a viewer on another machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.access import Role
from ipc.errors import EXIT_CONFIG, EXIT_UNAVAILABLE
from ipc.keys import read_secret, secret_path, write_secret
from ipc.network import House
from ipc.security import new_secret
from tests.socket.rig import HANG_S
from tests.support.far import HOST, FarHouse
from tools import cli
from tools.harness import Daemon, Place


def _refused(tmp_path: Path, listen: str) -> str:
    """What a daemon says that does not start for its configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIMMY_")}
    places = {"XDG_CONFIG_HOME": str(tmp_path), "TIMMY_RUNTIME": str(tmp_path / "run"), "TIMMY_STATE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "daemons.tts"],
        env={**kept, **places, "TIMMY_NETWORK_LISTEN": listen},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (EXIT_CONFIG, "", 1), done.stderr
    assert not (tmp_path / "run" / "tts.sock").exists()
    return done.stderr


def test_a_daemon_without_a_key_does_not_start(tmp_path: Path) -> None:
    assert "this machine has no key: timmy keys new" in _refused(tmp_path, HOST)


def test_a_daemon_whose_key_others_can_read_does_not_start(tmp_path: Path) -> None:
    keys = tmp_path / "timmy" / "keys"
    write_secret(keys, new_secret())
    secret_path(keys).chmod(0o644)
    assert f"chmod 600 {secret_path(keys)}" in _refused(tmp_path, HOST)


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "*", "eth0", "localhost", "127.0.0.1:80", "000.0.0.0"])
def test_a_daemon_that_shall_listen_everywhere_does_not_start(tmp_path: Path, listen: str) -> None:
    write_secret(tmp_path / "timmy" / "keys", new_secret())
    assert "network" in _refused(tmp_path, listen).lower()


def test_a_door_that_is_asked_for_later_waits_for_a_restart() -> None:
    with Place() as place, Daemon("llm", place=place) as llm:
        file = place.root / ".config" / "timmy" / "timmy.toml"
        file.parent.mkdir(parents=True)
        file.write_text(f'[network]\nlisten = "{HOST}"\n')
        os.kill(llm.pid, signal.SIGHUP)
        deadline = time.monotonic() + HANG_S
        while "network.listen will hold after a restart" not in llm.log.read_text("utf-8"):
            assert time.monotonic() < deadline, llm.log.read_text("utf-8")
            time.sleep(0.01)


def test_an_address_that_this_machine_does_not_have_is_told() -> None:
    """192.0.2.0/24 is for documentation alone (RFC 5737): no machine has one of these."""
    with Place(settings={"TIMMY_NETWORK_LISTEN": "192.0.2.7"}) as place:
        write_secret(place.root / ".config" / "timmy" / "keys", new_secret())
        with Daemon("llm", place=place) as llm:
            report = llm.status()
    assert report.state == "ready"
    assert report.detail.startswith("tcp://192.0.2.7:")
    assert "this machine has no such address (yet)" in report.detail


# --- a viewer ---


@pytest.fixture
def viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A house whose llm runs, and this process as another machine that may look at it."""
    house = FarHouse(tmp_path / "keys")
    place = Place(settings={"TIMMY_NETWORK_LISTEN": HOST, "TIMMY_NETWORK_PORT": str(house.base)})
    with place:
        own = place.root / ".config" / "timmy" / "keys"
        write_secret(own, read_secret(house.folder))
        house.folder = own
        desk = house.admit("desk", Role.VIEWER)
        with Daemon("llm", place=place):
            _become(monkeypatch, tmp_path / "desk", desk)
            yield desk


def _become(monkeypatch: pytest.MonkeyPatch, folder: Path, guest: House) -> None:
    for variable in [name for name in os.environ if name.startswith("TIMMY_")]:
        monkeypatch.delenv(variable)
    write_secret(folder / "timmy" / "keys", guest.secret)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    monkeypatch.setenv("TIMMY_HOUSE_ADDRESS", guest.address)
    monkeypatch.setenv("TIMMY_HOUSE_PORT", str(guest.base))
    monkeypatch.setenv("TIMMY_HOUSE_KEY", guest.key)


def test_status_of_the_house(viewer: House, capsys: pytest.CaptureFixture[str]) -> None:
    """One daemon runs there: the others are down, and where they were looked for is told."""
    assert cli.run(["status", "--house", "--json"]) == EXIT_UNAVAILABLE
    seen = json.loads(capsys.readouterr().out)
    assert seen["llm"]["state"] == "ready"
    assert seen["tts"]["state"] == "down"
    assert viewer.endpoint("tts") in seen["tts"]["detail"]


def test_probe_and_tap_of_the_house(viewer: House, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["probe", "--house", "llm", "health"]) == 0
    assert json.loads(capsys.readouterr().out)["daemon"] == "llm"
    assert cli.run(["probe", "--house", "llm", '{"type": "generate", "messages": [], "max_tokens": 1}']) != 0
    assert "a viewer may not send generate to llm" in capsys.readouterr().err
    with subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "tap", "--house", "llm", "--type", "ping", "--decode"],
        stdout=subprocess.PIPE,
        text=True,
    ) as tap:
        assert tap.stdout is not None
        with subprocess.Popen([sys.executable, "-c", _PINGS]) as pinging:
            seen = json.loads(tap.stdout.readline())
            pinging.kill()
        tap.kill()
    assert (seen["daemon"], seen["message"]["type"]) == ("llm", "ping")


_PINGS = """
from tools import cli
while True:
    cli.run(["probe", "--house", "llm"])
"""


def test_without_a_house_in_the_configuration_that_is_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in [name for name in os.environ if name.startswith("TIMMY_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for command in (["status"], ["tap"], ["probe", "llm"]):
        assert cli.run([*command, "--house"]) == EXIT_CONFIG
        assert "house.address is not set" in capsys.readouterr().err
