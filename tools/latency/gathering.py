"""What the report keeps of a stream of turns: columns of numbers of all, and the turns themselves of a few."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tools.latency.reading import NoTurns
from tools.latency.samples import Sampled, sample
from tools.latency.sessions import PAUSE_NS
from tools.latency.turns import Turn

NEWEST = 300
SLOWEST = 20
"""Turns that are kept whole: so many of the newest, and so many of the slowest of all."""

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
"""Places in the columns."""


_Kept = tuple[tuple[float, ...], int, Turn]
"""A turn behind what it is ordered by and its row."""


@dataclass(slots=True)
class Gathered:
    """Columns with a row for each turn: 250 bytes together, with those of Sampled."""

    begun_s: array[float] = field(default_factory=lambda: array("d"))
    host: array[int] = field(default_factory=lambda: array("l"))
    conversation: array[int] = field(default_factory=lambda: array("l"))
    origin_ns: array[int] = field(default_factory=lambda: array("q"))
    first_ns: array[int] = field(default_factory=lambda: array("q"))
    last_ns: array[int] = field(default_factory=lambda: array("q"))
    complete: array[int] = field(default_factory=lambda: array("b"))
    sampled: Sampled | None = None
    """The complete turns; None where there is none."""
    hosts: dict[bytes, int] = field(default_factory=dict)
    conversations: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    """How many turns are of which kind."""
    _newest: list[_Kept] = field(default_factory=list)
    _slowest: list[_Kept] = field(default_factory=list)

    def add(self, turn: Turn) -> None:
        row = len(self.begun_s)
        host = self.hosts.setdefault(turn.host, len(self.hosts))
        self.begun_s.append(turn.begun_s)
        self.host.append(host)
        self.conversation.append(self.conversations.setdefault(turn.conversation, len(self.conversations)))
        self.origin_ns.append(turn.origin_ns)
        self.first_ns.append(turn.marks[0].t_ns)
        self.last_ns.append(turn.marks[-1].t_ns)
        self.complete.append(turn.complete)
        self.kinds[kind(turn)] = self.kinds.get(kind(turn), 0) + 1
        _push(self._newest, NEWEST, ((host, turn.origin_ns), row, turn))
        if turn.complete and turn.first_audio_ms is not None:
            _push(self._slowest, SLOWEST, ((turn.first_audio_ms,), row, turn))

    def kept(self) -> list[tuple[int, Turn]]:
        """Turns that were kept and their rows, newest first."""
        rows = {row: turn for _, row, turn in (*self._newest, *self._slowest)}
        return sorted(rows.items(), key=lambda item: (self.host[item[0]], item[1].origin_ns, item[0]), reverse=True)

    def in_time(self) -> Rows:
        """All rows by the clocks of their hosts, the oldest first."""
        return np.lexsort((np.array(self.origin_ns), np.array(self.host)))

    def complete_rows(self) -> Rows:
        """Row of each place in the columns of `sampled`."""
        return np.flatnonzero(np.array(self.complete))

    def complete_in_time(self) -> tuple[Rows, Rows]:
        """The complete turns by the clocks of their hosts: their rows, and their places in the columns of `sampled`."""
        rows = self.complete_rows()
        places = np.lexsort((np.array(self.origin_ns)[rows], np.array(self.host)[rows]))
        return rows[places], places


def gather(turns: Iterable[Turn]) -> Gathered:
    gathered = Gathered()

    def passing() -> Iterator[Turn]:
        for turn in turns:
            gathered.add(turn)
            yield turn

    with suppress(NoTurns):
        gathered.sampled = sample(passing())
    return gathered


def kind(turn: Turn) -> str:
    """How a turn counts: `complete`, one of the other outcomes, `typed`, or `incomplete` where marks are missing."""
    if turn.complete:
        return "complete"
    if turn.outcome != "answered":
        return turn.outcome
    return "typed" if turn.typed else "incomplete"


def sessions(gathered: Gathered) -> Rows:
    """The number of each row's session, counted in the order of their begins: as sessions.group does it."""
    order = gathered.in_time()
    host, conversation = np.array(gathered.host), np.array(gathered.conversation)
    by_conversation = order[np.lexsort((conversation[order], host[order]))]
    before, after = by_conversation[:-1], by_conversation[1:]
    pause_ns = np.array(gathered.first_ns)[after] - np.array(gathered.last_ns)[before]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (host[before] != host[after]) | (conversation[before] != conversation[after]) | (pause_ns > PAUSE_NS)
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    number = np.empty(int(begins.sum()), dtype=np.intp)
    number[np.argsort(place[by_conversation[begins]])] = np.arange(len(number))
    found = np.empty(len(order), dtype=np.intp)
    found[by_conversation] = number[np.cumsum(begins) - 1]
    return found


def _push(heap: list[_Kept], size: int, item: _Kept) -> None:
    """Keeps the `size` greatest."""
    if len(heap) < size:
        heapq.heappush(heap, item)
    else:
        heapq.heappushpop(heap, item)
