"""The `timmy` command. Each command is imported when it is used, so that `timmy --help` is quick.

Exit status: 0 done, 1 a check failed, 2 wrong usage, 66 no such input, 69 a daemon is not reachable, 70 it
could not be done, 73 a socket or lock cannot be had, 74 the disk, 75 try again later, 78 wrong configuration,
130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from ipc.errors import EXIT_IO, TimmyError

EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command is, and its line in the list of commands."""

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, Lazy] = {
    "up": Lazy("tools.up", "up", "Run the five daemons in the foreground."),
    "down": Lazy("tools.up", "down", "End the daemons that `timmy up` runs."),
    "install": Lazy("tools.service.install", "install", "Make systemd run the daemons."),
    "uninstall": Lazy("tools.service.install", "uninstall", "Stop the services and remove them."),
    "status": Lazy("tools.status", "status", "Show what each daemon is doing."),
    "doctor": Lazy("tools.doctor", "doctor", "Find out what is missing or wrong, and what to do."),
    "talk": Lazy("tools.talk", "talk", "Hold a conversation."),
    "satellite": Lazy("tools.satellite", "satellite", "Be the microphone and the speaker of another room."),
    "ask": Lazy("tools.ask", "ask", "Ask one question, read the answer."),
    "say": Lazy("tools.ask", "say", "Speak a text as it is."),
    "chat": Lazy("tools.ask", "chat", "Converse by keyboard."),
    "memory": Lazy("tools.memories", "memory", "See and erase what is remembered."),
    "models": Lazy("tools.models", "models", "List, fetch and check models."),
    "config": Lazy("tools.settings", "config", "Show or check the configuration."),
    "keys": Lazy("tools.keys", "keys", "Let other machines in, and find yours let in."),
    "latency": Lazy("tools.latency", "latency", "See where the time of turns went, and whether it got better."),
    "probe": Lazy("tools.probe", "probe", "Ask one daemon one thing, see all that comes back."),
    "tap": Lazy("tools.tap", "tap", "Watch what passes at the sockets."),
    "record": Lazy("tools.recording.record", "record", "Record what passes at the sockets, words and sound."),
    "replay": Lazy("tools.recording.replay", "replay", "Send a recording again, and compare what comes back."),
    "chaos": Lazy("tools.chaos", "chaos", "Break the daemons by a plan, see what recovers."),
    "bench": Lazy("tools.bench", "bench", "Measure."),
    "completion": Lazy("tools.completion", "completion", "Print a script that completes commands in a shell."),
}


class LazyGroup(click.Group):
    """A group of commands that are imported when one is used."""

    lazy = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        lazy = self.lazy.get(name)
        if lazy is None:
            return None
        command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:  # click knows those only that are imported
            raise click.NoSuchCommand(error.command_name, possibilities=self.lazy, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self.lazy.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="timmy-daemons", message="timmy %(version)s")
def cli() -> None:
    """Timmy, a private voice assistant.

    \b
    timmy up                           in one terminal: the daemons
    timmy talk                         in another: speak
    timmy ask "When is the concert?"   or type
    timmy doctor                       when it does not work

    Exit status: 0 done, 1 a check failed, 2 wrong usage, 66 no such input, 69 a daemon is not reachable, 70 it
    could not be done, 73 a socket or lock cannot be had, 74 the disk, 75 try again later, 78 wrong
    configuration, 130 Ctrl-C.
    """


def run(arguments: Sequence[str]) -> int:
    """Runs one command. Every expected failure ends here, as one line and an exit status."""
    try:
        status = cli.main(list(arguments), prog_name="timmy", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except TimmyError as error:
        click.echo(f"timmy: {error}", err=True)
        return error.exit_status
    except OSError as error:  # the output's disk is full, a folder for answers cannot be made
        click.echo(f"timmy: {error.filename}: {error.strerror}" if error.filename else f"timmy: {error}", err=True)
        return EXIT_IO
    except click.Abort:  # Ctrl-C; click has ended the line
        return EXIT_INTERRUPTED
    return status if isinstance(status, int) else 0


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows no € or █ shows a question mark
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        # Said already. Python would try once more when it exits, and end with a status of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


if __name__ == "__main__":
    main()
