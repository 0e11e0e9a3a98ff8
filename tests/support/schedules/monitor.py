"""Judges what came of a schedule by its record alone: it knows what was said, told and heard, and none of the cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from daemons.dialog.turn import Phase
from tests.support.schedules.record import MS, Event, Record, Sound, ms

SILENT_NS = 50 * MS
"""So soon after a revoke there must be silence."""

WRITTEN = ("answered", "failed")


def faults(record: Record) -> list[str]:
    """One line for each promise that was broken; none for a schedule that went well."""
    return [*_outcomes(record), *_sound(record), *_memory(record), *_words(record)]


def kinds(record: Record) -> Counter[str]:
    """What a schedule holds, to see that many hold everything."""
    found = Counter(event.kind for event in record.events)
    found["sound"] = len(record.sounds)
    worked = {work.turn for event in record.of("work") for work in [event.data[0]]}
    found["revoked at work"] = sum(event.data[0] in worked for event in record.of("resumed"))
    finals = [(event.t_ns, event.data[0]) for event in record.of("final")]
    joined = [e for e in record.of("resumed") if any(t < e.t_ns and turn == e.data[0] for t, turn in finals)]
    found["joined after the end"] = len(joined)
    found["cut"] = sum(event.data[1] == "cancelled" for event in record.of("report"))
    return found


def _outcomes(record: Record) -> Iterator[str]:
    """Every turn ends in one outcome. One that failed unheard may be taken up again by who goes on speaking."""
    if record.phase is not Phase.IDLE:
        yield f"at the end the conversation is {record.phase}"
    ended: set[bytes] = set()
    open_: set[bytes] = set()
    for event in record.events:
        turn: Any = event.data[0] if event.data else b""
        if event.kind in ("started", "typed", "resumed"):
            ended.discard(turn)
        elif event.kind == "work":
            open_.add(turn.turn)
        elif event.kind == "report":
            if turn in ended:
                yield f"{_at(event)}: a second outcome of one turn"
            ended.add(turn)
            open_.discard(turn)
    if open_:
        yield f"{len(open_)} turns have no outcome"


def _sound(record: Record) -> Iterator[str]:
    for sound in record.sounds:
        turn, revision, _ = sound.work
        allowed = [event for event in record.events if _lets_sound(record, event, turn, revision)]
        if not any(event.t_ns <= sound.from_ns for event in allowed):
            yield f"{ms(sound.from_ns)}: revision {revision} sounds before its turn is over"
        for event in record.events:
            if _revokes(record, event, sound) and sound.to_ns > event.t_ns + SILENT_NS:
                yield f"{_at(event)}: revision {revision} sounds on until {ms(sound.to_ns)} after it was revoked"


def _lets_sound(record: Record, event: Event, turn: bytes, revision: int) -> bool:
    if event.kind == "final":
        return bool(event.data[:2] == (turn, revision))
    if event.kind == "lost":  # nobody will confirm what had begun by then
        kinds = ("started", "resumed")
        return any(e.data[0] == turn and e.t_ns <= event.t_ns for e in record.events if e.kind in kinds)
    return event.kind in ("typed", "dropped") and bool(event.data[0] == turn)


def _revokes(record: Record, event: Event, sound: Sound) -> bool:
    """Whether the event says that the revision must not be heard (any more)."""
    first_ns = min(other.from_ns for other in record.sounds if other.work == sound.work)
    if sound.from_ns < event.t_ns and event.kind in ("resumed", "started"):
        known_ns = event.data[2] if event.kind == "resumed" else event.data[1]
        if first_ns <= known_ns:
            return False  # he spoke into an answer that he could hear already
    if event.kind == "resumed":
        return bool(event.data[0] == sound.work.turn and event.data[1] >= sound.work.revision)
    if event.kind == "unwanted":
        return event.data[0] == sound.work.turn and _was_in_hand(record, event)
    # What is said without having been thought about, an apology, begins when it sounds.
    began_ns = min((e.t_ns for e in record.of("work") if e.data[0] == sound.work), default=first_ns)
    return bool(event.kind == "started" and event.data[0] != sound.work.turn and began_ns < event.t_ns)


def _was_in_hand(record: Record, event: Event) -> bool:
    """The turn was reported as cancelled at that very moment; else it was over already."""
    reports = [report for report in record.of("report") if report.t_ns == event.t_ns]
    return any(report.data[:2] == (event.data[0], "cancelled") for report in reports)


def _memory(record: Record) -> Iterator[str]:
    """What is stored was reported, word for word, as the outcome of a turn; and once."""
    reported = Counter((e.data[0], e.data[2]) for e in record.of("report") if e.data[1] in WRITTEN)
    stored = Counter(event.data for event in record.of("stored"))
    for what, count in stored.items():
        if count > reported[what]:
            yield f"stored {count} times, and {reported[what]} times the outcome of a turn: {what[1]!r}"


def _words(record: Record) -> Iterator[str]:
    """Words that dialog was told of stay until they have an outcome; words that stt could hear are told."""
    answered = " ".join(event.data[2] for event in record.of("report") if event.data[1] in WRITTEN)
    unwanted = {event.data[0] for event in record.of("unwanted")}
    latest: dict[bytes, list[str]] = {}
    for event in [e for e in record.events if e.kind in ("candidate", "final")]:
        turn, _, text = event.data
        words = text.split()
        if not _within(latest.get(turn, []), words):
            yield f"{_at(event)}: {text!r} has lost words of {' '.join(latest[turn])!r}"
        latest[turn] = words
        lost = [word for word in words if word not in answered]
        if lost and turn not in unwanted and not _into_an_answer(record, event):
            yield f"{_at(event)}: {' '.join(lost)} never got an outcome"
    told = {word for event in record.of("final") for word in event.data[2].split()}
    for word in record.words:
        deaf = any(from_ns < word.to_ns + 400 * MS and word.from_ns < to_ns for from_ns, to_ns in record.deaf)
        if record.transcripts and not deaf and word.text not in told:
            yield f"{word.text} was said, and never told"


def _into_an_answer(record: Record, event: Event) -> bool:
    """Its turn began while an answer sounded: that is not listened to."""
    turn = event.data[0]
    return any(e.data[0] == turn and e.data[2] for e in record.of("started"))


def _within(part: list[str], whole: list[str]) -> bool:
    """In this order, whatever stands between."""
    rest = iter(whole)
    return all(word in rest for word in part)


def _at(event: Event) -> str:
    return f"{ms(event.t_ns)} {event.kind}"
