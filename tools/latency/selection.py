"""Which turns: the options that commands share, and the names of a set for `compare`."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from tools.latency.turns import Turn

_AGO = re.compile(r"(\d+)\s*(s|min|h|d)")
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_Command = TypeVar("_Command", bound=Callable[..., Any])


class When(click.ParamType[float]):
    """A point in time, as Unix seconds: `10min`, `2h`, `3d` ago, `2026-11-22`, `2026-11-22T10:00`, `10:00` (today)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def moment(text: str) -> float:
    """Unix seconds of a time as When takes it, in this machine's time zone. Raises ValueError, saying what is right."""
    now = datetime.now().astimezone()
    if ago := _AGO.fullmatch(text.strip()):
        return (now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp()
    try:
        if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", text):
            return datetime.fromisoformat(
                f"{now.date()}T{text.zfill(5) if text.count(':') == 1 else text.zfill(8)}"
            ).timestamp()
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time: write 10min, 2h, 3d, 10:00 or 2026-11-22T10:00") from None


@dataclass(frozen=True, slots=True)
class Selection:
    """Turns since a time (Unix seconds), of a conversation, and of those the last ones. Without a limit: all."""

    last: int | None = None
    since_s: float | None = None
    session: str | None = None

    def of(self, turns: Iterable[Turn]) -> Iterator[Turn]:
        """Those that are wanted, in the order in which they come. With `last` no more than these are held."""
        wanted = (turn for turn in turns if self._wants(turn))
        return iter(deque(wanted, self.last)) if self.last is not None else wanted

    def _wants(self, turn: Turn) -> bool:
        return (self.since_s is None or turn.begun_s >= self.since_s) and self.session in (None, turn.conversation)


def selection_options(command: _Command) -> _Command:
    """Adds `--last`, `--since` and `--session`; the command gets them under the names of Selection's fields."""
    for option in (
        click.option("--session", metavar="NAME", help="Only turns of this conversation (home is the microphone)."),
        click.option("--since", type=When(), help="Only turns since then: 10min, 2h, 3d, 10:00, 2026-11-22T10:00."),
        click.option("--last", type=click.IntRange(1), metavar="N", help="Only the last N turns."),
    ):
        command = option(command)
    return command


trace_option = click.option(
    "--trace",
    "folder",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FOLDER",
    help="Trace files to read, by default those of this machine's daemons.",
)
