"""`timmy record`: everything that passes at the sockets, into a file."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import click

from ipc.endpoints import DAEMONS
from tools.recording.file import Entry, Gap, Writer
from tools.recording.take import Take
from tools.show import human_bytes

USUAL = ("stt", "dialog", "tts")
"""Those that callers speak with. What dialog asks the others follows from it."""

EXIT_INCOMPLETE = 1

daemon_option = click.option(
    "--daemon",
    "daemons",
    multiple=True,
    type=click.Choice(DAEMONS),
    callback=lambda context, option, values: tuple(dict.fromkeys(values)),
    help="Only this one; repeatable.",
)


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to make.")
@daemon_option
@click.argument("command", nargs=-1)
@click.pass_context
def record(context: click.Context, out: Path, daemons: tuple[str, ...], command: tuple[str, ...]) -> None:
    """Record what passes at the sockets, words and sound.

    That is every message between stt, dialog and tts (or each --daemon) and whoever speaks with them, and when it
    passed: until Ctrl-C, or while COMMAND runs. Nothing is left out. Where a daemon went away the recording says so,
    and the exit status is 1. You alone can read the file. What the machine's own microphone hears and its loudspeaker
    plays passes no socket, so it is not in it.

    \b
    timmy record --out evening.rec
    timmy record --out talk.rec -- timmy talk --wav question.wav
    timmy record --out model.rec --daemon llm --daemon memory
    """
    if command and shutil.which(command[0]) is None:
        raise click.UsageError(f"there is no command {command[0]!r} to run")
    writer = Writer(out, daemons or USUAL)
    try:
        status = asyncio.run(_record(writer, daemons or USUAL, command))
    finally:
        writer.close()
    context.exit(status)


class _Tally:
    """Writes, and counts what a person wants to know of it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.messages = 0
        self.with_sound = 0

    def __call__(self, entry: Entry | Gap) -> None:
        self._writer.write(entry)
        if isinstance(entry, Gap):
            click.echo(f"{entry.daemon}: {entry.detail}. Until it is back nothing of it is recorded.", err=True)
        else:
            self.messages += 1
            self.with_sound += len(entry.frames) > 1


async def _record(writer: Writer, daemons: Sequence[str], command: Sequence[str]) -> int:
    tally = _Tally(writer)
    async with Take(daemons, tally) as take:
        names = f"{', '.join(daemons[:-1])} and {daemons[-1]}" if len(daemons) > 1 else daemons[0]
        until = "while the command runs" if command else "until Ctrl-C"
        click.echo(f"Recording {names} into {writer.path} {until}: all words and all sound that pass there.", err=True)
        status = await (_while_running(take, command) if command else _until_asked(take))
    told = f"{tally.messages} messages, {tally.with_sound} of them with sound, {human_bytes(writer.size)}"
    if writer.empty:
        told = "nothing passed, so there is no such file"
    click.echo(f"{writer.path}: {told}{'; it has gaps' if take.gaps else ''}.", err=True)
    return status or (EXIT_INCOMPLETE if take.gaps else 0)


async def _until_asked(take: Take) -> int:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)
    waiting = asyncio.ensure_future(asked.wait())
    try:
        await take.until(waiting)
    finally:
        waiting.cancel()
    return 0


async def _while_running(take: Take, command: Sequence[str]) -> int:
    """The command's exit status, as a shell has it. Ctrl-C is the command's: a terminal tells it as well."""
    loop = asyncio.get_running_loop()
    process = await asyncio.create_subprocess_exec(*command)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, process.send_signal, number)
    ended = asyncio.ensure_future(process.wait())
    try:
        await take.until(ended)
    finally:
        if process.returncode is None:
            process.terminate()
        await ended
    status = process.returncode
    assert status is not None
    return 128 - status if status < 0 else status
