"""Installing, upgrading and taking away again, with real engines under the real sandbox."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ipc.audio import read_wav
from ipc.endpoints import DAEMONS
from ipc.messages import ListMemories, MemoryPage
from tests.support.far import free_base
from tests.support.suite import EXAMPLES, house, running
from tests.units import machine as machines
from tests.units.machine import PROGRAM, Machine
from tests.units.service import TIMMY, Services, until
from tools.recorded import open_talk

pytestmark = pytest.mark.models
WAVS = ("1-remember.wav", "2-capital.wav")
ENVIRON = {"TIMMY_RUNTIME": "/run/timmy", "HOME": "/root"}
CHANGING = (
    "/proc",
    "/sys",
    "/dev",
    "/run/systemd",
    "/run/udev",
    "/run/log",
    "/run/user",
    "/tmp",
    "/var/log",
    "/var/tmp",
)
"""Where a machine writes whether anything is installed or not."""


@pytest.fixture(scope="module")
def machine(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machines.booted(tmp_path_factory.mktemp("machine"), machines.binds()) as machine:
        machines.put_program(machine, built)
        shutil.copytree(EXAMPLES, f"{machine.root}/opt/examples")
        yield machine


def everything(machine: Machine) -> set[str]:
    """What is on the machine and not on this one."""
    upper = machine.root.parent / "upper"
    written = {f"/{path.relative_to(upper)}" for path in upper.rglob("*")}
    return {path for path in written if not path.startswith((*CHANGING, f"{PROGRAM}/lib")) and not Path(path).exists()}


def accounts(machine: Machine) -> list[str]:
    names = ("passwd", "group", "shadow", "gshadow")
    return [line for name in names for line in machine.run("cat", f"/etc/{name}").stdout.splitlines()]


def pids(machine: Machine) -> dict[str, str]:
    return {daemon: machine.show(f"timmy-{daemon}.service", "MainPID") for daemon in DAEMONS}


def outside() -> list[str]:
    """What the same daemons hear without a sandbox."""

    async def talk() -> list[str]:
        async with AsyncExitStack() as stack:
            conversation = await open_talk(stack, None)
            results = [result for wav in WAVS async for result in conversation.play(read_wav(EXAMPLES / wav))]
        return [result.report.heard for result in results]

    return asyncio.run(talk())


def test_from_nothing_to_a_spoken_turn_an_upgrade_and_nothing_again(
    machine: Machine, built: Path, tmp_path: Path
) -> None:
    """One story, in the order in which it happens to a machine."""
    _leave_nothing(machine)
    before, knew = everything(machine), accounts(machine)
    _a_dry_run_does_nothing(machine, before)
    machines.put_models(machine)
    machine.run(TIMMY, "install", "--system")
    services = Services(machine)
    assert all(services.state(daemon) == "active" for daemon in DAEMONS)
    heard = _a_spoken_turn(machine)
    with house(tmp_path / "state"), running():
        assert heard == outside()
    until(lambda: _remembered(services), "what was said is remembered")
    _an_upgrade_restarts_what_changed(machine, built, tmp_path)
    assert _remembered(services), "an upgrade forgets nothing"
    _uninstalling_keeps_what_is_remembered(machine)
    _leave_nothing(machine)
    assert sorted(everything(machine) - before) == []
    assert accounts(machine) == knew
    assert units(machine) == []


def _leave_nothing(machine: Machine) -> None:
    machine.run(TIMMY, "uninstall", "--system", "--purge")


def units(machine: Machine) -> list[str]:
    """What systemd knows by our name."""
    told = machine.run("systemctl", "list-unit-files", "--no-legend", "timmy*", check=False).stdout
    return sorted(line.split()[0] for line in told.splitlines())


def _a_dry_run_does_nothing(machine: Machine, before: set[str]) -> None:
    told = machine.run(TIMMY, "install", "--system", "--dry-run").stdout
    assert "write   /usr/local/lib/systemd/system/timmy-stt.service" in told
    assert "run     systemctl start timmy.target" in told
    assert everything(machine) == before


def _a_spoken_turn(machine: Machine) -> list[str]:
    wavs = [word for wav in WAVS for word in ("--wav", f"/opt/examples/{wav}")]
    told = machine.run(TIMMY, "talk", *wavs, "--out", "/tmp", "--json", environ=ENVIRON).stdout
    turns = [json.loads(line) for line in told.splitlines()]
    assert [turn["outcome"] for turn in turns] == ["answered"] * len(WAVS)
    assert "Paris" in turns[-1]["said"]
    assert Path(f"/proc/{machine.leader}/root/tmp/reply-01.wav").stat().st_size > 10_000
    return [turn["heard"] for turn in turns]


def _remembered(services: Services) -> bool:
    page = services.ask("memory", ListMemories(after_id=0, limit=10))
    assert isinstance(page, MemoryPage)
    return ["plumber" in memory.text for memory in page.memories] == [True]


def _an_upgrade_restarts_what_changed(machine: Machine, built: Path, tmp_path: Path) -> None:
    before = pids(machine)
    machine.run(TIMMY, "install", "--system")
    assert pids(machine) == before, "nothing changed, nothing is restarted"
    source = tmp_path / "newer"
    shutil.copytree(machines.ROOT, source, ignore=machines.LEFT_OUT)
    changed = source / "daemons" / "tts" / "core.py"
    changed.write_text(changed.read_text("utf-8") + "\nNEWER = True\n", "utf-8")
    machines.install_wheel(machine, machines.wheel(tmp_path / "built", source))
    told = machine.run(TIMMY, "install", "--system").stdout
    assert "systemctl try-restart timmy-tts.service" in told
    after = pids(machine)
    assert {daemon for daemon in DAEMONS if after[daemon] != before[daemon]} == {"tts"}
    assert _a_spoken_turn(machine)


def _uninstalling_keeps_what_is_remembered(machine: Machine) -> None:
    machine.run(TIMMY, "uninstall", "--system")
    inside = Path(f"/proc/{machine.leader}/root")
    assert (inside / "var/lib/timmy/memory/memory.db").is_file()
    assert (inside / "var/cache/timmy/models").is_dir()
    assert not (inside / "run/timmy").exists()
    assert not (inside / "usr/local/bin/timmy").exists()
    assert not list((inside / "usr/local").rglob("*timmy*"))


def test_a_satellite_alone_from_nothing_to_nothing(machine: Machine) -> None:
    """It needs no model, no daemon and no folder of its own."""
    _leave_nothing(machine)
    before, knew = everything(machine), accounts(machine)
    assert "timmy-satellite.service" in machine.run(TIMMY, "install", "--satellite", "--system", "--dry-run").stdout
    assert everything(machine) == before
    done = machine.run(TIMMY, "install", "--satellite", "--system", check=False)
    assert (done.returncode, "house.address is not set" in done.stderr) == (78, True), done.stderr
    assert units(machine) == ["timmy-satellite.service", "timmy.slice"]
    _it_is_all_that_status_and_doctor_see(machine)
    machine.run("install", "-d", "-o", "timmy", "-g", "timmy", "-m", "700", "/etc/timmy/keys")
    machine.run(TIMMY, "keys", "new", user="timmy", environ={"XDG_CONFIG_HOME": "/etc", "HOME": "/root"})
    machine.write(
        "/etc/timmy/timmy.toml", f'[house]\naddress = "127.0.0.1"\nport = {free_base()}\nkey = "{"k" * 40}"\n'
    )
    machine.run(TIMMY, "install", "--satellite", "--system")
    said = machine.show("timmy-satellite.service", "StatusText")
    assert "connecting to stt" in said or "stt does not answer at tcp://127.0.0.1:" in said
    assert machine.show("timmy-satellite.service", "UnitFileState") == "enabled"
    machine.run(TIMMY, "uninstall", "--system")
    assert units(machine) == []
    assert {path for path in everything(machine) - before if "timmy" in path} == {
        *("/etc/timmy", "/etc/timmy/keys", "/etc/timmy/keys/secret", "/etc/timmy/timmy.toml")
    }
    _leave_nothing(machine)
    assert sorted(everything(machine) - before) == []
    assert accounts(machine) == knew


def _it_is_all_that_status_and_doctor_see(machine: Machine) -> None:
    status = machine.run(TIMMY, "status", environ={"HOME": "/root"}, check=False)
    assert status.returncode == 69
    heading, row = status.stdout.strip().splitlines()
    assert heading.startswith("service")
    assert row.startswith("satellite")
    assert "house.address is not set" in row
    told = machine.run(TIMMY, "doctor", "--json", environ={"HOME": "/root"}, check=False).stdout
    checks = {check["name"]: check for check in json.loads(told)["checks"]}
    assert not {"llm model", "daemons", "ollama"} & set(checks)
    assert checks["services"]["advice"] == "correct it, then: systemctl restart timmy-satellite.service"
