"""`timmy status`: asks each daemon what it is doing."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec

from ipc.client import Client
from ipc.endpoints import DAEMONS, daemons_dir, socket_path
from ipc.errors import EXIT_UNAVAILABLE, CallError
from ipc.messages import Status
from ipc.network import House
from tools.far import house_option
from tools.service.state import Unit, manager, units
from tools.show import human_bytes, json_option, print_json, print_table

ANSWER_MS = 2000


@click.command()
@json_option
@house_option
@click.pass_context
def status(ctx: click.Context, as_json: bool, house: House | None) -> None:
    """Show what each daemon is doing.

    Exit status 69 when one of them is down. Where systemd runs them, it also tells how it sees them; and a satellite,
    which may be all that there is.

    \b
    timmy status
    timmy status --json
    timmy status --house
    """
    reports = asyncio.run(ask_all(house))
    seen = {} if house else units(manager())
    if set(seen) == {"satellite"} and all(report["state"] == "down" for report in reports.values()):
        reports = {}
    asked = list(reports)
    if "satellite" in seen:
        reports["satellite"] = _of_satellite(seen["satellite"])
    for name, unit in seen.items():
        reports[name]["unit"] = unit.plain()
    if as_json:
        print_json(reports)
    else:
        _print({daemon: reports[daemon] for daemon in asked}, seen)
    if any(report["state"] == "down" for report in reports.values()):
        ctx.exit(EXIT_UNAVAILABLE)


async def ask_all(house: House | None = None) -> dict[str, dict[str, Any]]:
    """Of this machine's daemons, or those of a house. By daemon: state, detail, pid, uptime_s, engine, model, device,
    rss_bytes, requests_open, last_error."""
    return dict(zip(DAEMONS, await asyncio.gather(*(_ask(daemon, house) for daemon in DAEMONS)), strict=True))


async def _ask(daemon: str, house: House | None) -> dict[str, Any]:
    try:
        if house is None and not (path := socket_path(daemon, daemons_dir())).exists():
            return _down(f"not running: no socket {path}")
        async with Client(daemon, "status", house=house) as client:
            report = await client.request(Status(), ttl_ms=ANSWER_MS)
    except CallError as error:
        return _down(str(error))
    return {name: value for name, value in msgspec.to_builtins(report).items() if name != "daemon"}


def _of_satellite(unit: Unit) -> dict[str, Any]:
    """It has no socket: what it is doing is what it tells systemd."""
    if not unit.state.startswith("active"):
        return _down(unit.said or unit.state)
    good = unit.said == "ready"
    return {**_down(""), "state": "ready" if good else "degraded", "detail": "" if good else unit.said}


def _print(reports: dict[str, dict[str, Any]], seen: dict[str, Unit]) -> None:
    if reports:
        print_table(
            ["daemon", "state", "pid", "uptime", "engine", "model", "device", "memory", "trouble"],
            [_row(daemon, report) for daemon, report in reports.items()],
        )
    if reports and seen:
        click.echo()
    if seen:
        print_table(
            ["service", "state", "restarts", "last exit", "watchdog", "says"],
            [_unit_row(name, unit) for name, unit in seen.items()],
        )


def _down(reason: str) -> dict[str, Any]:
    unknown = ("pid", "uptime_s", "engine", "model", "device", "rss_bytes", "requests_open", "last_error")
    return {"state": "down", "detail": reason, **dict.fromkeys(unknown)}


def _row(daemon: str, report: dict[str, Any]) -> list[str]:
    if report["state"] == "down":
        return [daemon, "down", "", "", "", "", "", "", report["detail"]]
    return [
        daemon,
        report["state"],
        str(report["pid"]),
        _duration(report["uptime_s"]),
        report["engine"],
        report["model"],
        report["device"],
        human_bytes(report["rss_bytes"]),
        report["detail"] or report["last_error"],
    ]


def _unit_row(daemon: str, unit: Unit) -> list[str]:
    watchdog = f"{unit.watchdog_s:g} s" if unit.watchdog_s else "none"
    trouble = "" if unit.result == "success" else f"{unit.result}; "
    return [daemon, unit.state, str(unit.restarts), unit.last_exit, watchdog, trouble + unit.said]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
