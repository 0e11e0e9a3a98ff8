"""Judges what became of the turns of a round by what a guest was told: one that was hit, and one after it. Pure.

Exactly one outcome for each turn, but for two cases (docs/adr/011-schedules.md). A turn whose dialog died has none:
its followers are told that dialog is gone. One that failed before anything of it sounded may be taken up again by who
goes on speaking, and then has a second outcome, which is the last.

Nothing that was heard is lost, and nothing is answered twice. Words of a turn whose answer did not sound, because it
failed unheard or its dialog died, are still to be answered: they stand before those of the next turn, which stt hears
as the same one. Words whose answer sounded do not come again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daemons.stt.core import CLOSE_NS
from ipc.messages import (
    Sound,
    SpeechStarted,
    TurnCandidate,
    TurnDropped,
    TurnFinal,
    TurnHeard,
    TurnReport,
    TurnResumed,
    TurnSaid,
)
from tests.campaigns.guest import Died, Told

ANSWERS = ("answered", "failed")


def faults(log: Sequence[Told], hit: Sequence[str], after: Sequence[str]) -> list[str]:
    """One line for each promise that was broken. `hit`: the words said in the turn that was hit, `after` those of the
    next one, which has been answered."""
    return [*_outcomes(log), *_told(log, hit), *_kept_by_stt(log), *_kept_by_dialog(log), *_next(log, hit, after)]


def unreported(log: Sequence[Told]) -> set[bytes]:
    """Turns that a dialog which still lives has told of, and not yet the end."""
    dead = _dead(log, "dialog")
    open_: set[bytes] = set()
    for event in log:
        match event.body:
            case TurnHeard(turn=turn) | TurnSaid(turn=turn) if event.life not in dead:
                open_.add(turn)
            case TurnReport(turn=turn):
                open_.discard(turn)
    return open_


def unfinished(log: Sequence[Told]) -> set[bytes]:
    """Turns of which a stt that still lives has not told the end."""
    dead = _dead(log, "stt")
    open_: set[bytes] = set()
    for event in log:
        match event.body:
            case SpeechStarted(turn=turn) | TurnResumed(turn=turn) if event.life not in dead:
                open_.add(turn)
            case TurnFinal(turn=turn) | TurnDropped(turn=turn):
                open_.discard(turn)
    return open_


def taken_up(log: Sequence[Told]) -> int:
    """How many turns failed unheard and had a second outcome."""
    reports = [event.body.turn for event in log if isinstance(event.body, TurnReport)]
    return len(reports) - len(set(reports))


def report_of(log: Sequence[Told], words: Sequence[str]) -> TurnReport | None:
    """The last one of a turn in which these words were heard."""
    reports = [event.body for event in log if isinstance(event.body, TurnReport)]
    return next((each for each in reversed(reports) if set(words) <= set(each.heard.split())), None)


def sound_after(log: Sequence[Told], turn: bytes) -> float:
    """Seconds from the end of a turn, as stt told it, to the first sound of its answer. Raises AssertionError when
    there was none."""
    sounds_ns = [e.t_ns for e in log if isinstance(e.body, Sound) and e.body.turn == turn]
    if not sounds_ns:
        raise AssertionError(f"turn {turn.hex()} was answered, and nothing sounded")
    return (sounds_ns[0] - max(e.t_ns for e in log if isinstance(e.body, TurnFinal) and e.body.turn == turn)) / 1e9


def sounded(log: Sequence[Told], turn: bytes) -> bool:
    return any(isinstance(event.body, Sound) and event.body.turn == turn for event in log)


# --- outcomes ---


def _outcomes(log: Sequence[Told]) -> Iterator[str]:
    for turn in unreported(log):
        yield f"turn {turn.hex()} has no outcome"
    for at, event in enumerate(log):
        report = event.body
        if not isinstance(report, TurnReport):
            continue
        earlier = [n for n, e in enumerate(log[:at]) if isinstance(e.body, TurnReport) and e.body.turn == report.turn]
        if len(earlier) > 1 or (earlier and not _goes_on(log, earlier[0], at)):
            outcomes = [each.outcome for each in _reports(log[: at + 1]) if each.turn == report.turn]
            yield f"turn {report.turn.hex()} ended more than once: {', '.join(outcomes)}"


def _goes_on(log: Sequence[Told], first: int, second: int) -> bool:
    """Whether the turn failed unheard, and its speaker went on between the two."""
    report = log[first].body
    assert isinstance(report, TurnReport)
    known = [revision for revision, _ in _texts(log[:first], report.turn)]
    later = [revision for revision, _ in _texts(log[first:second], report.turn)]
    resumed = any(isinstance(e.body, TurnResumed) and e.body.turn == report.turn for e in log[first:second])
    goes_on = resumed or max(later, default=0) > max(known, default=0)
    return report.outcome == "failed" and not sounded(log[:first], report.turn) and goes_on


def _reports(log: Sequence[Told]) -> list[TurnReport]:
    return [event.body for event in log if isinstance(event.body, TurnReport)]


# --- words ---


def _texts(log: Sequence[Told], turn: bytes) -> list[tuple[int, list[str]]]:
    """What stt told of a turn, by revision."""
    told = (e.body for e in log if isinstance(e.body, TurnCandidate | TurnFinal))
    return [(each.revision, each.text.split()) for each in told if each.turn == turn]


def _spoken(log: Sequence[Told]) -> list[bytes]:
    told = (e.body for e in log if isinstance(e.body, TurnCandidate | TurnFinal))
    return list(dict.fromkeys(each.turn for each in told))


def _told(log: Sequence[Told], hit: Sequence[str]) -> Iterator[str]:
    """A stt that lives tells all that was said."""
    finals = {w for e in log if isinstance(e.body, TurnFinal) for w in e.body.text.split()}
    if not _dead(log, "stt") and (lost := [each for each in hit if each not in finals]):
        yield f"{' '.join(lost)} was said, and never told"


def _kept_by_stt(log: Sequence[Told]) -> Iterator[str]:
    for turn in _spoken(log):
        before: list[str] = []
        for revision, words in _texts(log, turn):
            if lost := [each for each in before if each not in words]:
                yield f"revision {revision} of turn {turn.hex()} has lost {' '.join(lost)}"
            before = words


def _kept_by_dialog(log: Sequence[Told]) -> Iterator[str]:
    """What a dialog that lives said it had understood is in an outcome."""
    dead = _dead(log, "dialog")
    for at, event in enumerate(log):
        heard = event.body
        if not isinstance(heard, TurnHeard) or not heard.final or event.life in dead or heard.turn not in _spoken(log):
            continue
        ends = {w for each in _reports(log[at:]) if each.outcome in ANSWERS for w in each.heard.split()}
        if lost := [each for each in heard.text.split() if each not in ends]:
            yield f"{' '.join(lost)} of turn {heard.turn.hex()} never got an outcome"


def _next(log: Sequence[Told], hit: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """The next turn has its own words, behind those that are still to be answered, and no others."""
    report = report_of(log, after)
    if report is None or report.outcome != "answered":
        yield f"the next turn was not answered: {report.outcome + ', ' + report.detail if report else 'no outcome'}"
        return
    due = _due(log, hit, after)
    carried = report.heard.split()[: -len(after)]
    if report.heard.split()[-len(after) :] != list(after):
        yield f"the next turn was understood as {report.heard!r}, not {' '.join(after)!r}"
    elif again := [each for each in carried if each not in due]:
        yield f"{' '.join(again)} had an answer already, and came again"
    elif not (_dead(log, "stt") or _closed(log, report.turn)) and (lost := [w for w in due if w not in carried]):
        yield f"{' '.join(lost)} had no answer, and did not come again"


def _closed(log: Sequence[Told], turn: bytes) -> bool:
    """Whether it began so late that stt had let go of the one before."""
    starts_ns = [e.body.t_ns for e in log if isinstance(e.body, SpeechStarted) and e.body.turn == turn]
    ends_ns = [e.body.last_voiced_ns for e in log if isinstance(e.body, TurnFinal) and e.body.turn != turn]
    return bool(starts_ns and ends_ns) and starts_ns[0] - max(ends_ns) >= CLOSE_NS


def _due(log: Sequence[Told], hit: Sequence[str], after: Sequence[str]) -> list[str]:
    """Words that were understood, and whose answer did not sound before stt told of the next turn."""
    before = log[: _first(log, after)]
    heard = {turn: words for turn in _spoken(before) for _, words in _texts(before, turn)}
    answered = {each for turn, words in heard.items() if sounded(before, turn) for each in words}
    answered |= {w for each in _reports(before) if each.outcome == "answered" for w in each.heard.split()}
    return [each for each in hit if any(each in words for words in heard.values()) and each not in answered]


def _first(log: Sequence[Told], words: Sequence[str]) -> int:
    """Where stt first tells of the words."""
    for at, event in enumerate(log):
        if isinstance(event.body, TurnCandidate | TurnFinal) and words[-1] in event.body.text.split():
            return at
    return len(log)


def _dead(log: Sequence[Told], daemon: str) -> set[int]:
    """The lives of a daemon that have ended."""
    return {event.life for event in log if event.daemon == daemon and isinstance(event.body, Died)}
