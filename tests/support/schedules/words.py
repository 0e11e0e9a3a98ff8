"""Judges what became of the words: that those which could be heard are told, and that those told have an outcome."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.schedules.ear import ECHO
from tests.support.schedules.record import MS, SILENT_NS, Event, Record, Sound

START_NS = 120 * MS
"""Speech that is younger than this need not be taken for speech yet."""

KEPT_NS = 1000 * MS
"""A mute that is lifted as of a moment further back than this was in force until then: stt keeps no more."""

UNTOLD = b""
"""A turn that may have begun while there was no dialog to be told of it."""

Interval = tuple[int, int]


def word_faults(record: Record) -> list[str]:
    return [*_kept(record), *_told(record)]


def _kept(record: Record) -> Iterator[str]:
    """Words that dialog was told of stay until they have an outcome."""
    answered = " ".join(event.data[2] for event in record.of("report") if event.data[1] in ("answered", "failed"))
    unwanted = {event.data[0] for event in record.of("unwanted")}
    latest: dict[bytes, list[str]] = {}
    for event in record.of("candidate", "final"):
        turn, _, text = event.data
        words = text.split()
        if ECHO in words and not _cut_late(record, event):
            yield f"{record.ms(event.t_ns)} {event.kind}: the assistant hears itself: {text!r}"
        if not _within(latest.get(turn, []), words):
            yield f"{record.ms(event.t_ns)} {event.kind}: {text!r} has lost words of {' '.join(latest[turn])!r}"
        latest[turn] = words
        lost = [word for word in words if word not in answered]
        if lost and turn not in unwanted and not _into_an_answer(record, event) and not _died_with(record, event):
            yield f"{record.ms(event.t_ns)} {event.kind}: {' '.join(lost)} never got an outcome"


def _cut_late(record: Record, event: Event) -> bool:
    """Something sounded too long, or began at all, because tts learnt too late of a cancel or of dialog's death. In
    simulated time that is a fault of its own; on sockets the machine was busy."""
    sounds = [sound for sound in record.sounds if sound.from_ns < event.t_ns]
    return any(_late(record, sound, cause) for cause in record.of("cancelled", "died") for sound in sounds)


def _late(record: Record, sound: Sound, cause: Event) -> bool:
    if cause.kind == "cancelled":
        return cause.data[0] == sound.work and cause.t_ns + SILENT_NS < sound.to_ns
    begun = any(e.data[0] == sound.work and e.t_ns <= cause.t_ns for e in record.of("work"))
    return cause.data[0] == "dialog" and begun and cause.t_ns + SILENT_NS < sound.from_ns


def _into_an_answer(record: Record, event: Event) -> bool:
    """Its turn began while an answer sounded: that is not listened to."""
    return any(e.data[0] == event.data[0] and e.data[2] for e in record.of("started"))


def _died_with(record: Record, event: Event) -> bool:
    """dialog died before it had an outcome for the turn, or for the one that its words joined."""
    turn, newest = event.data[0], event.data[0]
    for later in record.events[record.events.index(event) :]:
        if later.kind == "started":
            newest = later.data[0]
        elif later.kind == "report" and later.data[0] == turn:
            if later.data[1] != "cancelled":
                return False
            turn = newest
        elif later.kind == "died" and later.data[0] == "dialog":
            return True
    return False


def _told(record: Record) -> Iterator[str]:
    """Words that stt could hear are told."""
    told = {word for event in record.of("final") for word in event.data[2].split()}
    unheard = [*_muted(record), *_untold(record), *_away(record)]
    for word in record.words:
        excused = any(from_ns < word.to_ns and word.from_ns < to_ns for from_ns, to_ns in unheard)
        if not excused and word.text not in told:
            yield f"{word.text} was said, and never told"


def _muted(record: Record) -> Iterator[Interval]:
    """When stt was told not to listen: until that was lifted, or ran out, or stt died."""
    from_ns = until_ns = 0
    for event in record.of("mute", "died"):
        if event.kind == "died":
            if event.data[0] == "stt":
                yield from_ns, min(until_ns, event.t_ns)
                from_ns = until_ns = 0
        elif event.data[1]:
            if event.t_ns > until_ns:
                yield from_ns, until_ns
                from_ns = event.data[0]
            from_ns, until_ns = min(from_ns, event.data[0]), event.t_ns + event.data[1] * MS
        else:
            until_ns = min(until_ns, max(event.data[0], event.t_ns - KEPT_NS))
    yield from_ns, until_ns


def _untold(record: Record) -> Iterator[Interval]:
    """What had no transcript, and what was said in the same turn until that was known."""
    for event in record.of("untold"):
        yield event.data[0], event.t_ns + record.hop_ns


def _away(record: Record) -> Iterator[Interval]:
    """A daemon that dies takes with it what it has of the turn under way, and hears nothing until it is back."""
    for event in record.of("died"):
        if event.data[0] in ("stt", "dialog"):
            backs = (e.t_ns for e in record.of("back") if e.data == event.data and e.t_ns >= event.t_ns)
            yield _under_way(record, event.t_ns), next(backs, record.words[-1].to_ns)


def _under_way(record: Record, t_ns: int) -> int:
    """When the turn that dialog or stt has in hand then was begun, as far as dialog was told."""
    said = {word.text: word.from_ns for word in record.words}
    begun: dict[bytes, int] = {}
    for event in [e for e in record.events if e.t_ns < t_ns]:
        if event.kind in ("started", "resumed"):
            begun.setdefault(event.data[0], event.data[1 if event.kind == "started" else 2])
        elif event.kind == "candidate":
            begun.setdefault(event.data[0], said.get(event.data[2].split()[0], event.t_ns))
        elif event.kind in ("final", "dropped"):
            begun.pop(event.data[0], None)
        elif event.kind == "died" and event.data[0] == "stt":
            begun.clear()
        elif event.kind == "died" and event.data[0] == "dialog":
            begun[UNTOLD] = event.t_ns
        if event.kind in ("started", "final", "dropped"):
            begun.pop(UNTOLD, None)
    return min([t_ns - START_NS - 2 * record.hop_ns, *begun.values()])


def _within(part: list[str], whole: list[str]) -> bool:
    """In this order, whatever stands between."""
    rest = iter(whole)
    return all(word in rest for word in part)
