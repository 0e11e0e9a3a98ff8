"""`timmy bench ipc`: what a question to another process costs, the suite's way and others."""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import click

from ipc.client import Client
from tools.bench import peers
from tools.bench.watchers import WATCHED, watching
from tools.show import json_option, print_json, print_table

BATCH = 25
"""Calls in a row of one kind, before the next kind has its turn."""

WARM_UP = 2
"""Rounds that are not counted."""

ROWS = ("request", *WATCHED, "bare_pyzmq", "bare_blocking", "unix_raw", "http_pooled", "http_new")

Figures = dict[str, dict[str, float]]


@click.command()
@click.option("--rounds", default=40, show_default=True, type=click.IntRange(1, 10_000), help=f"Times {BATCH} calls.")
@json_option
def ipc(rounds: int, as_json: bool) -> None:
    """Time one question and its answer between two processes: through this suite's codec, session and sockets
    (request), the same while somebody watches the daemon, and the ways it is compared with. All take turns in one run,
    so that the ratios can be trusted. bare_pyzmq echoes a message over the same sockets on the same kind of event loop,
    bare_blocking without a loop.

    \b
    timmy bench ipc --rounds 100 --json
    """
    figures = run(rounds)
    if as_json:
        print_json(figures)
    else:
        show(figures)


def show(figures: Mapping[str, Mapping[str, float]]) -> None:
    """The figures, for a person."""
    request = figures["request"]["p50_us"]
    rows = [
        [name, f"{row['p50_us']:.0f}", f"{row['p99_us']:.0f}", f"{row['p50_us'] / request:.2f}"]
        for name, row in figures.items()
    ]
    print_table(["", "p50 µs", "p99 µs", "p50, request = 1"], rows)


def run(rounds: int) -> Figures:
    """For each kind `p50_us` and `p99_us` of a round trip. Raises ClickException when `requests` is missing."""
    if importlib.util.find_spec("requests") is None:
        raise click.ClickException("the HTTP rows need the requests package: pip install requests")
    with tempfile.TemporaryDirectory(prefix="timmy-") as folder, ExitStack() as stack:
        where = {name: stack.enter_context(peers.serving(name, Path(folder))) for name in peers.SERVERS}
        for name in WATCHED:
            (own := Path(folder, name)).mkdir(mode=0o700)
            where[name] = stack.enter_context(peers.serving("request", own))
        return asyncio.run(_measure(where, rounds))


async def _measure(where: dict[str, str], rounds: int) -> Figures:
    times: dict[str, list[int]] = {name: [] for name in ROWS}
    async with AsyncExitStack() as stack:
        soon = {name: await _daemon(stack, Path(where[name])) for name in ("request", *WATCHED)}
        for name in WATCHED:
            await stack.enter_context(watching(name, Path(where[name]))).begun(soon[name])
        soon["bare_pyzmq"] = stack.enter_context(peers.bare_pyzmq(where["bare_pyzmq"]))
        blocking = {
            "bare_blocking": stack.enter_context(peers.bare_blocking(where["bare_blocking"])),
            "unix_raw": stack.enter_context(peers.unix_raw(where["unix_raw"])),
            "http_pooled": stack.enter_context(peers.http_pooled(where["http"])),
            "http_new": stack.enter_context(peers.http_new(where["http"])),
        }
        for number in range(WARM_UP + rounds):
            batch = {name: await _timed_soon(ask) for name, ask in soon.items()}
            batch |= {name: _timed(ask) for name, ask in blocking.items()}
            if number >= WARM_UP:
                for name, taken in batch.items():
                    times[name] += taken
    return {name: _summary(taken) for name, taken in times.items()}


async def _daemon(stack: AsyncExitStack, folder: Path) -> peers.AskSoon:
    client = await stack.enter_async_context(Client("memory", "bench", folder=folder))
    await client.wait_connected()
    return lambda: client.request(peers.QUESTION)


async def _timed_soon(ask: peers.AskSoon) -> list[int]:
    taken = []
    for _ in range(BATCH):
        began = time.perf_counter_ns()
        await ask()
        taken.append(time.perf_counter_ns() - began)
    return taken


def _timed(ask: peers.Ask) -> list[int]:
    taken = []
    for _ in range(BATCH):
        began = time.perf_counter_ns()
        ask()
        taken.append(time.perf_counter_ns() - began)
    return taken


def _summary(taken_ns: list[int]) -> dict[str, float]:
    cuts = statistics.quantiles(taken_ns, n=100, method="inclusive")
    return {"n": len(taken_ns), "p50_us": cuts[49] / 1000, "p99_us": cuts[98] / 1000}
