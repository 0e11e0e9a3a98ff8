"""Why a turn is not whole: sentences for a person."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from ipc.marks import Header, trace_files
from ipc.traces import Trace, TraceError
from tools.latency.reading import Losses
from tools.latency.stages import WAY
from tools.latency.turns import UNFINISHED, Turn

_SPOKEN = {f"{point.daemon}:{point.stage.name.lower()}" for point in WAY[-3:]}
"""What is marked only of an answer that is spoken: from the first clause on."""


def explanations(folder: Path, turn: Turn, losses: Losses) -> list[str]:
    """What nobody marked, and what can have become of it: daemons restarted since, older files, losses."""
    missing = [point for point in turn.missing if not (turn.typed and point.startswith("stt:"))]
    if turn.typed and turn.outcome == "answered" and set(missing) == _SPOKEN:
        return ["Answered in writing: nothing sounded."]
    lines = []
    if turn.outcome == UNFINISHED:
        lines.append("Its end is not marked: it is going on, or dialog ended in it.")
    if not missing:
        return lines
    lines.append(f"{_why(turn)}: {', '.join(missing)}.")
    if turn.outcome in ("answered", UNFINISHED):
        daemons = dict.fromkeys(point.partition(":")[0] for point in missing)
        headers = _headers(folder, turn.host)
        lines += [line for daemon in daemons for line in _of_daemon(daemon, headers.get(daemon, []), turn)]
        if losses.lost:
            lines.append(f"{losses.lost} marks were lost by the daemons; some may be of this turn.")
    return lines


def _why(turn: Turn) -> str:
    if turn.outcome in ("answered", UNFINISHED):
        return "Missing"
    return f"It {'failed' if turn.outcome == 'failed' else 'was ' + turn.outcome}, and did not come to"


def _headers(folder: Path, host: bytes) -> dict[str, list[Header]]:
    """Of the files of one host, by daemon and in the order of their begin."""
    found: dict[str, list[Header]] = {}
    for path in trace_files(folder):
        try:
            trace = Trace(path)
        except TraceError:  # named among the losses
            continue
        trace.close()
        if trace.header.host == host:
            found.setdefault(trace.header.daemon, []).append(trace.header)
    return {daemon: sorted(headers, key=lambda each: each.monotonic_ns) for daemon, headers in found.items()}


def _of_daemon(daemon: str, headers: list[Header], turn: Turn) -> Iterator[str]:
    begun_ns, ended_ns = turn.marks[0].t_ns, turn.marks[-1].t_ns
    before = [header for header in headers if header.monotonic_ns <= ended_ns]
    if not headers:
        yield f"No file of {daemon} is here."
    elif not before:
        yield f"The files of {daemon} begin after this turn."
    elif before[-1].version == 1:
        yield f"{daemon} was of an older version, which did not mark all of this."
    for header, following in itertools.pairwise(headers):
        if following.boot_id != header.boot_id and following.monotonic_ns >= begun_ns and header in before:
            yield (
                f"{daemon} was restarted in this turn or after it: what it marked in its last half second may be lost."
            )
            return
