"""`timmy bench`: the figures. Each benchmark is imported when it is run."""

from __future__ import annotations

import click

from tools.cli import Lazy, LazyGroup

BENCHES = {
    "ipc": Lazy("tools.bench.ipc", "ipc", "One question and its answer between two processes."),
    "turn": Lazy("tools.bench.turn", "turn", "From the last voiced sample to the first audible one."),
    "endpoint": Lazy("tools.bench.endpoint", "endpoint", "How often a pause ends a turn, and how long an end takes."),
    "speaking": Lazy("tools.bench.speaking", "speaking", "Whether answers sound without gaps and clicks."),
    "truth": Lazy("tools.bench.truth", "truth", "Whether the trace agrees with a recording of the conversation."),
    "trace": Lazy("tools.bench.trace", "trace", "What tracing costs, and how quickly a million marks are read."),
    "stt": Lazy("tools.bench.stt", "stt", "What a short context saves the transcriber, and costs in words."),
    "storing": Lazy("tools.bench.storing", "storing", "Whether remembering what was said delays the next answer."),
    "idle": Lazy("tools.bench.idle", "idle", "What the daemons cost while nobody speaks."),
    "start": Lazy("tools.bench.start", "start", "How long programs and daemons take to start."),
}


SEPARATE = {
    "settings": Lazy(
        "tools.bench.settings", "settings", "What each technique brings, and each setting costs and gives."
    ),
}
"""They take too long to be run with all the others."""


ALL = {**BENCHES, **SEPARATE}


class _Benches(LazyGroup):
    lazy = ALL


@click.group(cls=_Benches, invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure. Without a name, all of it but the settings, one after the other.

    \b
    timmy bench ipc --json
    """
    if context.invoked_subcommand is None:
        for name in BENCHES:
            command = context.command.get_command(context, name)  # type: ignore[attr-defined]
            click.echo(f"--- {name}: {BENCHES[name].help}")
            context.invoke(command)
