"""What the HTML report shows, as one JSON document: everything that page/*.js draws is decided here.

All complete turns go into the figures; waterfalls, sessions, the points of a trend and the pairs that are compared are
bounded, so that the page stays under 2 MB however long the traces are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tools.latency.gathering import NEWEST, SLOWEST, Floats, Gathered, Rows, kind, sessions
from tools.latency.reading import Losses
from tools.latency.report_compare import comparisons
from tools.latency.samples import Sampled
from tools.latency.stages import NAMES, STAGES, TOTAL
from tools.latency.statistics import QUANTILES, needed, quantile, summarize
from tools.latency.turns import SPEAKING, STORING, TRANSCRIPTION, UTTERANCE, Turn, hops
from tools.latency.waterfall import moments

TREND_POINTS = 400
"""More turns than this are put together, equally many to a point."""

WINDOW = 15
"""Turns in the rolling median; at the ends those that there are."""

SESSIONS = 200
"""Newest sessions in the list."""

AROUND = (UTTERANCE, TRANSCRIPTION, SPEAKING, STORING)
SPAN_NAMES = (*NAMES, *AROUND)

_HEARD_CHARACTERS = 300


def document(
    gathered: Gathered, losses: Losses, made_s: float, against: Sampled | None = None, against_name: str = ""
) -> dict[str, Any]:
    """The page's data; there is at least one turn. `made_s` is when it is made. Times are Unix seconds and ms.

    `against` are earlier turns to compare with."""
    of = sessions(gathered)
    hidden = max(0, int(of.max()) + 1 - SESSIONS)
    sampled = gathered.sampled
    kept = gathered.kept()
    return {
        "made_s": round(made_s),
        "stages": [{"name": each.name, "daemon": each.daemon, "meaning": each.meaning} for each in STAGES],
        "around": list(AROUND),
        "needed": {name: needed(q) for name, q in QUANTILES.items()},
        "period_s": [round(min(gathered.begun_s), 3), round(max(gathered.begun_s), 3)],
        "kinds": gathered.kinds,
        "sources": {"files": losses.files, "marks": losses.marks, "losses": losses.lines()},
        "kept": {"newest": NEWEST, "slowest": SLOWEST},
        "summary": _summary(sampled) if sampled else [],
        "trend": _trend(gathered, sampled, of, [row for row, _ in kept]) if sampled else None,
        "sessions_n": int(of.max()) + 1,
        "sessions": _sessions(gathered, of)[hidden:],
        "compare": comparisons(gathered, of, against, against_name),
        "turns": [_turn(turn, int(of[row]) - hidden) for row, turn in kept],
    }


def _summary(sampled: Sampled) -> list[dict[str, Any]]:
    """A row a stage: how long it takes, and `share_ms`, what it has of the time to first audio in the mean.

    `curve` is the distribution of its times: the quantiles from 0 to 100 % in steps of 1 %."""
    steps = np.linspace(0, 1, 101)
    return [
        {
            "stage": row.stage,
            "n": row.n,
            "mean": _ms(row.mean),
            **{name: None if value is None else _ms(value) for name, value in row.quantiles.items()},
            "max": _ms(row.max),
            "share_ms": _ms(float(np.mean(sampled.shares[row.stage]))),
            "share": round(row.share, 4),
            "share_slowest": round(row.share_slowest, 4),
            "curve": _rounded(np.quantile(sampled.times[row.stage], steps)),
        }
        for row in summarize(sampled.times, sampled.shares)
    ]


def _sessions(gathered: Gathered, of: Rows) -> list[dict[str, Any]]:
    """All sessions, the oldest first. `n` of their `turns` are complete, and `p50` and `max` those of first audio."""
    count = int(of.max()) + 1
    total = np.array(gathered.sampled.times[TOTAL] if gathered.sampled else ())
    order = gathered.in_time()
    names = list(gathered.conversations)
    _, firsts = np.unique(of[order], return_index=True)
    turns = np.bincount(of, minlength=count)
    of_complete = of[gathered.complete_rows()]
    by_session = np.argsort(of_complete, kind="stable")
    edges = np.searchsorted(of_complete[by_session], np.arange(count + 1))
    found = []
    for number, (low, high) in enumerate(pairwise(edges)):
        values = total[by_session[low:high]]
        first = order[firsts[number]]
        found.append(
            {
                "name": names[gathered.conversation[first]],
                "begun_s": round(gathered.begun_s[first], 3),
                "turns": int(turns[number]),
                "n": len(values),
                "p50": _ms(quantile(values, 0.5)) if len(values) else None,
                "max": _ms(float(values.max())) if len(values) else None,
            }
        )
    return found


def _trend(gathered: Gathered, sampled: Sampled, of: Rows, kept: Sequence[int]) -> dict[str, Any]:
    """Complete turns in the order of time, `each` of them to a point, the last point perhaps fewer.

    `turn` is the place of a point's turn among those with a waterfall."""
    rows, order = gathered.complete_in_time()
    each = -(-len(rows) // TREND_POINTS)
    firsts = [int(row) for row in rows[::each]]
    places = {row: place for place, row in enumerate(kept)}
    return {
        "each": each,
        "n": len(rows),
        "window": WINDOW,
        "begun_s": [round(gathered.begun_s[row], 1) for row in firsts],
        "session": [int(of[row]) for row in firsts],
        "turn": [places.get(row) for row in firsts] if each == 1 else [],
        "stages": {name: _points(np.array(values)[order], each) for name, values in sampled.times.items()},
    }


def _points(ordered: Floats, each: int) -> dict[str, list[float]]:
    """`line` is the rolling median of single turns, or the median of turns that are put together."""
    if each == 1:
        return {"line": _rounded(rolling_median(ordered, WINDOW)), "dots": _rounded(ordered)}
    whole = len(ordered) - len(ordered) % each
    tables = [ordered[:whole].reshape(-1, each), ordered[whole:].reshape(1, -1)]
    quantiles = [np.quantile(table, (0.1, 0.5, 0.9), axis=1) for table in tables if table.size]
    return dict(zip(("low", "line", "high"), map(_rounded, np.concatenate(quantiles, axis=1)), strict=True))


def rolling_median(values: Floats, window: int) -> Floats:
    """Of the `window` (odd) values around each; at the ends of those that there are."""
    half = window // 2
    return np.array([np.median(values[max(0, at - half) : at + half + 1]) for at in range(len(values))])


def _turn(turn: Turn, session: int) -> dict[str, Any]:
    """Times are ms after the last voiced sample, or after the arrival of a typed question.

    `session` is a place in the list of sessions, below 0 for one that is too old for it."""
    total = turn.first_audio_ms

    def after(t_ns: int) -> float:
        return _ms((t_ns - turn.origin_ns) / 1e6)

    return {
        "rid": turn.rid.hex(),
        "begun_s": round(turn.begun_s, 3),
        "session": session,
        "kind": kind(turn),
        "total": None if total is None else _ms(total),
        "end": after(turn.marks[-1].t_ns),
        "shares": [_ms(ms) for ms in turn.shares_ms().values()],
        "spans": [
            [SPAN_NAMES.index(span.stage), span.daemon, after(span.start_ns), _ms((span.end_ns - span.start_ns) / 1e6)]
            for span in turn.spans
        ],
        "hops": [[hop.sender, hop.receiver, _ms((hop.received_ns - hop.sent_ns) / 1e6)] for hop in hops(turn)],
        "moments": [[moment.name, after(moment.t_ns)] for moment in moments(turn)],
        "missing": list(turn.missing) if turn.outcome == "answered" else [],
        "heard": turn.heard[:_HEARD_CHARACTERS],
        "words": turn.words,
        "memories": turn.memories,
        "prompt_tokens": turn.prompt_tokens,
        "cached_tokens": turn.cached_tokens,
    }


def _ms(value: float) -> float:
    """Microseconds are the last digits worth a byte."""
    return round(value, 3)


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 2) for value in values]
