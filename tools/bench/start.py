"""`timmy bench start`: how long until there is something to see."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

import click

from ipc.endpoints import DAEMONS
from tools.bench.house import own_house
from tools.harness import Daemon
from tools.show import json_option, print_json, print_table

ROUNDS = 15
DAEMON_ROUNDS = 7
PROGRAMS = {
    "python": ["-c", ""],
    "import ipc": ["-c", "import ipc"],
    "import ipc.client": ["-c", "import ipc.client"],
    "timmy --help": ["-m", "tools.cli", "--help"],
}


@click.command()
@json_option
def start(as_json: bool) -> None:
    """Time the start of programs and of all daemons.

    \b
    timmy bench start
    """
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(ROUNDS):
        for name, arguments in PROGRAMS.items():
            times[name].append(_run([sys.executable, *arguments]))
    for name in DAEMONS * DAEMON_ROUNDS:
        times.setdefault(f"{name} alone, fake engine", []).append(_ready(partial(Daemon, name)))
    times["five daemons ready"] = [_ready(own_house)]
    rows = {name: {"p50_ms": statistics.median(values), "n": len(values)} for name, values in times.items()}
    if as_json:
        print_json(rows)
    else:
        show(rows)


def show(figures: Mapping[str, Mapping[str, float]]) -> None:
    """The figures, for a person."""
    print_table(["", "ms"], [[name, f"{row['p50_ms']:.0f}"] for name, row in figures.items()])


def _ready(make: Callable[[], AbstractContextManager[object]]) -> float:
    began = time.monotonic()
    with make():
        return (time.monotonic() - began) * 1000


def _run(command: Sequence[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - began) * 1000
