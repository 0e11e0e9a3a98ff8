"""`timmy up` and `timmy down`: the daemons without systemd."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import click

from daemons import config
from ipc import endpoints
from ipc.errors import EXIT_TEMPORARY, TimmyError
from ipc.text import printable
from tools.supervise import Supervisor, lock_path

END_S = 10.0
POLL_S = 0.1


class NotEnded(TimmyError):
    """The supervisor did not end in time."""

    exit_status = EXIT_TEMPORARY


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Show what the daemons log.")
def up(verbose: bool) -> None:
    """Run the five daemons in the foreground, until Ctrl-C.

    One that dies is started again. Their logs lie in the state folder, ~/.local/state/timmy/log.

    \b
    timmy up
    timmy up -v
    """
    config.load()
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: end.set())
    started = time.monotonic()
    with Supervisor(tell=_tell, echo_logs=verbose) as supervisor:
        while not (end.is_set() or supervisor.ready(POLL_S)):
            pass
        if not end.is_set():
            _tell("all", f"ready after {time.monotonic() - started:.1f} s")
        end.wait()
        _tell("all", "ending")


def _tell(name: str, line: str) -> None:
    # A terminal that has gone is no reason to end the daemons in disorder.
    with suppress(OSError):
        click.echo(f"{name:7} {printable(line)}", err=True)


@click.command()
def down() -> None:
    """End the daemons that `timmy up` runs, and wait until they have ended.

    \b
    timmy down
    """
    path = lock_path(endpoints.runtime_dir())
    holder = _holder(path)
    if holder is None:
        click.echo("nothing is running", err=True)
        return
    pidfd = os.pidfd_open(holder)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not select.select([pidfd], [], [], END_S)[0]:
            raise NotEnded(f"process {holder} did not end within {END_S:g} s: kill {holder}")
    finally:
        os.close(pidfd)


def _holder(path: Path) -> int | None:
    """The process that holds the lock, from the lock itself: a file that is left over proves nothing."""
    if not path.exists():
        return None
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(stream.read())
    return None
