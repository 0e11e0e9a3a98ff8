"""`timmy latency sessions`: how latency moves within a conversation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from ipc.text import printable
from tools.latency import display
from tools.latency.reading import Losses, NoTurns, trace_folder
from tools.latency.selection import Selection, selection_options, trace_option
from tools.latency.turns import Turn
from tools.show import json_option, print_json

PAUSE_NS = 600 * 10**9
"""A session is what one conversation said without a pause of ten minutes."""

MISS = 0.5
"""A prompt missed the cache when less than this of it was there: what is new in a later prompt is the last exchange,
the memories and the question."""

_MODEL = "llm_first_token"


class Asked(NamedTuple):
    """What of a turn counts here: few bytes, as there may be many."""

    host: bytes
    conversation: str
    origin_ns: int
    first_ns: int
    last_ns: int
    """Its first and last mark."""
    begun_s: float
    rid: bytes
    prompt_tokens: int | None
    cached_share: float | None
    model_ms: float | None
    first_audio_ms: float | None


def asked(turn: Turn) -> Asked:
    model = next((span for span in turn.spans if span.stage == _MODEL), None)
    return Asked(
        host=turn.host,
        conversation=turn.conversation,
        origin_ns=turn.origin_ns,
        first_ns=turn.marks[0].t_ns,
        last_ns=turn.marks[-1].t_ns,
        begun_s=turn.begun_s,
        rid=turn.rid,
        prompt_tokens=turn.prompt_tokens,
        cached_share=display.cached_share(turn),
        model_ms=None if model is None else (model.end_ns - model.start_ns) / 1e6,
        first_audio_ms=turn.first_audio_ms,
    )


@dataclass(frozen=True, slots=True)
class Session:
    """Turns of one conversation, the oldest first; there is at least one."""

    turns: list[Asked]

    @property
    def prompts(self) -> list[int]:
        """Tokens of each prompt, where they are known."""
        return [turn.prompt_tokens for turn in self.turns if turn.prompt_tokens is not None]

    @property
    def cached_share(self) -> float | None:
        """Which part of a prompt was cached, in the mean."""
        shares = [turn.cached_share for turn in self.turns if turn.cached_share is not None]
        return statistics.fmean(shares) if shares else None

    @property
    def missed(self) -> list[Asked]:
        """Turns after the first whose prompt was mostly not in the cache."""
        return [turn for turn in self.turns[1:] if turn.cached_share is not None and turn.cached_share < MISS]

    @property
    def hit(self) -> list[Asked]:
        """Turns after the first whose prompt mostly was."""
        return [turn for turn in self.turns[1:] if turn.cached_share is not None and turn.cached_share >= MISS]

    def model_ms(self) -> tuple[float | None, float | None]:
        """The model's time to its first token: of the first turn, and the median of the later ones."""
        return self.turns[0].model_ms, _median([turn.model_ms for turn in self.turns[1:]])

    def first_audio_ms(self) -> tuple[float | None, float | None]:
        """The same of the time to the first sound."""
        return self.turns[0].first_audio_ms, _median([turn.first_audio_ms for turn in self.turns[1:]])


def group(turns: Iterable[Turn]) -> list[Session]:
    """The sessions of these turns, in the order of their first turns."""
    current: dict[tuple[bytes, str], Session] = {}
    found: list[Session] = []
    for turn in display.in_order(map(asked, turns)):
        key = (turn.host, turn.conversation)
        session = current.get(key)
        if session is None or turn.first_ns - session.turns[-1].last_ns > PAUSE_NS:
            session = current[key] = Session([])
            found.append(session)
        session.turns.append(turn)
    return found


def explanation(sessions: Iterable[Session]) -> str:
    """One sentence: what later prompts had of the cache, and what it cost where they had not."""
    listed = list(sessions)
    hit = [turn for session in listed for turn in session.hit]
    missed = [turn for session in listed for turn in session.missed]
    if not hit and not missed:
        return "No conversation went on, or nobody marked what was cached: there is nothing to compare."
    if not missed:
        return "Every later prompt came from the cache."
    text = f"{len(missed)} of {len(hit) + len(missed)} later prompts missed the cache"
    costs = _median([turn.model_ms for turn in missed]), _median([turn.model_ms for turn in hit])
    if costs[0] is None:
        return f"{text}."
    against = "" if costs[1] is None else f", against {costs[1]:.0f} ms for the others"
    return f"{text}: {costs[0]:.0f} ms to the first token{against}."


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


@click.command()
@selection_options
@trace_option
@json_option
def sessions(last: int | None, since: float | None, session: str | None, folder: Path | None, as_json: bool) -> None:
    """How latency moves within a conversation: a row for what it said without a pause of ten minutes.

    \b
    timmy latency sessions --since 1d
    timmy latency sessions --session home

    PROMPT is its tokens in the first and in the last turn, CACHED the part of a prompt that the model had in its cache
    (the mean), MISSED the later turns that had less than half of it there. MODEL is the time in ms to the first token,
    AUDIO that to the first sound: of the first turn, and the median of the later ones. --last counts turns.
    """
    losses = Losses()
    chosen = Selection(last, since, session).of(display.told_turns(trace_folder(folder), losses))
    found = group(chosen)
    if as_json:
        print_json(
            {
                "sessions": [_record(each) for each in found],
                "explanation": explanation(found),
                "losses": display.losses_record(losses),
            }
        )
    elif found:
        _print(found)
    else:
        raise NoTurns("no such turn has been traced")


def _print(found: list[Session]) -> None:
    now = datetime.now().astimezone()
    titles = ("conversation", "begun", "turns", "prompt", "cached", "missed", "model", "audio")
    rows = [
        (
            printable(each.turns[0].conversation) or "-",
            display.day_and_time(display.local(each.turns[0].begun_s), now),
            str(len(each.turns)),
            f"{each.prompts[0]} -> {each.prompts[-1]}" if each.prompts else "-",
            display.percent(each.cached_share),
            str(len(each.missed)),
            " -> ".join(display.milliseconds(ms) for ms in each.model_ms()),
            " -> ".join(display.milliseconds(ms) for ms in each.first_audio_ms()),
        )
        for each in found
    ]
    display.print_rows(titles, rows, right=titles[2:], shrinks="conversation")
    display.console().print(f"\n{explanation(found)}")


def _record(session: Session) -> dict[str, Any]:
    first = session.turns[0]
    pairs = {"model_ms": session.model_ms(), "first_audio_ms": session.first_audio_ms()}
    return {
        "conversation": first.conversation,
        "begun": display.local(first.begun_s).isoformat(timespec="milliseconds"),
        "turns": [turn.rid.hex() for turn in session.turns],
        "prompt_tokens": session.prompts,
        "cached_share": display.rounded(session.cached_share),
        "cache_missed": [turn.rid.hex() for turn in session.missed],
        **{
            name: {"first": display.rounded(first_ms), "later_p50": display.rounded(later_ms)}
            for name, (first_ms, later_ms) in pairs.items()
        },
    }
