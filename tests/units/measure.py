"""python -m tests.units.measure [KILLS]: how soon a killed daemon answers again, and all are ready after a boot.

On a machine of its own under the units as they are installed. Needs root and a quiet machine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.errors import CallError
from ipc.messages import Status, StatusReport
from tests.units import machine as machines
from tests.units.machine import Machine
from tests.units.service import TIMMY, Services, with_fakes


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        built = machines.wheel(Path(folder))
        for name, prepare in (("fakes", with_fakes), ("embedded", _embedded)):
            with _prepared(built, prepare) as services:
                if name == "embedded":
                    print(f"all ready after the target was started: {_start(services):.2f} s")
                times = {each: [_again(services, each) for _ in range(kills // len(DAEMONS))] for each in DAEMONS}
                for daemon in DAEMONS:
                    _tell(f"{name} {daemon}", times[daemon])
                _tell(f"{name}, all", [took_s for each in times.values() for took_s in each])


def _tell(name: str, times_s: list[float]) -> None:
    median, p95 = statistics.median(times_s), statistics.quantiles(times_s, n=20, method="inclusive")[-1]
    print(f"{name}: n {len(times_s)}, median {median:.3f} s, p95 {p95:.3f} s, longest {max(times_s):.3f} s")


@contextmanager
def _prepared(built: Path, prepare: Callable[[Machine], Services]) -> Iterator[Services]:
    with tempfile.TemporaryDirectory() as folder, machines.booted(Path(folder), machines.binds()) as machine:
        machines.put_program(machine, built)
        machines.put_models(machine)
        yield prepare(machine)


def _embedded(machine: Machine) -> Services:
    machine.run(TIMMY, "install", "--system")
    return Services(machine)


def _start(services: Services) -> float:
    services.machine.systemctl("stop", "timmy.target")
    began = time.monotonic()
    services.machine.systemctl("start", "timmy.target")
    return time.monotonic() - began


def _again(services: Services, daemon: str) -> float:
    """From kill -9 to an answer of its successor that says it is ready."""
    pid = services.pid(daemon)
    here = services.machine.pid_here(pid)
    # So many deaths within two minutes would be given up otherwise.
    services.machine.systemctl("reset-failed", f"timmy-{daemon}.service")

    async def until_ready() -> float:
        async with Client(daemon, "measure", folder=services.sockets) as client:
            await client.wait_connected(30)
            began = time.monotonic()
            os.kill(here, signal.SIGKILL)
            while True:
                try:
                    report = await client.request(Status(), ttl_ms=30_000)
                except CallError:
                    await asyncio.sleep(0.01)
                    continue
                assert isinstance(report, StatusReport)
                if report.pid != pid and report.state in ("ready", "degraded"):
                    return time.monotonic() - began
                await asyncio.sleep(0.01)

    return asyncio.run(until_ready())


if __name__ == "__main__":
    main()
