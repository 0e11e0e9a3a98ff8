"""The daemons as services of a booted machine, called from here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemons.orders import OrderBook, Orders
from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.errors import CallError
from ipc.messages import Body, Result, Status, StatusReport
from tests.units.machine import PROGRAM, Machine

PATIENCE_S = 60.0
LOOK_S = 0.05
WATCHDOG_S = 2
TIMMY = f"{PROGRAM}/bin/timmy"


def until(what: Callable[[], Any], why: str = "") -> Any:
    """What it gives once that is true."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        if found := what():
            return found
        time.sleep(LOOK_S)
    raise AssertionError(f"did not come about within {PATIENCE_S:g} s: {why}")


class Services:
    """What is installed on a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.sockets = Path(f"/proc/{machine.leader}/root/run/timmy")

    def make_whole(self) -> None:
        """All are at work, with the usual configuration and without orders."""
        for daemon in DAEMONS:
            order(self.machine, daemon, Orders())
        Path(f"{self.machine.root}/etc/timmy/timmy.toml").unlink(missing_ok=True)
        self.machine.systemctl("start", "timmy.target")
        until(lambda: all(map(self.ready, DAEMONS)), "all ready")

    # --- what they are asked ---

    async def answer(self, daemon: str, body: Body, ttl_ms: int = 30_000) -> Result:
        async with Client(daemon, "test", folder=self.sockets) as client:
            return await client.request(body, ttl_ms=ttl_ms)

    def ask(self, daemon: str, body: Body) -> Result:
        return asyncio.run(self.answer(daemon, body))

    def pid(self, daemon: str) -> int:
        """Of the daemon as it answers: its own, in the machine."""
        report = self.ask(daemon, Status())
        assert isinstance(report, StatusReport)
        return report.pid

    def ready(self, daemon: str) -> bool:
        try:
            report = self.ask(daemon, Status())
        except CallError:
            return False
        assert isinstance(report, StatusReport)
        return report.state in ("ready", "degraded")

    # --- what systemd says ---

    def state(self, daemon: str) -> str:
        return self.machine.show(f"timmy-{daemon}.service", "ActiveState")

    def said(self, daemon: str) -> str:
        """Its status."""
        return self.machine.show(f"timmy-{daemon}.service", "StatusText")

    def restarts(self, daemon: str) -> int:
        return int(self.machine.show(f"timmy-{daemon}.service", "NRestarts"))

    def kill(self, daemon: str, signal: str = "SIGKILL") -> None:
        self.machine.systemctl("kill", "--kill-whom=main", f"--signal={signal}", f"timmy-{daemon}.service")


def with_fakes(machine: Machine) -> Services:
    """The daemons with engines that obey orders, under the same units; the watchdog is quicker."""
    for daemon in DAEMONS:
        order(machine, daemon, Orders())
        machine.write(
            f"/etc/systemd/system/timmy-{daemon}.service.d/50-fakes.conf",
            f"[Service]\nExecStart=\nExecStart={PROGRAM}/bin/python -I -m daemons.{daemon}.faked /opt/orders/{daemon}\n"
            f"Environment=TIMMY_STT_INPUT=none TIMMY_TTS_OUTPUT=none\nWatchdogSec={WATCHDOG_S}\n",
        )
    machine.run(TIMMY, "install", "--system")
    return Services(machine)


def order(machine: Machine, daemon: str, orders: Orders) -> None:
    path = Path(f"{machine.root}/opt/orders/{daemon}")
    path.parent.mkdir(exist_ok=True)
    OrderBook(path).give(orders)
    path.chmod(0o644)


def session_of(machine: Machine, user: str) -> dict[str, str]:
    """The environment of a user who has a systemd of his own, also while he is not logged in."""
    machine.systemctl("start", "dbus.socket", "systemd-logind.service")
    machine.run("useradd", "--create-home", user, check=False)  # it is there when a test is tried again
    uid = machine.run("id", "-u", user).stdout.strip()
    machine.run("loginctl", "enable-linger", user)
    until(lambda: machine.show(f"user@{uid}.service", "ActiveState") == "active")
    return {"HOME": f"/home/{user}", "XDG_RUNTIME_DIR": f"/run/user/{uid}"}
