"""`timmy tap`: what passes at the daemons' sockets, live."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

import click

from ipc.endpoints import DAEMONS, daemons_dir, observer_path
from ipc.messages import REGISTRY, Kind
from ipc.network import House
from ipc.observer import FROM_CLIENT, Observed, Observer
from ipc.text import printable_json
from tools.far import house_option
from tools.plain import as_plain, in_a_line

USUAL = frozenset({"ping", "pong", "credit_grant", "passed"})
"""They pass all the time, and mean that all is well, or that somebody records."""

NICE = 10
"""On two busy cores a tap of usual priority made a request twice as long, waiting for a core as everybody else does."""

Take = Callable[[Observed], None]


def _types(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> frozenset[str]:
    for name in values:
        if name not in REGISTRY:
            raise click.BadParameter(f"there is no message {name!r}: ipc/PROTOCOL.md has them all", context, option)
    return frozenset(values)


def _digits(context: click.Context, option: click.Parameter, value: str | None) -> str:
    if value and not all(digit in "0123456789abcdef" for digit in value.lower()):
        raise click.BadParameter("an id has hexadecimal digits only", context, option)
    return (value or "").lower()


@click.command()
@click.argument("daemons", nargs=-1, type=click.Choice(DAEMONS))
@click.option("--type", "types", multiple=True, callback=_types, help="Only messages of this type; may be repeated.")
@click.option("--rid", callback=_digits, help="Only requests whose id begins or ends so.")
@click.option("--decode", is_flag=True, help="Print every field, as JSON.")
@click.option("--out", type=click.File("w", encoding="utf-8", lazy=False), help="Write JSON lines to this file, too.")
@house_option
@click.option("--seconds", type=click.FloatRange(0), help="Stop after so long; else Ctrl-C does.")
def tap(
    daemons: tuple[str, ...],
    types: frozenset[str],
    rid: str,
    decode: bool,
    out: TextIO | None,
    house: House | None,
    seconds: float | None,
) -> None:
    """Watch what passes at the sockets.

    That is what comes to the DAEMONS (all of them, if none is named) and what leaves them, one line each: the time, the
    daemon, the way (> to it, < from it), the end of the request's id, and the message. What sounds is not published,
    only when. Pings, grants of credit and what a recording is told are shown when asked for by --type. A daemon never
    waits for a tap, and has the processor first: what the tap was too slow for is lost, and counted at the end.

    \b
    timmy tap
    timmy tap dialog llm --type token --type turn_said
    timmy tap --rid 3f2a --decode --out turn.jsonl
    """

    def take(seen: Observed) -> None:
        if out is not None:
            click.echo(as_json(seen), file=out)
        click.echo(as_json(seen) if decode else as_line(seen))

    observer = Observer(daemons or DAEMONS, house=house)
    if house is None and (absent := _absent(daemons or DAEMONS)):
        click.echo(f"not running: {', '.join(absent)}. What they say is shown as soon as they do (timmy up).", err=True)
    try:
        with _stepped_back():
            asyncio.run(_watch(observer, _wanted(types, rid), take, seconds))
    except KeyboardInterrupt:
        click.echo()
    finally:
        click.echo(f"{observer.lost} messages were not seen", err=True)


@contextmanager
def _stepped_back() -> Iterator[None]:
    """What is watched goes before the one who watches."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(before, NICE))
    try:
        yield
    finally:
        with suppress(PermissionError):  # only root can go back
            os.setpriority(os.PRIO_PROCESS, 0, before)


def _absent(daemons: Sequence[str]) -> list[str]:
    folder = daemons_dir()
    return [daemon for daemon in daemons if not observer_path(daemon, folder).exists()]


def _wanted(types: frozenset[str], rid: str) -> Callable[[Observed], bool]:
    def wanted(seen: Observed) -> bool:
        hexed = seen.message.rid.hex()
        name = seen.message.body.type_name()
        of_type = name in types if types else name not in USUAL
        return of_type and (hexed.startswith(rid) or hexed.endswith(rid))

    return wanted


async def _watch(observer: Observer, wanted: Callable[[Observed], bool], take: Take, seconds: float | None) -> None:
    async with observer:
        try:
            async with asyncio.timeout(seconds):
                async for seen in observer:
                    if wanted(seen):
                        take(seen)
        except TimeoutError:
            return


def as_line(seen: Observed) -> str:
    """For a person."""
    message = seen.message
    clock_s = time.time() - (time.monotonic_ns() - seen.t_ns) / 1e9
    clock = f"{time.strftime('%H:%M:%S', time.localtime(clock_s))}.{int(clock_s * 1000) % 1000:03d}"
    name = message.body.type_name()
    return f"{clock} {seen.daemon:6} {_way(seen)} {message.rid.hex()[-8:]} {name:16} {in_a_line(message.body)}".rstrip()


def as_json(seen: Observed) -> str:
    """Every field, in one line. `seen_ns`: monotonic time of this host."""
    message = seen.message
    told = {"seen_ns": seen.t_ns, "daemon": seen.daemon, "way": _way(seen), "rid": message.rid.hex()}
    told |= {"epoch": message.epoch, "seq": message.seq, "message": as_plain(message.body)}
    return printable_json(told)


def _way(seen: Observed) -> str:
    """> to the daemon, < from it; a grant of credit (=) may be either."""
    kind = seen.message.body.KIND
    if kind is Kind.CREDIT:
        return "="
    return ">" if kind in FROM_CLIENT else "<"
