"""`timmy latency`: where the time of turns went. Each command is imported when it is used."""

from __future__ import annotations

import click

from tools.cli import Lazy, LazyGroup

COMMANDS = {
    "turns": Lazy("tools.latency.listing", "turns", "One row a turn."),
    "show": Lazy("tools.latency.waterfall", "show", "The waterfall of one turn."),
    "summary": Lazy("tools.latency.summary", "summary", "How long each stage takes: percentiles and shares."),
    "sessions": Lazy("tools.latency.sessions", "sessions", "How latency moves within a conversation."),
    "compare": Lazy("tools.latency.compare", "compare", "Two sets of turns: what got faster or slower?"),
    "gate": Lazy("tools.latency.gate", "gate", "Fail when a stage is over its budget."),
    "report": Lazy("tools.latency.report", "report", "All of it as one HTML page."),
    "export": Lazy("tools.latency.export", "export", "For other programs: Perfetto, CSV, JSON, OpenTelemetry."),
    "watch": Lazy("tools.latency.watch", "watch", "Live: the last turn, and how they all are."),
    "files": Lazy("tools.latency.housekeeping", "files", "The trace files, their sizes and losses."),
    "clear": Lazy("tools.latency.housekeeping", "clear", "Remove the trace files."),
}


class _Commands(LazyGroup):
    lazy = COMMANDS


@click.group(cls=_Commands)
def latency() -> None:
    """See where the time of turns went, and whether it got better.

    \b
    timmy latency show last
    timmy latency summary --since 2h
    """
