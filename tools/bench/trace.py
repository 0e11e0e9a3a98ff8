"""`timmy bench trace`: what tracing costs a turn, and how quickly a million marks are read."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from ipc import traces
from ipc.audio import read_wav
from ipc.ids import new_rid
from ipc.marks import DRAIN_S, RING_MARKS, Marks, Stage, trace_files
from tools.bench.house import own_folders, running
from tools.bench.questions import EXAMPLES
from tools.latency.reading import Losses, read_turns, trace_folder
from tools.latency.turns import Turn
from tools.recorded import open_talk
from tools.show import human_bytes, json_option, print_json, print_table

ROUNDS = 12
"""Rings of marks that are made; between them the drain thread has time to write."""

BATCH = RING_MARKS // 2
MARKS = 1_000_000
APART_NS = 10 * 10**9
"""Between two turns of the files that are read."""

TARGETS = {"mark_us": 1.0, "turn_percent": 0.1, "read_s": 5.0, "read_bytes": 300e6}

READERS = {
    "blocks": ["-m", "tools.bench.trace"],
    "timmy latency summary": ["-m", "tools.cli", "latency", "summary", "--json", "--trace"],
}
"""Commands that read a folder of trace files: without a look at what the marks mean, and all of the analysis."""


@click.command()
@click.option("--marks", default=MARKS, show_default=True, type=click.IntRange(10_000), help="How many are read.")
@json_option
def trace(marks: int, as_json: bool) -> None:
    """Time a trace mark, count those of a real turn, and read a million of them.

    A mark costs the daemon that makes it, and the thread that writes it. The turn is one of the bundled questions,
    asked of daemons started for it; its share is the time of all its marks against that from its first to its last.
    A million marks are turns like that one, as five daemons write them.

    \b
    timmy bench trace --json
    """
    with tempfile.TemporaryDirectory(prefix="timmy-") as folder:
        cost = mark_cost(Path(folder) / "cost")
        turn = asked_turn()
        write_turns(Path(folder) / "many", turn, marks)
        reading = {name: _read(command, Path(folder) / "many") for name, command in READERS.items()}
    figures = cost | turn_share(turn, cost) | {"marks": marks, "reading": reading, "targets": TARGETS}
    if as_json:
        print_json(figures)
    else:
        show(figures)


# --- what a mark costs --------------------------------------------------------------------------------------------


def mark_cost(folder: Path) -> dict[str, float]:
    """`mark_us`: of a call, the loop around it included (median of ROUNDS rings); `drain_us`: processor time of the
    thread that writes it."""
    kept, rid = Marks("bench", folder), new_rid()
    taken, began_ns = [], time.process_time_ns() - time.thread_time_ns()
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        for number in range(BATCH):
            kept.mark(rid, Stage.SENT, arg=number)
        taken.append(time.perf_counter_ns() - start)
        time.sleep(1.5 * DRAIN_S)
    kept.close()
    drained_ns = time.process_time_ns() - time.thread_time_ns() - began_ns
    written = sum(len(traces.read(path).marks) for path in trace_files(folder))
    return {"mark_us": statistics.median(taken) / BATCH / 1000, "drain_us": drained_ns / written / 1000}


def asked_turn() -> Turn:
    """One of the bundled questions, asked of daemons of its own; the first of two, which warms up, is not it."""
    with own_folders():
        with running():
            asyncio.run(_ask(read_wav(EXAMPLES / "2-capital.wav")))
        turns = [turn for turn in read_turns(trace_folder(None), Losses()) if turn.complete]
    if not turns:
        raise click.ClickException("the question got no spoken answer: see the logs of the daemons")
    return turns[-1]


async def _ask(pcm: bytes) -> None:
    async with AsyncExitStack() as stack:
        talk = await open_talk(stack, None)
        for _ in range(2):
            async for _ in talk.play(pcm):
                pass


def turn_share(turn: Turn, cost: dict[str, float]) -> dict[str, float]:
    """`turn_marks`, `turn_s` from the first to the last of them, and what making and writing them is of that."""
    times = [mark.t_ns for mark in turn.marks]
    turn_s = (max(times) - min(times)) / 1e9
    tracing_s = len(times) * (cost["mark_us"] + cost["drain_us"]) / 1e6
    return {"turn_marks": len(times), "turn_s": turn_s, "turn_percent": tracing_s / turn_s * 100}


# --- reading --------------------------------------------------------------------------------------------------------


def write_turns(folder: Path, turn: Turn, marks: int) -> None:
    """So many marks, of turns like this one, APART_NS from each other, as the daemons' own trace files."""
    daemons = sorted({mark.daemon for mark in turn.marks})
    first_ns, now_ns = turn.marks[0].t_ns, time.monotonic_ns()
    turns = -(-marks // len(turn.marks))
    most = max(sum(mark.daemon == daemon for mark in turn.marks) for daemon in daemons)
    for start in range(0, turns, RING_MARKS // most):  # so many fit into a ring
        batch = [(number, new_rid()) for number in range(start, min(turns, start + RING_MARKS // most))]
        for daemon in daemons:
            kept = Marks(daemon, folder)
            for number, rid in batch:
                for mark in turn.marks:
                    if mark.daemon == daemon:
                        kept.mark(rid, mark.stage, mark.t_ns - first_ns + now_ns + number * APART_NS, mark.arg)
            kept.close()


def _read(command: Sequence[str], folder: Path) -> dict[str, float]:
    """Seconds, processor seconds and peak memory of a program that reads the folder, the start of Python included."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, *command, str(folder)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} failed")
    return {
        "seconds": time.monotonic() - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def _main() -> None:
    marks = sum(len(block.marks) for path in trace_files(Path(sys.argv[1])) for block in traces.Trace(path))
    print(json.dumps({"marks": marks}))


# --- what is shown --------------------------------------------------------------------------------------------------


def show(figures: Mapping[str, Any]) -> None:
    """The figures, for a person."""
    million = f"{figures['marks']:,} marks"
    rows = [
        ["making a mark", f"{figures['mark_us']:.2f} µs", f"{TARGETS['mark_us']:.0f} µs"],
        ["writing it, in a thread of its own", f"{figures['drain_us']:.2f} µs", ""],
        [f"the {figures['turn_marks']} marks of a turn of {figures['turn_s']:.1f} s",
         f"{figures['turn_percent']:.4f} % of it", f"{TARGETS['turn_percent']} %"],
    ]  # fmt: skip
    for name, row in figures["reading"].items():
        target = f"{TARGETS['read_s']:.0f} s, {human_bytes(round(TARGETS['read_bytes']))}"
        used = f"{row['seconds']:.1f} s ({row['cpu_s']:.1f} s of a core), {human_bytes(round(row['peak_bytes']))}"
        rows.append([f"reading {million}: {name}", used, target])
    print_table(["", "cost", "target: under"], rows)


if __name__ == "__main__":
    _main()
