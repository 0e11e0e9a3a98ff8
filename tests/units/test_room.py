"""A satellite as a service, beside the house on one machine and for a user of his own, under the sandbox as shipped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.messages import Follow, TurnReport
from tests.support.far import HOST, free_base
from tests.units.machine import Machine
from tests.units.service import PATIENCE_S, TIMMY, WATCHDOG_S, Services, session_of, until

pytestmark = [pytest.mark.models, pytest.mark.sound]
UNIT = "timmy-satellite.service"
OWN = {"XDG_CONFIG_HOME": "/etc", "HOME": "/tmp"}
"""The environment of the machine's own user, as docs/satellite.md has it."""


def new_key(machine: Machine, user: str, environ: Mapping[str, str]) -> str:
    """The public half."""
    return machine.run(TIMMY, "keys", "new", "--replace", user=user, environ=dict(environ)).stdout.strip()


class House:
    """The daemons of the machine, which listen at its loopback, and its keys."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.machine = services.machine
        self.base = free_base()
        services.make_whole()
        self.machine.run("rm", "-rf", "/etc/timmy/keys")
        self.machine.run("install", "-d", "-o", "timmy", "-g", "timmy", "-m", "700", "/etc/timmy/keys")
        self.key = new_key(self.machine, "timmy", OWN)
        self.configure()
        self.machine.run(TIMMY, "install", "--system")
        self.allow(self.key, "kitchen")

    def allow(self, key: str, name: str) -> None:
        self.machine.run(TIMMY, "keys", "revoke", name, user="timmy", environ=OWN, check=False)
        self.machine.run(TIMMY, "keys", "allow", key, "--as", "satellite", "--name", name, user="timmy", environ=OWN)

    @property
    def told(self) -> str:
        """What a satellite is told of it."""
        return f'[house]\naddress = "{HOST}"\nport = {self.base}\nkey = "{self.key}"\n'

    def configure(self, more: str = "") -> None:
        self.machine.write("/etc/timmy/timmy.toml", f'[network]\nlisten = "{HOST}"\nport = {self.base}\n{more}')

    def install_room(self, says: int = 0) -> str:
        """Gives what it says on stderr."""
        done = self.machine.run(TIMMY, "install", "--satellite", "--system", check=False)
        assert done.returncode == says, done.stdout + done.stderr
        return done.stderr

    def report(self) -> dict[str, str]:
        """What `timmy status` tells of the satellite."""
        environ = {"TIMMY_RUNTIME": "/run/timmy", "HOME": "/root"}
        told = self.machine.run(TIMMY, "status", "--json", environ=environ, check=False).stdout
        found: dict[str, str] = json.loads(told)["satellite"]
        return found

    def pid(self) -> str:
        return self.machine.show(UNIT, "MainPID")


@pytest.fixture(scope="module")
def house(services: Services) -> Iterator[House]:
    """Afterwards the machine is as other tests know it."""
    services.machine.write(f"/etc/systemd/system/{UNIT}.d/50-quick.conf", f"[Service]\nWatchdogSec={WATCHDOG_S}\n")
    try:
        yield House(services)
    finally:
        services.machine.run("rm", "-rf", f"/etc/systemd/system/{UNIT}.d", "/etc/timmy")
        services.machine.run(TIMMY, "uninstall", "--system")
        services.machine.run(TIMMY, "install", "--system")


ROOM = '[satellite]\ninput = "none"\noutput = "none"\n'


def test_without_a_house_it_says_so_and_is_not_tried_again(house: House) -> None:
    pids = {daemon: house.services.pid(daemon) for daemon in DAEMONS}
    house.configure(ROOM)
    (said,) = house.install_room(says=78).splitlines()
    assert "installed, but it does not run yet: house.address is not set" in said
    show = {name: house.machine.show(UNIT, name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")}
    assert show == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    report = house.report()
    assert report["state"] == "down"
    assert report["detail"].startswith("house.address is not set: [house] in timmy.toml names the machine")
    assert {daemon: house.services.pid(daemon) for daemon in DAEMONS} == pids, "the house goes on"


def test_what_is_said_in_the_room_is_answered(house: House) -> None:
    found = house.machine.run("find", "/opt/timmy/lib", "-name", "known.wav").stdout.strip()
    house.configure(f'{house.told}[satellite]\ninput = "{found}"\noutput = "none"\n')

    async def turn() -> TurnReport:
        async with Client("dialog", "test", folder=house.services.sockets) as dialog:
            await dialog.wait_connected(30)
            watched = dialog.open(Follow(conversation="kitchen"))
            house.machine.run("systemctl", "stop", UNIT, check=False)  # the clip is played at its start
            await asyncio.to_thread(house.install_room)
            async with asyncio.timeout(PATIENCE_S):
                async for item, _ in watched:
                    if isinstance(item, TurnReport):
                        return item
        raise AssertionError("dialog ended the stream")

    report = asyncio.run(turn())
    assert (report.outcome, report.heard) == ("answered", "What is the capital of France?")
    assert (house.report()["state"], house.services.said("satellite")) == ("ready", "ready")
    assert house.machine.show(UNIT, "IPAddressAllow") == f"{HOST}/32"


def _at_work(house: House) -> None:
    house.configure(house.told + ROOM)
    house.install_room()
    until(lambda: house.services.said("satellite") == "ready", "connected")


def test_it_may_use_the_sound_card_and_keeps_nothing(house: House) -> None:
    _at_work(house)
    process = Path(f"/proc/{house.machine.pid_here(int(house.pid()))}")
    lines = (process / "status").read_text("utf-8").splitlines()
    told = {name: line.split()[1:] for line in lines for name in ("Groups:", "CapBnd:") if line.startswith(name)}
    audio = house.machine.run("getent", "group", "audio").stdout.split(":")[2]
    assert audio in told["Groups:"]
    assert told["CapBnd:"] == ["0" * 16]
    environ = (process / "environ").read_text("utf-8")
    assert not {"STATE_DIRECTORY", "CACHE_DIRECTORY"} & {line.partition("=")[0] for line in environ.split("\0")}


def test_installing_again_leaves_it_at_work(house: House) -> None:
    _at_work(house)
    pid = house.pid()
    house.install_room()
    house.machine.run(TIMMY, "install", "--system")
    assert (house.pid(), house.services.said("satellite")) == (pid, "ready")


def _another(house: House, pid: str) -> bool:
    return house.pid() not in ("0", pid)


def test_a_satellite_that_dies_or_hangs_is_back_by_itself(house: House) -> None:
    _at_work(house)
    fed = house.machine.show(UNIT, "WatchdogTimestampMonotonic")
    until(lambda: house.machine.show(UNIT, "WatchdogTimestampMonotonic") != fed, "the watchdog is fed")
    for signal in ("SIGKILL", "SIGSTOP"):
        pid = house.pid()
        house.services.kill("satellite", signal)
        until(partial(_another, house, pid), f"another one after {signal}")
        until(lambda: house.services.said("satellite") == "ready", "connected")
    assert "Watchdog timeout" in house.machine.run("journalctl", "--no-pager", "-u", UNIT).stdout


def test_a_house_that_restarts_is_found_again(house: House) -> None:
    _at_work(house)
    pid = house.pid()
    house.machine.systemctl("stop", "timmy.target", "timmy-stt.service", "timmy-tts.service")
    until(lambda: "does not answer at tcp://" in house.services.said("satellite"), "it says what it waits for")
    assert house.report()["state"] == "degraded"
    house.machine.systemctl("start", "timmy.target")
    until(lambda: house.services.said("satellite") == "ready", "connected")
    assert house.pid() == pid


def test_doctor_looks_after_it(house: House) -> None:
    _at_work(house)
    environ = {"TIMMY_RUNTIME": "/run/timmy", "HOME": "/root", "TIMMY_CACHE": "/var/cache/timmy"}
    told = house.machine.run(TIMMY, "doctor", "--json", environ=environ, check=False).stdout
    checks = {check["name"]: check for check in json.loads(told)["checks"]}
    assert checks["satellite"]["state"] == "good"
    assert (checks["sandbox"]["state"], "satellite 1." in checks["sandbox"]["found"]) == ("good", True)


class Roomer:
    """A user of the machine who has a satellite of his own."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.environ = session_of(machine, "roomer")

    def run(self, *command: str, says: int = 0) -> str:
        done = self.machine.run(*command, user="roomer", environ=self.environ, check=False)
        assert done.returncode == says, done.stdout + done.stderr
        return done.stdout + done.stderr

    def said(self) -> str:
        return self.run("systemctl", "--user", "show", "--value", "--property=StatusText", UNIT).strip()

    def get_a_sound_card(self) -> None:
        """A speaker that nobody hears, and a microphone that hears it."""
        self.machine.write("/home/roomer/.asoundrc", "pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        self.run("systemctl", "--user", "restart", "pulseaudio.service")
        self.run("pactl", "load-module", "module-null-sink", "sink_name=room")
        self.run("pactl", "set-default-sink", "room")
        self.run("pactl", "set-default-source", "room.monitor")


def test_a_user_has_a_satellite_of_his_own(house: House) -> None:
    user = Roomer(house.machine)
    assert "house.address is not set" in user.run(TIMMY, "install", "--satellite", "--user", says=78)
    house.allow(new_key(house.machine, "roomer", user.environ), "desk")
    house.machine.write("/home/roomer/.config/timmy/timmy.toml", house.told)
    user.get_a_sound_card()
    user.run(TIMMY, "install", "--satellite", "--user")
    until(lambda: user.said() == "ready", "it has its house, a microphone and a speaker")
    for kind in ("sink-inputs", "source-outputs"):
        assert "protocol-native" in user.run("pactl", "list", "short", kind)
    reports = json.loads(user.run(TIMMY, "status", "--json"))
    assert {name: report["state"] for name, report in reports.items()} == {"satellite": "ready"}
    assert reports["satellite"]["unit"]["state"] == "active (running)"
    user.run(TIMMY, "uninstall", "--user", "--purge")
    assert house.machine.run("find", "/home/roomer", "-iname", "*timmy*").stdout == ""


def test_uninstalling_takes_both_away(house: House) -> None:
    house.machine.run(TIMMY, "install", "--system")
    _at_work(house)
    house.machine.run(TIMMY, "uninstall", "--system")
    inside = Path(f"/proc/{house.machine.leader}/root")
    assert not list((inside / "usr/local").rglob("*timmy*"))
    assert not (inside / "run/timmy").exists()
    for unit in (UNIT, "timmy-stt.service", "timmy.slice"):
        assert house.machine.show(unit, "ActiveState") == "inactive", unit
