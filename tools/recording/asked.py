"""A recording as requests: what was asked, what was sent along, and what came back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ipc import messages as m
from ipc.messages import Body, Kind
from ipc.session import TERMINALS
from tools.recording.file import Entry, Gap

Key = tuple[str, int, int, bytes, int]
"""Daemon, its life in the recording, connection, rid, epoch."""

LISTENERS = (m.Follow, m.Listen, m.Attach)
"""They wait for what others bring about, until they are cancelled."""

_UNTIMED = (m.Audio, m.Rest)
"""What comes back is no answer to these."""


class Sent(NamedTuple):
    """What a caller sent after its request: an item, `end` or `cancel`."""

    t_ns: int
    body: Body
    payload: bytes


@dataclass
class Asked:
    """One request. Times are those of its daemon, monotonic ns; 0: it did not come to that."""

    daemon: str
    life: int
    peer: int
    caller: str
    rid: bytes
    epoch: int
    t_ns: int
    ttl_ms: int
    body: Body
    under_way: bool
    """It had come before the recording began: what was sent before is not known."""
    sent: list[Sent] = field(default_factory=list)
    end: Body | None = None
    ended_ns: int = 0
    broken: str = ""
    """Why the recording does not know its end, where the daemon went away."""
    pieces: list[str] = field(default_factory=list)
    """Of an answer that comes in pieces."""
    turns: dict[bytes, list[str]] = field(default_factory=dict)
    """What a listener was told last of each."""
    answers: int = 0
    """How many answers a listener has got to their ends."""
    sound_ms: float = 0.0
    waits_ms: dict[str, list[float]] = field(default_factory=dict)
    """By stage, how long it took."""
    _since_ns: int = 0
    _first: bool = True

    def __post_init__(self) -> None:
        self._since_ns = self.t_ns

    @property
    def name(self) -> str:
        return self.body.type_name()

    @property
    def texts(self) -> list[str]:
        """What was heard and said, in an order that two runs have in common."""
        told = ["".join(self.pieces)] if self.pieces else []
        return told + [text for turn in self.turns.values() for text in turn] + _results(self.end)

    def add(self, t_ns: int, body: Body, payload: bytes) -> None:
        """The next message of the request."""
        if body.KIND in (Kind.UP, Kind.END, Kind.CANCEL):
            self.sent.append(Sent(t_ns, body, payload))
            if not isinstance(body, _UNTIMED):
                self._since_ns = t_ns
                self._first = self._first or isinstance(body, m.Clause)
        elif body.KIND is Kind.DOWN:
            if self._first and not isinstance(self.body, LISTENERS):
                self._wait("first reply", t_ns)
                self._first = False
            self._come(body, payload)
        elif body.KIND in TERMINALS:
            self.end, self.ended_ns = body, t_ns
            if body.KIND is not Kind.CANCELLED:
                self._wait("end", t_ns)

    def _wait(self, stage: str, t_ns: int) -> None:
        if not self.under_way:
            self.waits_ms.setdefault(f"{self.daemon} {self.name}: {stage}", []).append((t_ns - self._since_ns) / 1e6)

    def _come(self, body: Body, payload: bytes) -> None:
        match body:
            case m.Delta(text=text) | m.Token(text=text):
                self.pieces.append(text)
            case m.TurnFinal(turn=turn, text=text):
                self.answers += turn not in self.turns
                self.turns[turn] = [f"heard: {text}"]
            case m.TurnReport(outcome=outcome) if outcome != "cancelled":  # given up for the one that follows
                self.answers += 1
                self.turns[body.turn] = [f"heard: {body.heard}", f"{outcome}: {body.said}"]
                self._stages(body)
            case m.Sound(sample_rate=rate, last=last):
                self.answers += last
                self.sound_ms += len(payload) / 2 / rate * 1000

    def _stages(self, report: m.TurnReport) -> None:
        if report.stages is None or report.first_audio_ms is None:
            return
        for name in report.stages.__struct_fields__:
            self.waits_ms.setdefault(f"turn: {name}", []).append(getattr(report.stages, name))
        self.waits_ms.setdefault("turn: first audio", []).append(report.first_audio_ms)


def _results(end: Body | None) -> list[str]:
    """The words of a result."""
    match end:
        case m.Answered(said=said):
            return [said]
        case m.Recalled(memories=memories) | m.MemoryPage(memories=memories):
            return [memory.text for memory in memories]
        case m.Remembered(kept=kept, text=text):
            return [f"{'kept' if kept else 'not kept'}: {text}"]
        case m.Generated(finish=finish):
            return [finish]
        case m.Spoken(clauses=clauses):
            return [f"{clauses} clauses"]
        case m.Forgotten(count=count):
            return [f"{count} forgotten"]
    return []


class Assembler:
    """Puts requests together from entries, in the order in which they came."""

    def __init__(self) -> None:
        self.asked: dict[Key, Asked] = {}
        self.gaps: list[Gap] = []
        self._lives: dict[str, int] = {}

    def add(self, entry: Entry | Gap) -> Asked | None:
        """The request that it belongs to, if it is one that is of interest."""
        if isinstance(entry, Gap):
            self._break(entry)
            return None
        message = entry.message
        life = self._lives.get(entry.daemon, 0)
        key = (entry.daemon, life, entry.peer, message.rid, message.epoch)
        asked = self.asked.get(key)
        if message.body.KIND is Kind.REQUEST:
            if not message.body.UPKEEP and asked is None:
                asked = self.asked[key] = Asked(
                    entry.daemon, life, entry.peer, entry.caller, message.rid, message.epoch, entry.t_ns,
                    message.ttl_ms, message.body, entry.under_way,
                )  # fmt: skip
        elif asked is not None and asked.end is None:
            asked.add(entry.t_ns, message.body, message.payload)
        return asked

    def _break(self, gap: Gap) -> None:
        self.gaps.append(gap)
        for asked in self.asked.values():
            if asked.daemon == gap.daemon and asked.end is None:
                asked.broken = asked.broken or gap.detail
        self._lives[gap.daemon] = self._lives.get(gap.daemon, 0) + 1


def assembled(entries: Iterable[Entry | Gap]) -> Assembler:
    """Of a whole recording."""
    assembler = Assembler()
    for entry in entries:
        assembler.add(entry)
    return assembler
