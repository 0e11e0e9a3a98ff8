"""The machine that the other tests boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.units import machine as machines
from tests.units.service import until


@pytest.mark.usefixtures("bootable")
def test_nothing_of_a_machine_is_left_when_its_test_is_over(tmp_path: Path) -> None:
    with machines.booted(tmp_path) as machine:
        machine.run("systemd-run", "--quiet", "sleep", "1000")
        leader, sleeper = machine.leader, machine.pid_here(int(machine.run("pidof", "sleep").stdout))
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (leader, sleeper)), "its processes have gone")
