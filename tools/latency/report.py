"""`timmy latency report`: all of it as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import string
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

import click

from ipc.errors import EXIT_CANT_CREATE, TimmyError
from tools.latency.display import tell
from tools.latency.reading import Losses, NoTurns, read_turns, trace_folder
from tools.latency.selection import Selection, selection_options, trace_option
from tools.latency.sets import SetType, TurnSet
from tools.show import human_bytes

SCRIPTS = ("base.js", "turns.js", "stages.js", "trend.js", "compare.js", "page.js")
"""One after the other they are the page's script."""


class CannotWrite(TimmyError):
    """The page cannot be put where it is wanted."""

    exit_status = EXIT_CANT_CREATE


@click.command()
@click.option(
    "--html", "path", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The page to write."
)
@click.option("--against", type=SetType(), metavar="SET", help="Earlier turns to compare with, named as for `compare`.")
@selection_options
@trace_option
def report(
    path: Path,
    against: TurnSet | None,
    last: int | None,
    since: float | None,
    session: str | None,
    folder: Path | None,
) -> None:
    """All of it as one HTML page: waterfalls, stages, trend and comparisons. It needs nothing outside itself.

    \b
    timmy latency report --html latency.html
    timmy latency report --html today.html --since 1d --against until=1d

    The page is readable by you alone; pass it on as you like. What was heard is in it only where `dialog.trace_words`
    keeps it.
    """
    from tools.latency.gathering import gather
    from tools.latency.report_data import document
    from tools.latency.samples import sample

    _check(path)
    losses = Losses()
    gathered = gather(Selection(last, since, session).of(read_turns(trace_folder(folder), losses)))
    tell(losses)
    if not gathered.begun_s:
        raise NoTurns("no such turn has been traced")
    earlier = None
    if against is not None:
        earlier = sample(against.of(read_turns(trace_folder(against.folder or folder), Losses())), repr(against.name))
    text = page(document(gathered, losses, time.time(), earlier, against.name if against else ""))
    _write(path.resolve(), text)
    turns = len(gathered.begun_s)
    click.echo(f"{path}: {turns} turn{'' if turns == 1 else 's'}, {human_bytes(len(text.encode()))}")


def page(data: dict[str, Any]) -> str:
    """The whole page. Its policy lets it fetch nothing, and run no script but the one that is in it."""
    assets = resources.files("tools.latency") / "page"
    style = (assets / "page.css").read_text("utf-8")
    script = "\n".join((assets / name).read_text("utf-8") for name in SCRIPTS)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return string.Template((assets / "page.html").read_text("utf-8")).substitute(
        policy=policy, style=style, script=script, data=embedded(data)
    )


def embedded(data: dict[str, Any]) -> str:
    """JSON that may stand inside a `<script>`: no word in it can end that element or begin another."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _hash(text: str) -> str:
    """As a content security policy names an inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _check(path: Path) -> None:
    """What can be known before gigabytes are read."""
    if path.is_dir():
        raise CannotWrite(f"{path} is a folder; name a file in it, as in {path / 'latency.html'}")
    if path.exists() and not path.is_file():
        raise CannotWrite(f"{path} is a device or a pipe; name a file")
    if not path.parent.is_dir():
        raise CannotWrite(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise CannotWrite(f"{path}: nothing may be written in {path.parent}")


def _write(path: Path, text: str) -> None:
    """The whole file or none of it; an older one stays until the new one is whole."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            fresh = Path(file.name)
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                fresh.replace(path)
            except OSError:
                fresh.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CannotWrite(f"{path}: {error.strerror}") from None
