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
    machine.run(TIMMY, "uninstall", "--system", "--purge")
    assert sorted(everything(machine) - before) == []
    assert accounts(machine) == knew
    assert machine.run("systemctl", "list-unit-files", "--no-legend", "timmy*", check=False).stdout == ""


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
