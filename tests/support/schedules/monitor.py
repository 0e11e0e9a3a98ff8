"""Judges what came of a schedule by its record alone: it knows what was said, told and heard, and none of the cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from daemons.dialog.effects import Work
from daemons.dialog.turn import Phase
from tests.support.schedules.record import MS, SILENT_NS, Event, Record, Sound
from tests.support.schedules.words import word_faults

VANISHED_NS = 7550 * MS
"""tts misses a caller that has died after this long at the latest (`CLIENT_SILENCE_S` and half of it)."""

AT_ONCE_NS = 50 * MS
"""Between a question's being taken back and the report of it, on real clocks."""

WRITTEN = ("answered", "failed")


def faults(record: Record) -> list[str]:
    """One line for each promise that was broken; none for a schedule that went well."""
    return [*_outcomes(record), *_sound(record), *_memory(record), *word_faults(record)]


def kinds(record: Record) -> Counter[str]:
    """What a schedule holds, to see that many hold everything."""
    found = Counter(event.kind for event in record.events)
    found += Counter(f"{event.kind} {event.data[0]}" for event in record.of("died", "stalled"))
    found["sound"] = len(record.sounds)
    worked = {event.data[0].turn for event in record.of("work")}
    found["revoked at work"] = sum(event.data[0] in worked for event in record.of("resumed"))
    finals = [(event.t_ns, event.data[0]) for event in record.of("final")]
    joined = [e for e in record.of("resumed") if any(t < e.t_ns and turn == e.data[0] for t, turn in finals)]
    found["joined after the end"] = len(joined)
    found["cut"] = sum(event.data[1] == "cancelled" for event in record.of("report"))
    return found


# --- outcomes ---


def _outcomes(record: Record) -> Iterator[str]:
    """Every turn ends in one outcome. One that failed unheard may be taken up again by who goes on speaking."""
    if record.phase is not Phase.IDLE:
        yield f"at the end the conversation is {record.phase}"
    ended: dict[bytes, str] = {}
    open_: set[bytes] = set()
    for event in record.events:
        if _taken_up(record, event, ended):
            del ended[event.data[0]]
        elif event.kind == "work":
            open_.add(event.data[0].turn)
        elif event.kind == "report":
            turn, outcome, _ = event.data
            if turn in ended:
                yield f"{_at(record, event)}: a second outcome of one turn"
            ended[turn] = outcome
            open_.discard(turn)
        elif event.kind == "died" and event.data[0] == "dialog":
            open_.clear()  # whoever waits for these sees that dialog is gone
    if open_:
        yield f"{len(open_)} turns have no outcome"


def _taken_up(record: Record, event: Event, ended: dict[bytes, str]) -> bool:
    """Whether somebody goes on speaking in a turn that failed before anything of it was heard."""
    if event.kind not in ("resumed", "candidate", "final") or ended.get(event.data[0]) != "failed":
        return False
    turn = event.data[0]
    works = [e.data[0][:2] for e in record.of("work") if e.data[0].turn == turn and e.t_ns < event.t_ns]
    goes_on = event.kind == "resumed" or event.data[1] > works[-1][1]
    return goes_on and not any(s.work[:2] == works[-1] and s.from_ns < event.t_ns for s in record.sounds)


# --- sound ---


def _sound(record: Record) -> Iterator[str]:
    for sound in record.sounds:
        turn, revision, _ = sound.work
        allowed = [event for event in record.events if _lets_sound(record, event, turn, revision)]
        if not any(event.t_ns <= sound.from_ns for event in allowed):
            yield f"{record.ms(sound.from_ns)}: revision {revision} sounds before its turn is over"
        for event in record.events:
            if _revokes(record, event, sound) and sound.to_ns > _silent_ns(record, event, sound.work):
                yield f"{_at(record, event)}: revision {revision} sounds on until {record.ms(sound.to_ns)} " + (
                    "after it was revoked"
                )
        yield from _cancelled(record, sound)
        yield from _orphaned(record, sound)
    for event in record.of("stale"):
        yield f"{_at(record, event)}: sound was handed over after its end had reached tts"


def _lets_sound(record: Record, event: Event, turn: bytes, revision: int) -> bool:
    if event.kind == "final":
        return bool(event.data[:2] == (turn, revision))
    if event.kind == "lost":  # nobody will confirm what had begun by then
        kinds = ("started", "resumed", "candidate")
        return any(e.data[0] == turn and e.t_ns <= event.t_ns for e in record.of(*kinds))
    return event.kind in ("typed", "dropped") and bool(event.data[0] == turn)


