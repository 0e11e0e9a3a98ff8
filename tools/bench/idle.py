"""`timmy bench idle`: what the daemons cost while nobody speaks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from ipc.endpoints import DAEMONS
from tools.bench.house import own_folders, own_house, running
from tools.bench.soundcard import SoundCard, missing_packages
from tools.recorded import open_talk
from tools.show import human_bytes, json_option, print_json, print_table
from tools.status import ask_all

SETTLE_S = 65.0
"""By then a device that is missing is looked for every two minutes only, as it is for most of a day."""


@click.command()
@click.option("--seconds", default=30.0, show_default=True, help="How long to watch.")
@json_option
def idle(seconds: float, as_json: bool) -> None:
    """Listen to silence; report processor time and memory of each daemon with its children.

    Silence comes in over the wire first. Then, where a virtual sound card can be made, from its microphone, with its
    speaker open, which costs the callbacks of both.

    \b
    timmy bench idle --seconds 60
    """
    with own_house():
        figures = asyncio.run(_watch(seconds, wire=True))
    figures |= {"card": None if missing_packages() else _with_card(seconds), "n": 1}
    if as_json:
        print_json(figures)
    else:
        show(figures)


def show(figures: Mapping[str, Any]) -> None:
    """The figures, for a person."""
    card = figures["card"]
    rows = {**figures["daemons"], "all": figures["all"]}
    beside = {**card["daemons"], "all": card["all"]} if card else {}
    print_table(
        ["daemon", "core", "memory", *(["core, with a sound card"] if card else [])],
        [
            [
                name,
                f"{row['core_percent']:.2f} %",
                human_bytes(row["rss_bytes"]),
                *([f"{beside[name]['core_percent']:.2f} %"] if card else []),
            ]
            for name, row in rows.items()
        ],
    )
    if not card:
        click.echo("With a sound card: not measured, a virtual one cannot be made here")


def _with_card(seconds: float) -> dict[str, Any]:
    with SoundCard() as card, own_folders(**card.variables), running():
        return asyncio.run(_watch(seconds, wire=False))


async def _watch(seconds: float, wire: bool) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        talk = await open_talk(stack, None) if wire else None
        reports = await ask_all()
        if not wire and (deaf := [report["detail"] for report in reports.values() if report["detail"]]):
            raise click.ClickException(f"the sound card is not used: {deaf[0]}")
        pids = {name: report["pid"] for name, report in reports.items()}
        await asyncio.sleep(SETTLE_S)
        before, began = {name: _cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
        await asyncio.sleep(seconds)
        elapsed = time.monotonic() - began
        if talk is not None and talk.gone.done():
            talk.gone.result()  # no silence came in: there is nothing to report
        rows = {
            name: {
                "core_percent": (_cpu_s(pid) - before[name]) / elapsed * 100,
                "rss_bytes": sum(map(_rss, _family(pid))),
            }
            for name, pid in pids.items()
        }
    return {
        "seconds": elapsed,
        "daemons": rows,
        "all": {key: sum(rows[name][key] for name in DAEMONS) for key in ("core_percent", "rss_bytes")},
    }


def _family(pid: int) -> list[int]:
    """A process and what it has started."""
    found = [pid]
    for member in found:
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            found += [int(child) for child in children.read_text("ascii").split()]
    return found


def _cpu_s(pid: int) -> float:
    """User and system time (proc(5), fields 14 and 15 of stat)."""
    ticks = 0
    for member in _family(pid):
        fields = Path(f"/proc/{member}/stat").read_text("ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
