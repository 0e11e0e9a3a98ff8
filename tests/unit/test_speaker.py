"""The speaker engine on a (virtual) sound card, heard by an independent recorder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import wave
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daemons.engines.portaudio import LossWatch
from daemons.engines.speaker import Speaker
from daemons.engines.whisper import WhisperTranscriber
from ipc.audio import read_wav
from tests.support.speech import words
from tools.bench.soundcard import RECORD_RATE, Recording, SoundCard

pytestmark = pytest.mark.sound

RATE = 22_050
AUDIBLE = 500

PROLOGUE = textwrap.dedent("""
    import asyncio, json, logging, os, queue, signal, sys, time
    from daemons.engines.base import EngineError
    from daemons.engines.fakes_tts import tone
    from daemons.engines.speaker import Speaker

    RATE = 22_050
    told = queue.Queue()
    speaker = Speaker("auto", RATE)
    speaker.on_started = lambda t_ns: told.put(["started", t_ns])
    speaker.on_drained = lambda t_ns: told.put(["drained", t_ns])
    lost = lambda error: told.put(["lost", error.code, str(error)])

    def tell(*what):
        print(json.dumps(what), flush=True)

    def wait():
        tell(*told.get())
""")
"""PortAudio reads its surroundings once per process, so each test has a process of its own."""


@pytest.fixture(scope="module")
def card() -> Iterator[SoundCard]:
    with SoundCard() as card:
        yield card


def run(program: str, env: dict[str, str]) -> list[Any]:
    """What the program told. Nothing may reach its stderr: there PortAudio and ALSA would print."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + textwrap.dedent(program)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def sounding(pcm: bytes) -> list[tuple[float, float]]:
    """Start and length in seconds of each stretch of sound; a gap of 2 ms parts two."""
    found: list[list[int]] = []
    for at, sample in enumerate(array("h", pcm)):
        if abs(sample) > AUDIBLE:
            if found and at - found[-1][1] < RECORD_RATE // 500:
                found[-1][1] = at
            else:
                found.append([at, at])
    return [(first / RECORD_RATE, (last - first) / RECORD_RATE) for first, last in found]


def undisturbed(card: SoundCard, program: str, sounds: int) -> tuple[list[Any], Recording]:
    """Runs a program while the card is recorded, again when it stuttered: a machine that is too busy for a few
    milliseconds makes gaps now and then, a fault makes them each time."""
    for _ in range(5):
        with card.record() as recording:
            told = run(program, card.env)
        if len(sounding(recording.speaker)) == sounds:
            break
    return told, recording


def test_what_is_written_sounds_whole_without_a_gap_and_its_times_are_true(card: SoundCard) -> None:
    told, recording = undisturbed(
        card,
        """
        speaker.start(lost)
        for length in (700, 300):
            for _ in range(length // 10):
                speaker.write(tone(length, RATE)[:RATE // 100 * 2])
            speaker.mark_end()
            wait(); wait()
            tell("now", time.monotonic_ns())
        speaker.close()
        """,
        sounds=2,
    )
    assert [what for what, _ in told] == ["started", "drained", "now"] * 2
    sounds = sounding(recording.speaker)
    assert [length for _, length in sounds] == pytest.approx([0.7, 0.3], abs=0.005)
    first, second = (dict(told[n : n + 3]) for n in (0, 3))
    for times, (_, length) in zip((first, second), sounds, strict=True):
        assert (times["drained"] - times["started"]) / 1e9 == pytest.approx(length, abs=0.05)
        assert times["drained"] <= times["now"]
    apart = sounds[1][0] - sounds[0][0]
    assert (second["started"] - first["started"]) / 1e9 == pytest.approx(apart, abs=0.05)
    assert first["started"] == pytest.approx(recording.started_ns + sounds[0][0] * 1e9, abs=150e6)


