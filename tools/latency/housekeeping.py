"""`timmy latency files` and `clear`: what traces there are, and their removal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from ipc.marks import CAP_BYTES, trace_files
from ipc.text import printable
from ipc.traces import Trace, TraceError
from tools.latency import display
from tools.latency.reading import NoTurns, trace_folder
from tools.latency.selection import trace_option
from tools.show import human_bytes, json_option, print_json


@dataclass(frozen=True, slots=True)
class File:
    """A trace file. Of one that cannot be read only its size and `damage` are known."""

    path: Path
    size: int
    daemon: str = ""
    version: int | None = None
    begun_s: float | None = None
    marks: int = 0
    lost: int = 0
    """Marks and notes that the daemon could not keep."""
    damage: str = ""
    """Why it could not be read, or not to its end."""


def _look(path: Path) -> File | None:
    """None when it has been removed."""
    size = _size(path)
    if size is None:
        return None
    try:
        trace = Trace(path)
    except TraceError as error:
        return File(path, size, damage=str(error).removeprefix(f"{path}: "))
    marks = sum(len(block.marks) for block in trace)
    header = trace.header
    return File(
        path, size, header.daemon, header.version, header.realtime_ns / 1e9, marks, trace.lost, damage=trace.damage
    )


@click.command()
@trace_option
@json_option
def files(folder: Path | None, as_json: bool) -> None:
    """The trace files, their sizes and losses, the oldest first. They are kept up to a total; the oldest go first.

    \b
    timmy latency files
    """
    folder = trace_folder(folder)
    found = [file for path in trace_files(folder) if (file := _look(path))]
    if as_json:
        _print_json(folder, found)
        return
    if not found:
        raise NoTurns(f"no trace files in {folder}")
    now = datetime.now().astimezone()
    titles = ("file", "daemon", "begun", "size", "marks", "lost", "damage")
    rows = [
        (
            file.path.name,
            printable(file.daemon) or "-",
            "-" if file.begun_s is None else display.day_and_time(display.local(file.begun_s), now),
            human_bytes(file.size),
            str(file.marks),
            str(file.lost),
            file.damage or "-",
        )
        for file in found
    ]
    display.print_rows(titles, rows, right={"size", "marks", "lost"}, shrinks="file")
    total = human_bytes(sum(file.size for file in found))
    marks, lost = sum(file.marks for file in found), sum(file.lost for file in found)
    click.echo(
        f"\n{_counted(len(found), 'file')}, {total} of at most {human_bytes(CAP_BYTES)}, {marks} marks, {lost} lost, "
        f"in {folder}"
    )


def _print_json(folder: Path, found: list[File]) -> None:
    print_json(
        {
            "folder": str(folder),
            "bytes": sum(file.size for file in found),
            "cap_bytes": CAP_BYTES,
            "files": [
                {
                    "name": file.path.name,
                    "daemon": file.daemon or None,
                    "format": file.version,
                    "begun": None if file.begun_s is None else display.local(file.begun_s).isoformat(),
                    "bytes": file.size,
                    "marks": file.marks,
                    "lost": file.lost,
                    "damage": file.damage or None,
                }
                for file in found
            ],
        }
    )


@click.command()
@trace_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(folder: Path | None, yes: bool) -> None:
    """Remove the trace files. A daemon that writes one goes on in another.

    \b
    timmy latency clear
    timmy latency clear --yes
    """
    folder = trace_folder(folder)
    found = {path: size for path in trace_files(folder) if (size := _size(path)) is not None}
    what = f"{_counted(len(found), 'trace file')} ({human_bytes(sum(found.values()))})"
    if not found:
        click.echo(f"no trace files in {folder}")
        return
    if not yes:
        if not _interactive():
            raise click.UsageError(f"there is nobody to ask whether {what} may go; say so with --yes")
        if not click.confirm(f"Remove {what} from {folder}?"):
            click.echo("nothing was removed")
            return
    for path in found:
        path.unlink(missing_ok=True)
    click.echo(f"removed {what} from {folder}")


def _size(path: Path) -> int | None:
    """None when it has been removed: daemons make room."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _interactive() -> bool:
    return sys.stdin.isatty()


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
