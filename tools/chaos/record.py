"""What happened in a run, and what is wrong with it. Times are seconds after the load began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.chaos.plan import Cut, Engine, Kill, Limit, Step, Stop

BLOCKED_MAX_S = 1.0
GROWN_MAX_BYTES = 50_000_000
_AFTER_S = 2.5
"""So long after its end a death or a silence belongs to a fault: a supervisor waits, a caller asks twice a second."""


@dataclass(frozen=True, slots=True)
class Question:
    """`code` and `detail` say why, if its `outcome` is not "done"."""

    asked_s: float
    ended_s: float
    outcome: str
    code: str = ""
    detail: str = ""


@dataclass(slots=True)
class Applied:
    """A fault as it was brought about. `ready_s`: when all daemons said again that they are ready; `answered_s`: when
    the first question was answered that was asked after its end. None: it did not come."""

    step: Step
    began_s: float
    ended_s: float = float("inf")
    ready_s: float | None = None
    answered_s: float | None = None
    trouble: str = ""
    """Why it could not be brought about."""

    @property
    def recovered_s(self) -> float | None:
        """Seconds from its end until all was well."""
        if self.ready_s is None or self.answered_s is None:
            return None
        return max(self.ready_s, self.answered_s) - self.ended_s


@dataclass(frozen=True, slots=True)
class Silence:
    """A ping was not answered by a process that lived."""

    daemon: str
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Death:
    daemon: str
    pid: int
    at_s: float


@dataclass(slots=True)
class Record:
    seconds: float = 0.0
    questions: list[Question] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    grown: dict[str, int] = field(default_factory=dict)
    """Bytes that the process which a daemon was at last holds more at the end than at its first look."""
    doubled: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)
    left_open: dict[str, int] = field(default_factory=dict)
    """Requests that a daemon still keeps although all callers have gone."""
    unseen: int = 0
    """Headers that the observer lost."""


def problems(record: Record, recover_s: float) -> list[str]:
    """Each in a line; none: everything recovered and every promise was kept."""
    return [
        *_unrecovered(record.applied, recover_s),
        *_deaths(record),
        *_blocked(record),
        *(f"{what} had more than one end" for what in record.doubled),
        *(f"{what} had no end" for what in record.unended),
        *(
            f"{daemon} keeps {count} requests whose callers have gone"
            for daemon, count in record.left_open.items()
            if count > 0
        ),
        *(
            f"{daemon} grew by {grown / 1e6:.0f} MB"
            for daemon, grown in record.grown.items()
            if grown > GROWN_MAX_BYTES
        ),
        *_never_well(record),
    ]


def due_s(applied: Applied, others: Sequence[Applied], recover_s: float) -> float:
    """By when all must be well again after a fault: others that come meanwhile put it off."""
    due = applied.ended_s + recover_s
    for other in sorted(others, key=lambda each: each.began_s):
        if applied.began_s <= other.began_s <= due:
            due = max(due, other.ended_s + recover_s)
    return due


def _unrecovered(applied: Sequence[Applied], recover_s: float) -> list[str]:
    found = []
    for each in applied:
        if each.trouble:
            found.append(f"{each.step.words()}: {each.trouble}")
            continue
        due = due_s(each, applied, recover_s)
        well_s = each.ended_s + each.recovered_s if each.recovered_s is not None else float("inf")
        if well_s > due:
            missing = "no answer came" if each.answered_s is None else "not all daemons were ready"
            late = f"only after {each.recovered_s:.1f} s" if each.recovered_s is not None else missing
            found.append(f"{each.step.words()} at {each.began_s:.1f} s: not recovered, {late}")
    return found


def _deaths(record: Record) -> list[str]:
    def meant(death: Death) -> bool:
        return any(
            isinstance(each.step, Kill | Limit | Engine)
            and (not isinstance(each.step, Engine) or each.step.fault == "die")
            and each.step.daemon == death.daemon
            and each.began_s - 0.5 <= death.at_s <= each.ended_s + _AFTER_S
            for each in record.applied
        )

    return [
        f"{death.daemon} (process {death.pid}) died at {death.at_s:.1f} s without being killed"
        for death in record.deaths
        if not meant(death)
    ]


def _blocked(record: Record) -> list[str]:
    def meant(silence: Silence) -> bool:
        return any(
            isinstance(each.step, Stop | Limit | Kill | Cut | Engine)
            and (not isinstance(each.step, Engine) or each.step.fault in ("block", "die"))
            and each.step.daemon == silence.daemon
            and silence.from_s <= each.ended_s + _AFTER_S
            and silence.to_s >= each.began_s
            for each in record.applied
        )

    return [
        f"{each.daemon} let a ping wait for {each.to_s - each.from_s:.1f} s at {each.from_s:.1f} s"
        for each in record.silences
        if each.to_s - each.from_s > BLOCKED_MAX_S and not meant(each)
    ]


def _never_well(record: Record) -> list[str]:
    """Questions that failed while nothing was wrong: neither during a fault nor until all was well after it."""

    def excused(question: Question) -> bool:
        return any(question.ended_s >= each.began_s and question.asked_s <= _well_s(each) for each in record.applied)

    failed = [each for each in record.questions if each.outcome != "done" and not excused(each)]
    if not failed:
        return []
    first = failed[0]
    return [
        f"{len(failed)} questions failed while nothing was wrong, the first at {first.asked_s:.1f} s: {first.detail}"
    ]


def _well_s(applied: Applied) -> float:
    recovered = applied.recovered_s
    return float("inf") if recovered is None else applied.ended_s + recovered
