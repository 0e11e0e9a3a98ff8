"""The names of a set of turns, as `compare` takes them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tools.latency.selection import Selection, moment
from tools.latency.turns import Turn

_KEYS = ("since", "until", "session", "last")


@dataclass(frozen=True, slots=True)
class TurnSet:
    """Which turns: those of a folder (None: of this machine's daemons) that began before `until_s` and are selected."""

    name: str
    folder: Path | None
    selection: Selection
    until_s: float | None

    def of(self, turns: Iterable[Turn]) -> Iterator[Turn]:
        return self.selection.of(turn for turn in turns if self.until_s is None or turn.begun_s < self.until_s)


class SetType(click.ParamType[TurnSet]):
    """A folder of trace files, or which turns, or both, with commas between: `old/trace`, `since=2h,session=home`."""

    name = "set"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TurnSet:
        if isinstance(value, TurnSet):
            return value
        try:
            return turn_set(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def turn_set(text: str) -> TurnSet:
    """Raises ValueError, saying what is right."""
    folder = None
    given: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals and folder is None and Path(part).is_dir():
            folder = Path(part)
        elif key in given or (not equals and folder is not None):
            raise ValueError(f"{text!r} says twice what {key if equals else 'folder'} it is")
        elif key in _KEYS and value:
            given[key] = value
        else:
            raise ValueError(_wrong(part, key if equals else ""))
    last = given.get("last")
    if last is not None and not (last.isdecimal() and int(last)):
        raise ValueError(f"last={last}: not a number of turns")
    times = {key: moment(given[key]) for key in ("since", "until") if key in given}
    selection = Selection(int(last) if last else None, times.get("since"), given.get("session"))
    return TurnSet(text, folder, selection, times.get("until"))


def _wrong(part: str, key: str) -> str:
    if key in _KEYS:
        return f"{part!r}: nothing follows the ="
    if near := difflib.get_close_matches(key, _KEYS, n=1):
        return f"{part!r}: did you mean {near[0]}=...?"
    return f"{part!r} is neither a folder nor one of {', '.join(f'{key}=...' for key in _KEYS)}"
