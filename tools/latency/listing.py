"""`timmy latency turns`: one row a turn."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from ipc.text import printable
from tools.latency import display
from tools.latency.reading import Losses, NoTurns, trace_folder
from tools.latency.selection import Selection, selection_options, trace_option
from tools.latency.turns import Turn
from tools.show import json_option, print_json

LAST = 20
"""Turns that are listed when nobody says which."""


@click.command()
@selection_options
@trace_option
@json_option
def turns(last: int | None, since: float | None, session: str | None, folder: Path | None, as_json: bool) -> None:
    """One row a turn, the newest last; the last 20 when nothing else is said.

    \b
    timmy latency turns --since 2h
    timmy latency turns --session home --last 5

    ID is what `timmy latency show` takes. AUDIO is the time in ms from the last voiced sample (or the typed question)
    to the first sound, SLOWEST the stage with the largest share of it. TOKENS are those of the prompt, HIT is the
    part of them that was in the model's cache.
    """
    selection = Selection(LAST if last is None and since is None else last, since, session)
    losses = Losses()
    chosen = selection.of(display.told_turns(trace_folder(folder), losses))
    found = display.in_order(replace(turn, marks=()) for turn in chosen)  # there may be many, and a row needs no marks
    if as_json:
        print_json({"turns": [display.record(turn) for turn in found], "losses": display.losses_record(losses)})
    elif found:
        _print(found)
    else:
        raise NoTurns("no such turn has been traced")


def _print(found: list[Turn]) -> None:
    now = datetime.now().astimezone()
    titles = ("id", "time", "conversation", "heard", "audio", "slowest", "tokens hit", "outcome")
    rows = []
    for short, turn in zip(display.short_ids(found), found, strict=True):
        slow = display.slowest(turn)
        rows.append(
            (
                short,
                display.day_and_time(display.local(turn.begun_s), now),
                printable(turn.conversation) or "-",
                display.heard(turn),
                display.milliseconds(turn.first_audio_ms),
                f"{slow[0]} {display.milliseconds(slow[1])}" if slow else "-",
                "-"
                if turn.prompt_tokens is None
                else f"{turn.prompt_tokens} {display.percent(display.cached_share(turn)):>4}",
                turn.outcome,
            )
        )
    display.print_rows(titles, rows, right={"audio", "tokens hit"}, shrinks="heard", spare="conversation")