def _revokes(record: Record, event: Event, sound: Sound) -> bool:
    """Whether the event says that the revision must not be heard (any more)."""
    first_ns = _first_ns(record, sound.work)
    if sound.from_ns < event.t_ns and event.kind in ("resumed", "started"):
        known_ns = event.data[2] if event.kind == "resumed" else event.data[1]
        if first_ns <= known_ns:
            return False  # he spoke into an answer that he could hear already
    if event.kind == "resumed":
        return bool(event.data[0] == sound.work.turn and event.data[1] >= sound.work.revision)
    if event.kind == "unwanted":
        return event.data[0] == sound.work.turn and _was_in_hand(record, event)
    begun_before = _began_ns(record, sound) < event.t_ns
    return bool(event.kind == "started" and event.data[0] != sound.work.turn and begun_before)


def _was_in_hand(record: Record, event: Event) -> bool:
    """The turn had its outcome after that; else it was over already."""
    return any(report.data[0] == event.data[0] and report.t_ns >= event.t_ns for report in record.of("report"))


def _cancelled(record: Record, sound: Sound) -> Iterator[str]:
    for event in record.of("cancelled"):
        if event.data[0] == sound.work and _silent_ns(record, event, sound.work) < sound.from_ns:
            yield f"{record.ms(sound.from_ns)}: sound begins that was cancelled at {record.ms(event.t_ns)}"


def _orphaned(record: Record, sound: Sound) -> Iterator[str]:
    """What a dialog that died had asked for: tts misses it in time, and at once if it has something to tell."""
    first_ns = _first_ns(record, sound.work)
    for event in record.of("died"):
        if event.data[0] == "dialog" and _began_ns(record, sound) <= event.t_ns < sound.to_ns:
            if first_ns > _silent_ns(record, event, sound.work):
                yield f"{record.ms(first_ns)}: revision {sound.work.revision} begins to sound after its dialog has died"
            if sound.to_ns > max(event.t_ns + VANISHED_NS, _silent_ns(record, event, sound.work)):
                yield f"{_at(record, event)}: dialog is dead, and still sounds at {record.ms(sound.to_ns)}"


def _silent_ns(record: Record, event: Event, work: Work) -> int:
    """When the silence after `event` is due. On sockets that is when tts learns of it, however busy the machine is."""
    learnt = [e.t_ns for e in record.of("silenced") if e.data[0] == work and e.t_ns >= event.t_ns]
    return max([event.t_ns + SILENT_NS, *learnt])


def _first_ns(record: Record, work: Work) -> int:
    return min(other.from_ns for other in record.sounds if other.work == work)


def _began_ns(record: Record, sound: Sound) -> int:
    """When the work on it began; what is said without having been thought about, an apology, begins when it sounds."""
    begins = [e.t_ns for e in record.of("work") if e.data[0] == sound.work and e.t_ns <= sound.from_ns]
    return max(begins, default=_first_ns(record, sound.work))


# --- memory ---


def _memory(record: Record) -> Iterator[str]:
    """What is stored and not withdrawn was reported, word for word, as the outcome of a turn, or its answer was broken
    off by who had asked, or by dialog's death; and each once, at whatever point of the turn."""
    due = Counter((e.data[0], e.data[2]) for e in record.of("report") if e.data[2] and _is_to_be_stored(record, e))
    stored = Counter(event.data for event in record.of("stored"))
    stored.subtract(event.data for event in record.of("withdrawn"))
    for what in stored | due:
        if not due[what] <= stored[what] <= max(due[what], _may_be_stored(record, what[0])):
            yield f"stored {stored[what]} times, and {due[what]} times the outcome of a turn: {what[1]!r}"


def _is_to_be_stored(record: Record, report: Event) -> bool:
    """Its answer was given, or could be heard, as dialog had learnt, when somebody took the question back."""
    turn, outcome, _ = report.data
    if outcome in WRITTEN:
        return True
    learnt = any(event.data[0] == turn and event.t_ns <= report.t_ns for event in record.of("muting"))
    return learnt and _taken_back(record, report)


def _taken_back(record: Record, report: Event) -> bool:
    own = (event for event in record.of("unwanted") if event.data[0] == report.data[0])
    return any(0 <= report.t_ns - event.t_ns <= AT_ONCE_NS for event in own)


def _may_be_stored(record: Record, turn: bytes) -> bool:
    """What an answer was asked that has begun to sound, even if dialog dies before its outcome; or one that was about
    to begin, its first sample told, when it was taken back."""
    reports = [event for event in record.of("report") if event.data[0] == turn]
    if any(_taken_back(record, report) for report in reports):
        return True
    if not any(event.data[0] == "dialog" for event in record.of("died")):
        return False
    reported_ns = max((event.t_ns for event in reports), default=0)
    return any(sound.work.turn == turn and sound.from_ns > reported_ns for sound in record.sounds)


def _at(record: Record, event: Event) -> str:
    return f"{record.ms(event.t_ns)} {event.kind}"
