"""What is heard between clauses: gaps, holes, late frames and clicks planted in sound that has none, and sound that
has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from daemons.engines.pcm import silence, trim
from daemons.tts import core
from tools.bench.seams import KEPT_MS, PAUSE_INSIDE_MS, Frame, Heard, listen, pause_after

RATE = 22_050
MS = 1_000_000
FRAME_MS = 20
CLAUSES = ["The plumber comes", "on Tuesday, at nine.", "He brings a new tap."]
PAUSES = [60, 150]
Samples = NDArray[np.int16]


def voice(seconds: float, seed: int = 1) -> bytes:
    """As a clause comes from the voice: a low hum that swells and fades, a pause of 400 ms in its middle, and hiss
    under it and around it; then trimmed and faded as tts does."""
    count = round(seconds * RATE)
    at = np.arange(count) / RATE
    hum = 9000 * np.sin(np.pi * at / seconds) * np.sin(2 * np.pi * 110 * at) * (abs(at - seconds / 2) > 0.2)
    return trim((np.pad(hum, RATE // 20) + hiss(count + RATE // 20 * 2, seed)).astype("<i2").tobytes(), RATE)


def hiss(count: int, seed: int) -> Samples:
    return np.random.default_rng(seed).integers(-40, 41, count).astype("<i2")


def pause(ms: int) -> bytes:
    return silence(ms, RATE)


def answer(*pauses: int) -> bytes:
    """Three clauses with these pauses after the first two."""
    first, second = pauses or PAUSES
    return voice(0.8) + pause(first) + voice(1.5, 2) + pause(second) + voice(1.2, 3)


def framed(pcm: bytes) -> list[Frame]:
    """Frames of 20 ms as tts sends them, each 150 ms before it is due."""
    size = RATE * FRAME_MS // 1000 * 2
    starts = range(0, len(pcm), size)
    due = [(7_000 * MS + start // 2 * 1_000_000_000 // RATE) for start in starts]
    return [Frame(ns, ns - 150 * MS, pcm[at : at + size]) for ns, at in zip(due, starts, strict=True)]


def held_up(frames: list[Frame], place: int, ms: float) -> list[Frame]:
    """From that frame on all is due later."""
    ns = round(ms * MS)
    late = [Frame(frame.due_ns + ns, frame.arrived_ns + ns, frame.pcm) for frame in frames[place:]]
    return [*frames[:place], *late]


def heard(frames: list[Frame], clauses: list[str] = CLAUSES) -> Heard:
    return listen(frames, RATE, clauses)


def gaps(found: Heard) -> list[float]:
    return [round(one.unasked_ms, 1) for one in found.silences if one.gap]


def test_clean_speech_has_its_pauses_and_nothing_else() -> None:
    found = heard(framed(answer()))
    assert [one.asked_ms for one in found.silences] == PAUSES
    assert [one.silent_ms for one in found.silences] == pytest.approx(PAUSES, abs=0.5)
    assert [one.quiet_ms for one in found.silences] == pytest.approx([ms + KEPT_MS for ms in PAUSES], abs=1)
    assert [one.at_s for one in found.silences] == pytest.approx([0.78, 2.33], abs=0.05)
    assert not any(one.gap or one.click or one.waited_ms for one in found.silences)
    assert max(found.late_ms) == -150
    assert found.samples.tobytes() == answer()
    assert found.pauses == 2


def test_silence_before_and_after_an_answer_is_no_seam() -> None:
    found = heard(framed(pause(50) + answer() + pause(500)))
    assert [one.asked_ms for one in found.silences] == PAUSES


def test_one_clause_has_no_seam_and_its_own_pauses_are_no_gaps() -> None:
    found = heard(framed(voice(2.0)), ["The plumber comes, on Tuesday."])
    assert (found.silences, found.pauses) == ([], 0)


@pytest.mark.parametrize(("more_ms", "expected"), [(15, []), (25, [25.0]), (200, [200.0])])
@pytest.mark.parametrize("seam", [0, 1])
def test_a_pause_that_is_longer_than_asked_for(seam: int, more_ms: int, expected: list[float]) -> None:
    pauses = [ms + more_ms * (place == seam) for place, ms in enumerate(PAUSES)]
    found = heard(framed(answer(*pauses)))
    assert gaps(found) == pytest.approx(expected, abs=0.5)
    assert [one.asked_ms for one in found.silences] == PAUSES


@pytest.mark.parametrize(("ms", "expected"), [(15, []), (25, [25.0])])
@pytest.mark.parametrize("place", [20, 60, 100])
def test_a_hole_in_the_middle_of_a_clause(place: int, ms: int, expected: list[float]) -> None:
    found = heard(held_up(framed(answer()), place, ms))
    assert gaps(found) == pytest.approx(expected, abs=0.5)
    assert sorted(one.asked_ms for one in found.silences if one.asked_ms is not None) == PAUSES
    (hole,) = (one for one in found.silences if one.waited_ms)
    assert hole.asked_ms is None
    assert hole.waited_ms == pytest.approx(ms, abs=0.1)
    assert hole.at_s == pytest.approx(place * FRAME_MS / 1000, abs=0.01)


@pytest.mark.parametrize(("waited_ms", "expected"), [(40, []), (75, []), (85, [25.0])])
def test_a_clause_that_comes_late_may_use_up_its_pause(waited_ms: int, expected: list[float]) -> None:
    """As the core of tts does: what has passed of the pause is not made up for."""
    before, rest = voice(0.8), pause(max(0, 60 - waited_ms)) + voice(1.2, 2)
    frames = framed(before)
    end_ns = frames[0].due_ns + len(before) // 2 * 1_000_000_000 // RATE
    shift = end_ns + waited_ms * MS - frames[0].due_ns
    frames += [replace(frame, due_ns=frame.due_ns + shift, arrived_ns=frame.due_ns + shift) for frame in framed(rest)]
    found = heard(frames, CLAUSES[:2])
    (seam,) = found.silences
    assert seam.asked_ms == 60
    assert seam.waited_ms == pytest.approx(waited_ms, abs=0.1)
    assert gaps(found) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(("late_ms", "expected"), [(-1, []), (15, []), (25, [25.0])])
def test_a_frame_that_comes_late_is_a_hole_for_who_listens(late_ms: int, expected: list[float]) -> None:
    frames = framed(answer())
    frames[60] = replace(frames[60], arrived_ns=frames[60].due_ns + late_ms * MS)
    found = heard(frames)
    assert found.late_ms[60] == late_ms
    assert sum(ms > 0 for ms in found.late_ms) == (late_ms > 0)
    assert gaps(found) == pytest.approx(expected, abs=0.5)


def test_what_follows_a_late_frame_sounds_behind_it_and_is_no_second_hole() -> None:
    """The rest is late by as much, and what was due meanwhile is played at once after it."""
    frames = framed(answer())
    late = [replace(frame, arrived_ns=max(frame.arrived_ns, frames[60].due_ns + 90 * MS)) for frame in frames[60:]]
    found = heard(frames[:60] + late)
    assert gaps(found) == pytest.approx([90.0], abs=0.5)
    assert sum(ms > 0 for ms in found.late_ms) == 5


def test_a_first_frame_that_comes_late_only_begins_the_answer_later() -> None:
    frames = framed(answer())
    frames[0] = replace(frames[0], arrived_ns=frames[0].due_ns + 30 * MS)
    found = heard(frames)
    assert (gaps(found), found.late_ms[0]) == ([], 30)
    assert found.samples.tobytes() == answer()


def test_silence_that_trimming_has_left_is_a_gap() -> None:
    left = hiss(RATE * 30 // 1000, 5).tobytes()
    found = heard(framed(voice(0.8) + left + pause(60) + voice(1.2, 2)), CLAUSES[:2])
    (seam,) = found.silences
    assert seam.silent_ms == pytest.approx(60, abs=0.5)
    assert seam.quiet_ms == pytest.approx(60 + KEPT_MS + 30, abs=1)
    assert gaps(found) == pytest.approx([30.0], abs=1)


def test_two_sentences_of_one_clause_have_a_pause_between_them() -> None:
    pcm = voice(0.8) + pause(PAUSE_INSIDE_MS) + voice(1.0, 2) + pause(60) + voice(1.2, 3)
    found = heard(framed(pcm), CLAUSES[:2])
    assert [one.asked_ms for one in found.silences] == [150, 60]
    assert gaps(found) == []
    assert gaps(heard(held_up(framed(pcm), 42, 15), CLAUSES[:2])) == []
    longer = voice(0.8) + pause(PAUSE_INSIDE_MS + 25) + voice(1.0, 2) + pause(60) + voice(1.2, 3)
    assert gaps(heard(framed(longer), CLAUSES[:2])) == pytest.approx([25.0], abs=0.5)


def test_a_hole_as_long_as_a_pause_is_not_taken_for_it() -> None:
    found = heard(held_up(framed(answer(63, 150)), 20, 60))
    assert [one.asked_ms for one in found.silences] == [None, *PAUSES]
    assert gaps(found) == pytest.approx([60.0], abs=0.5)


def test_the_shortest_hole_is_seen() -> None:
    (hole,) = (one for one in heard(held_up(framed(answer()), 60, 2)).silences if one.waited_ms)
    assert (hole.asked_ms, hole.gap) == (None, False)
    assert hole.silent_ms == pytest.approx(2, abs=0.2)


def test_clauses_that_run_together_leave_a_pause_too_few() -> None:
    found = heard(framed(voice(0.8) + voice(1.5, 2) + pause(150) + voice(1.2, 3)))
    assert ([one.asked_ms for one in found.silences], found.pauses) == ([150], 2)
    found = heard(framed(voice(0.8) + pause(60) + voice(1.5, 2) + voice(1.2, 3)))
    assert ([one.asked_ms for one in found.silences], found.pauses) == ([60], 2)


@pytest.mark.parametrize("after", [False, True], ids=["before the pause", "after the pause"])
@pytest.mark.parametrize(("step", "expected"), [(2000, True), (-2000, True), (60, False)])
def test_a_step_at_the_edge_of_a_pause_is_a_click(after: bool, step: int, expected: bool) -> None:
    first, second = np.frombuffer(voice(0.8), "<i2").copy(), np.frombuffer(voice(1.2, 2), "<i2").copy()
    if after:
        second[0] = step
    else:
        first[-1] = step
    found = heard(framed(first.tobytes() + pause(60) + second.tobytes()), CLAUSES[:2])
    assert [one.click for one in found.silences] == [expected]


def test_a_step_too_low_to_be_heard_is_no_click() -> None:
    still = np.full(RATE // 10, 90, np.int16).tobytes()
    found = heard(framed(voice(0.8) + pause(60) + still + voice(1.2, 2)), CLAUSES[:2])
    assert [one.click for one in found.silences] == [False]


def test_a_steep_onset_that_the_speech_has_itself_is_no_click() -> None:
    """A consonant that begins at once: its first step is as high as those that follow."""
    burst = np.random.default_rng(4).integers(-4000, 4001, RATE).astype("<i2")
    burst[0] = 3000
    found = heard(framed(voice(0.8) + pause(60) + burst.tobytes()), CLAUSES[:2])
    assert [one.click for one in found.silences] == [False]


@pytest.mark.parametrize("clause", ["x", "x.", "x!", "x?", "x…", "x:", "x;", "x,", 'x."', "x,’ ", "x)", ""])
def test_the_pauses_are_those_that_the_voice_leaves(clause: str) -> None:
    assert pause_after(clause) == core.pause_after(clause)
    assert PAUSE_INSIDE_MS == core.PAUSE_INSIDE_MS