def test_a_flush_ends_the_sound_without_a_click_and_calls_nothing_back(card: SoundCard) -> None:
    told, recording = undisturbed(
        card,
        """
        speaker.start(lost)
        speaker.write(tone(5000, RATE))
        speaker.mark_end()
        wait()
        time.sleep(0.3)
        speaker.flush()
        time.sleep(0.5)
        tell("flushed", told.qsize())
        speaker.write(tone(200, RATE))
        speaker.mark_end()
        wait(); wait()
        speaker.close()
        """,
        sounds=2,
    )
    assert [what for what, *_ in told] == ["started", "flushed", "started", "drained"]
    assert told[1] == ["flushed", 0]
    (first, length), (second, _) = sounding(recording.speaker)
    assert length < 1.0
    assert second - first > 0.7
    end = int((first + length) * RECORD_RATE)
    fading = [abs(sample) for sample in array("h", recording.speaker)[end - RECORD_RATE // 1000 : end + 10]]
    assert max(fading) < 12_000, "the tone is cut at its full height"


@pytest.mark.models
def test_speech_is_understood_at_the_speaker(card: SoundCard, tmp_path: Path) -> None:
    with card.record() as recording:
        run(
            """
            from daemons.engines.pcm import trim
            from daemons.engines.piper import PiperSynthesizer

            async def speak():
                voice = PiperSynthesizer("joe")
                async for pcm in voice.synthesize("The plumber comes on Tuesday at nine."):
                    speaker.write(trim(pcm, RATE))
                await voice.close()

            speaker.start(lost)
            asyncio.run(speak())
            speaker.mark_end()
            wait(); wait()
            speaker.close()
            """,
            card.env,
        )
    path = tmp_path / "heard.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RECORD_RATE, 0, "NONE", ""))
        file.writeframes(recording.speaker)
    heard = words(WhisperTranscriber("tiny.en", "cpu", 2).transcribe(read_wav(path)).text)
    assert {"plumber", "comes", "tuesday"} <= set(heard)


@pytest.mark.parametrize(("dac_s", "ahead_ms"), [(1000.5, 200), (1000.1, 40)])
def test_a_callback_that_had_to_wait_tells_the_same_playout_time(
    monkeypatch: pytest.MonkeyPatch, dac_s: float, ahead_ms: int
) -> None:
    """It is called at 1000.0 and runs 300 ms later. What should have sounded by then sounds a latency after it."""
    monkeypatch.setattr("daemons.engines.speaker.time", SimpleNamespace(monotonic_ns=lambda: 5 * 10**9))
    started: list[int] = []
    speaker = Speaker("auto", RATE)
    speaker.on_started = started.append
    speaker._watch = LossWatch("output", "none", print)
    speaker._stream = SimpleNamespace(time=1000.3, latency=0.04)
    speaker.write(bytes(100))
    speaker._fill(bytearray(100), 50, SimpleNamespace(currentTime=1000.0, outputBufferDacTime=dac_s), None)
    assert [round(t_ns / 1e6) - 5000 for t_ns in started] == [ahead_ms]


FAILS = """
    try:
        speaker.start(lost)
    except EngineError as error:
        tell(error.code, str(error))
"""


def test_a_name_that_fits_no_device_is_a_clear_error(card: SoundCard) -> None:
    ((code, text),) = run('speaker = Speaker("Kitchen Radio", RATE)\n' + textwrap.dedent(FAILS), card.env)
    assert code == "device_missing"
    assert "'Kitchen Radio'" in text


def test_no_device_at_all_is_a_clear_error(card: SoundCard) -> None:
    ((code, text),) = run(FAILS, {**card.env, "PULSE_SERVER": "unix:/nowhere"})
    assert (code, text) == ("device_missing", "no speaker: plug one in")


def test_a_missing_portaudio_says_what_to_install(tmp_path: Path, card: SoundCard) -> None:
    """Without the library sounddevice raises OSError when it is imported."""
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n", "ascii")
    path = os.pathsep.join([str(tmp_path), str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    ((code, text),) = run(FAILS, {**card.env, "PYTHONPATH": path})
    assert code == "device_missing"
    assert "apt install libportaudio2" in text


def test_a_device_in_use_is_a_clear_error(card: SoundCard) -> None:
    told = run(
        """
        import sounddevice

        def refuse(*_, **__):
            raise sounddevice.PortAudioError("Error opening RawOutputStream: Device unavailable", -9985)

        sounddevice.RawOutputStream = refuse
        """
        + FAILS.replace("\n    ", "\n        "),
        card.env,
    )
    assert told == [["device_busy", "the speaker 'default' is in use by another program: close it"]]


def test_a_device_that_goes_away_is_noticed_and_nothing_is_printed() -> None:
    with SoundCard() as own:
        told = run(
            f"""
            speaker.start(lost)
            speaker.write(tone(5000, RATE))
            wait()
            os.kill({own.server.pid}, signal.SIGKILL)
            wait()
            speaker.close()
            speaker = Speaker("auto", RATE)
            """
            + FAILS.replace("\n    ", "\n            "),
            own.env,
        )
    assert [what for what, *_ in told] == ["started", "lost", "device_missing"]
    assert told[1] == ["lost", "device_lost", "the speaker 'default' went away: plug it in again"]


def test_a_sound_server_that_hangs_is_noticed_and_does_not_hold_up_the_end() -> None:
    with SoundCard() as own:
        try:
            told = run(
                f"""
                speaker.start(lost)
                speaker.write(tone(5000, RATE))
                wait()
                os.kill({own.server.pid}, signal.SIGSTOP)
                wait()
                speaker.close()
                speaker = Speaker("auto", RATE)
                """
                + FAILS.replace("\n    ", "\n                ")
                + """
                os._exit(0)  # an ordinary exit waits for PortAudio, which waits for the server
                """,
                own.env,
            )
        finally:
            os.kill(own.server.pid, signal.SIGCONT)
    assert [what for what, *_ in told] == ["started", "lost", "device_busy"]
