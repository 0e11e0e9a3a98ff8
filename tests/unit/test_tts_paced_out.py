"""Outputs paced by the clock, in simulated time."""

from __future__ import annotations

import asyncio
import wave
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from daemons.engines.base import EngineError
from daemons.engines.fakes_tts import tone
from daemons.engines.paced_out import AHEAD_NS, LEAD_NS, PacedOut, null_out, wav_out
from ipc.errors import Code

RATE = 16_000
MS = 1_000_000
FRAME = RATE // 50 * 2


class SimulatedClock:
    """Time that passes when `advance` says so."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * MS
        self._timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now_ns / 1e9

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        loop = asyncio.new_event_loop()
        loop.close()
        timer = asyncio.TimerHandle(when, callback, (), loop)
        self._timers.append(timer)
        return timer

    def advance(self, milliseconds: int) -> None:
        for _ in range(milliseconds):
            self.now_ns += MS
            due = [timer for timer in self._timers if timer.when() <= self.time()]
            self._timers = [timer for timer in self._timers if timer not in due]
            for timer in due:
                if not timer.cancelled():
                    timer._run()


class Stage:
    """A PacedOut, its clock, and what came of it."""

    def __init__(self, ahead_ns: int = AHEAD_NS) -> None:
        self.clock = SimulatedClock()
        self.frames: list[tuple[int, int, bytes, bool]] = []  # handed over at, due at, sound, last
        self.told: list[tuple[str, int, int]] = []  # what, time told, time now
        self.out = PacedOut("test", RATE, self.take, ahead_ns, self.clock)
        self.out.on_started = lambda t_ns: self.told.append(("started", t_ns, self.clock.now_ns))
        self.out.on_drained = lambda t_ns: self.told.append(("drained", t_ns, self.clock.now_ns))
        self.begin_ns = self.clock.now_ns + LEAD_NS

    def take(self, t_ns: int, pcm: bytes, last: bool) -> None:
        self.frames.append((self.clock.now_ns, t_ns, pcm, last))

    @property
    def pcm(self) -> bytes:
        return b"".join(pcm for _, _, pcm, _ in self.frames)


@pytest.mark.parametrize("ahead_ns", [AHEAD_NS, 0])
def test_frames_are_contiguous_and_never_further_ahead_than_allowed(ahead_ns: int) -> None:
    stage = Stage(ahead_ns)
    sound = tone(1010, RATE)
    stage.out.write(sound[:5000])
    stage.out.write(sound[5000:])
    stage.out.mark_end()
    stage.clock.advance(1100)
    assert stage.pcm == sound
    due_ns = stage.begin_ns
    for at_ns, t_ns, pcm, _ in stage.frames:
        assert t_ns == due_ns
        assert len(pcm) <= FRAME
        assert t_ns - at_ns <= ahead_ns + LEAD_NS
        due_ns += len(pcm) // 2 * 1_000_000_000 // RATE
    assert [last for *_, last in stage.frames] == [False] * (len(stage.frames) - 1) + [True]


def test_drained_comes_after_the_last_sample() -> None:
    stage = Stage()
    stage.out.write(tone(500, RATE))
    stage.out.mark_end()
    stage.clock.advance(504)
    assert [what for what, *_ in stage.told] == ["started"]
    stage.clock.advance(10)
    end_ns = stage.begin_ns + 500 * MS
    (_, started_ns, _), (what, drained_ns, told_ns) = stage.told
    assert (what, started_ns, drained_ns) == ("drained", stage.begin_ns, end_ns)
    assert told_ns >= end_ns


def test_what_comes_too_late_leaves_a_gap_in_the_times_and_starts_nothing_anew() -> None:
    stage = Stage()
    stage.out.write(tone(40, RATE))
    stage.clock.advance(500)
    stage.out.write(tone(20, RATE))
    assert stage.frames[-1][1] == stage.clock.now_ns + LEAD_NS
    stage.out.mark_end()
    stage.clock.advance(100)
    assert [what for what, *_ in stage.told] == ["started", "drained"]


def test_a_flush_tells_when_the_sound_ends_and_calls_nothing_back() -> None:
    stage = Stage()
    stage.out.write(tone(2000, RATE))
    stage.out.mark_end()
    stage.clock.advance(500)
    handed = len(stage.frames)
    stage.out.flush()
    assert stage.frames[handed:] == [(stage.clock.now_ns, stage.clock.now_ns, b"", True)]
    stage.clock.advance(3000)
    assert len(stage.frames) == handed + 1
    assert [what for what, *_ in stage.told] == ["started"]


def test_a_flush_of_what_was_handed_over_but_has_not_sounded_is_told_as_well() -> None:
    stage = Stage()
    stage.out.write(tone(100, RATE))
    stage.out.mark_end()
    stage.clock.advance(20)
    stage.out.flush()
    assert stage.frames[-1] == (stage.clock.now_ns, stage.clock.now_ns, b"", True)
    stage.clock.advance(200)
    assert [what for what, *_ in stage.told] == ["started"]


def test_a_flush_of_nothing_is_silent_and_the_next_utterance_is_whole() -> None:
    stage = Stage()
    stage.out.flush()
    assert stage.frames == []
    stage.out.write(tone(100, RATE))
    stage.clock.advance(50)
    stage.out.flush()
    stage.out.write(tone(60, RATE))
    stage.out.mark_end()
    stage.clock.advance(200)
    assert [what for what, *_ in stage.told] == ["started", "started", "drained"]
    assert stage.pcm.endswith(tone(60, RATE))


def test_a_sink_that_cannot_take_it_is_a_lost_output() -> None:
    lost: list[EngineError] = []

    def full(t_ns: int, pcm: bytes, last: bool) -> None:
        raise OSError(28, "No space left on device")

    clock = SimulatedClock()
    out = PacedOut("answers.wav", RATE, full, clock=clock)
    out.start(lost.append)
    out.write(tone(20, RATE))
    clock.advance(10)
    assert [(error.code, str(error)) for error in lost] == [(Code.DEVICE_LOST, "answers.wav: No space left on device")]


def test_a_closed_output_hands_nothing_over() -> None:
    stage = Stage()
    stage.out.write(tone(1000, RATE))
    handed = len(stage.frames)
    stage.out.close()
    stage.clock.advance(1000)
    assert len(stage.frames) == handed


def test_a_wav_file_gets_all_that_was_spoken_and_is_whole_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "spoken.wav"

    async def speak() -> array[int]:
        drained = asyncio.Event()
        out = wav_out(path, RATE)
        out.on_drained = lambda t_ns: drained.set()
        out.write(tone(60, RATE))
        out.mark_end()
        await drained.wait()
        with wave.open(str(path)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
            spoken = array("h", file.readframes(file.getnframes()))
        out.close()
        return spoken

    assert asyncio.run(speak()) == array("h", tone(60, RATE))


def test_a_wav_file_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot be written: No such file or directory") as caught:
        wav_out(tmp_path / "missing" / "spoken.wav", RATE)
    assert caught.value.code is Code.DEVICE_MISSING


def test_a_null_output_takes_the_time_that_speaking_takes() -> None:
    async def speak() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        started, drained = loop.create_future(), loop.create_future()
        out = null_out(RATE)
        out.on_started, out.on_drained = started.set_result, drained.set_result
        out.write(tone(80, RATE))
        out.mark_end()
        return await started, await drained

    started_ns, drained_ns = asyncio.run(speak())
    assert drained_ns - started_ns == 80 * MS
