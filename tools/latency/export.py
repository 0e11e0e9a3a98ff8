"""`timmy latency export`: turns for other programs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from tools.latency.display import tell
from tools.latency.reading import Losses, NoTurns, read_turns, trace_folder
from tools.latency.selection import Selection, selection_options, trace_option
from tools.latency.turns import Turn

_FILE = click.Path(dir_okay=False, writable=True, allow_dash=True)


@click.command()
@click.option("--perfetto", type=_FILE, metavar="FILE", help="For ui.perfetto.dev, chrome://tracing, speedscope.")
@click.option("--csv", type=_FILE, metavar="FILE", help="For spreadsheets: a row a turn, its stages in ms.")
@click.option("--json", type=_FILE, metavar="FILE", help="Everything that is known of each turn.")
@click.option("--otlp", metavar="ENDPOINT", help="To an OpenTelemetry collector, such as http://localhost:4318.")
@selection_options
@trace_option
def export(
    *, folder: Path | None, last: int | None, since: float | None, session: str | None, **targets: str | None
) -> None:
    """Turns for other programs, to exactly one target. FILE may be - for standard output.

    What was heard, if it is kept at all, goes into --csv and --json only.

    \b
    timmy latency export --perfetto trace.json --last 20
    timmy latency export --csv - --since 2h
    timmy latency export --otlp http://localhost:4318
    """
    given = {name: target for name, target in targets.items() if target is not None}
    if len(given) != 1:
        raise click.UsageError("one target, please: --perfetto FILE, --csv FILE, --json FILE or --otlp ENDPOINT")
    ((name, target),) = given.items()
    losses = Losses()
    turns = _some(Selection(last, since, session).of(read_turns(trace_folder(folder), losses)))
    try:
        if name == "otlp":
            _send(turns, target)
        else:
            _write(name, turns, losses, target)
    finally:
        tell(losses)


def _some(turns: Iterator[Turn]) -> Iterator[Turn]:
    """The same turns. Raises NoTurns when there are none, before a file is made."""
    first = next(turns, None)
    if first is None:
        raise NoTurns("no such turns in the trace files")
    return itertools.chain([first], turns)


def _write(name: str, turns: Iterable[Turn], losses: Losses, target: str) -> None:
    from tools.latency import perfetto, tabular

    with click.open_file(target, "wb") as file:
        if name == "perfetto":
            count = perfetto.write(turns, losses, file)
        elif name == "csv":
            count = tabular.write_csv(turns, file)
        else:
            count = tabular.write_json(turns, losses, file)
    if target != "-":
        click.echo(f"{count} turns are in {target}", err=True)


def _send(turns: Iterable[Turn], endpoint: str) -> None:
    from tools.latency import collector, otlp

    def say(line: str) -> None:
        click.echo(line, err=True)

    try:
        collector.traces_url(endpoint)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    count = spans = rejected = 0
    with collector.Collector(endpoint, say) as receiver:
        for batch in otlp.batches(turns):
            answer = receiver.post(batch.request())
            count, spans, rejected = count + batch.turns, spans + batch.spans, rejected + answer.rejected_spans
            if answer.error_message:
                say(f"{receiver.url}: {answer.error_message}")
    say(f"{count} turns, {spans} spans sent to {receiver.url}")
    if rejected:
        raise click.ClickException(f"the collector did not take {rejected} of the {spans} spans")
