"""The microphone: faults by a stand-in for the sounddevice module, the rest on a virtual sound card."""

from __future__ import annotations

import builtins
import json
import queue
import subprocess
import sys
import threading
import wave
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from daemons.engines import microphone, portaudio
from daemons.engines.base import EngineError, Frame
from daemons.engines.framing import Framer
from daemons.engines.microphone import Microphone
from ipc.audio import FRAME_BYTES, FRAME_NS, STT_RATE, to_pcm
from ipc.errors import Code
from tools.bench.soundcard import SoundCard

MS = 1_000_000


class PortAudioError(Exception):
    pass


class Stream:
    """What RawInputStream does, by hand."""

    def __init__(self, module: FakeSounddevice, settings: dict[str, Any]) -> None:
        self.settings, self._module = settings, module
        self.closed = threading.Event()

    def start(self) -> None:
        if self._module.start_error:
            raise self._module.start_error

    def block(self, pcm: bytes, age_s: float, overflow: bool = False, waited_s: float = 0.0) -> None:
        """`age_s`: of the block's first sample, when PortAudio asked for the callback `waited_s` ago."""
        times = SimpleNamespace(currentTime=1000.0, inputBufferAdcTime=1000.0 - age_s)
        self.time = 1000.0 + waited_s
        self.settings["callback"](pcm, len(pcm) // 2, times, SimpleNamespace(input_overflow=overflow))

    def finish(self) -> None:
        self.settings["finished_callback"]()

    def close(self, ignore_errors: bool) -> None:
        self._module.go_on.wait()
        self.finish()
        self.closed.set()


class FakeSounddevice(ModuleType):
    PortAudioError = PortAudioError

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.devices = ["Webcam"]
        self.rates = {16_000, 48_000}
        self.open_error: Exception | None = None
        self.start_error: Exception | None = None
        self.streams: list[Stream] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.terminated = 0

    def _terminate(self) -> None:
        self.terminated += 1

    def _initialize(self) -> None:
        pass

    def query_devices(self, name: str | None, kind: str) -> dict[str, Any]:
        assert kind == "input"
        found = [device for device in self.devices if name is None or name in device]
        if not found and name is None:
            raise PortAudioError("Error querying device -1")
        if len(found) != 1 and name is not None:
            raise ValueError(f"{len(found)} devices")
        return {"index": 0, "name": found[0], "default_samplerate": 48_000.0}

    def check_input_settings(self, *_: Any, samplerate: int, **__: Any) -> None:
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate", -9997)

    def RawInputStream(self, **settings: Any) -> Stream:
        if self.open_error:
            raise self.open_error
        self.streams.append(Stream(self, settings))
        return self.streams[-1]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    fake = FakeSounddevice()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(portaudio, "_mute_libraries", lambda: None)
    monkeypatch.setattr(portaudio, "streams", portaudio._Streams())
    monkeypatch.setattr(portaudio, "surroundings", lambda: ("card 0",))
    return fake


def nothing(_: Any) -> None:
    pass


def failure(name: str = "auto") -> EngineError:
    source = Microphone(name)
    with pytest.raises(EngineError) as caught:
        source.start(nothing, nothing)
    source.close()
    assert "\n" not in str(caught.value)
    return caught.value


def test_no_portaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(portaudio, "_mute_libraries", lambda: None)
    error = failure()
    assert error.code is Code.DEVICE_MISSING
    assert "apt install libportaudio2" in str(error)


def test_no_microphone(module: FakeSounddevice) -> None:
    module.devices = []
    assert (failure().code, str(failure())) == (Code.DEVICE_MISSING, "no microphone: plug one in")


def test_no_microphone_of_that_name(module: FakeSounddevice) -> None:
    error = failure("Headset")
    assert error.code is Code.DEVICE_MISSING
    assert "no microphone called 'Headset'" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        PortAudioError("Error opening RawInputStream: Device unavailable", -9985),
        PortAudioError("Unanticipated host error: 'Device or resource busy'", -9999),
    ],
)
@pytest.mark.parametrize("at", ["open_error", "start_error"])
def test_a_busy_device(module: FakeSounddevice, error: PortAudioError, at: str) -> None:
    setattr(module, at, error)
    assert failure().code is Code.DEVICE_BUSY
    assert "in use by another program" in str(failure())
    assert all(stream.closed.wait(10) for stream in module.streams)


def test_a_device_that_cannot_be_opened(module: FakeSounddevice) -> None:
    module.open_error = PortAudioError("Error opening RawInputStream: Invalid device")
    assert failure().code is Code.DEVICE_MISSING
    assert "Invalid device" in str(failure())


def opened(module: FakeSounddevice, on_frame: Callable[[Frame], None] = nothing) -> tuple[Microphone, Stream, queue.Queue[EngineError]]:  # fmt: skip # noqa: E501
    lost: queue.Queue[EngineError] = queue.Queue()
    source = Microphone()
    source.start(on_frame, lost.put)
    return source, module.streams[-1], lost


def test_a_device_that_goes_away_is_told_once(module: FakeSounddevice) -> None:
    source, stream, lost = opened(module)
    stream.finish()
    stream.finish()
    error = lost.get(timeout=10)
    assert error.code is Code.DEVICE_LOST
    assert "'Webcam' went away" in str(error)
    source.close()
    assert lost.empty()


def test_a_device_that_falls_silent_has_gone_away(module: FakeSounddevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portaudio, "_SILENT_S", 0.1)
    source, _, lost = opened(module)
    assert lost.get(timeout=10).code is Code.DEVICE_LOST
    source.close()


def test_closing_is_no_loss(module: FakeSounddevice) -> None:
    source, stream, lost = opened(module)
    source.close()
    assert stream.closed.wait(10)
    assert lost.empty()


def test_a_sound_server_that_hangs_delays_nobody(module: FakeSounddevice) -> None:
    module.go_on.clear()
    source, stream, _ = opened(module)
    source.close()
    assert not stream.closed.is_set()
    error = failure()
    assert (error.code, "does not answer" in str(error)) == (Code.DEVICE_BUSY, True)
    module.go_on.set()
    assert stream.closed.wait(10)


def test_a_second_stream_of_the_process_does_not_end_the_first(module: FakeSounddevice) -> None:
    source, stream, lost = opened(module)
    second, _, _ = opened(module)
    assert (module.terminated, stream.closed.is_set(), lost.empty()) == (1, False, True)
    for each in (source, second):
        each.close()
    opened(module)[0].close()
    assert module.terminated == 2, "with nothing open it looks again"


def test_what_was_plugged_in_is_found_at_the_price_of_a_loss(
    module: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, stream, lost = opened(module)
    monkeypatch.setattr(portaudio, "surroundings", lambda: ("card 0", "card 1"))
    second, _, _ = opened(module)
    assert (module.terminated, stream.closed.is_set()) == (2, True)
    assert lost.get(timeout=10).code is Code.DEVICE_LOST
    stream.closed.clear()
    source.close()
    assert not stream.closed.is_set(), "PortAudio has forgotten it"
    second.close()


def test_samples_that_were_lost_are_told_but_not_each(
    module: FakeSounddevice, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "_OVERFLOW_REPORT_S", 3600.0)
    monkeypatch.setattr(
        "daemons.engines.microphone.time", SimpleNamespace(monotonic=lambda: 1e6, monotonic_ns=lambda: 10**15)
    )
    source, stream, _ = opened(module)
    for _ in range(3):
        stream.block(bytes(FRAME_BYTES), 0.03, overflow=True)
    source.close()
    assert [record.getMessage() for record in caplog.records] == [
        "the microphone lost samples: this machine is too busy"
    ]


@pytest.mark.parametrize(
    ("age_s", "waited_s", "believed_ms"),
    [(0.05, 0.0, 50), (0.05, 0.3, 350), (0.0, 0.0, 20), (-3.0, 0.0, 20), (900.0, 0.0, 20)],
)
def test_the_capture_time_is_the_sound_cards_if_it_can_be_true(
    module: FakeSounddevice, monkeypatch: pytest.MonkeyPatch, age_s: float, waited_s: float, believed_ms: int
) -> None:
    monkeypatch.setattr(
        "daemons.engines.microphone.time", SimpleNamespace(monotonic=lambda: 5.0, monotonic_ns=lambda: 5_000 * MS)
    )
    frames: list[Frame] = []
    source, stream, _ = opened(module, frames.append)
    stream.block(bytes(FRAME_BYTES), age_s, waited_s=waited_s)
    source.close()
    assert [round((5_000 * MS - frame.t_ns) / MS) for frame in frames] == [believed_ms]


def test_a_device_without_our_rate_is_converted(module: FakeSounddevice) -> None:
    module.rates = {48_000}
    frames: list[Frame] = []
    source, stream, _ = opened(module, frames.append)
    assert (stream.settings["samplerate"], stream.settings["blocksize"]) == (48_000, 960)
    tone = np.sin(np.arange(48_000) * 2 * np.pi * 440 / 48_000).astype(np.float32) / np.float32(2)
    for at in range(0, 48_000, 960):
        stream.block(to_pcm(tone[at : at + 960]), 0.02)
    source.close()
    heard = np.frombuffer(b"".join(frame.pcm for frame in frames), "<i2") / 32768
    expected = np.sin(np.arange(len(heard)) * 2 * np.pi * 440 / STT_RATE) / 2
    assert len(frames) >= 48
    assert np.abs(heard - expected)[100:].max() < 1e-3


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_frames_bear_the_time_of_their_first_sample(rate: int) -> None:
    """Blocks of odd sizes, from a sound card whose clock runs 1 % fast."""
    frames: list[Frame] = []
    framer, taken = Framer(rate, frames.append), 0
    for size in [100, 333, 1000, 17, 2500] * 20:
        framer.push(int(taken / (rate * 1.01) * 1e9), bytes(2 * size))
        taken += size
    for number, frame in enumerate(frames):
        assert len(frame.pcm) == FRAME_BYTES
        assert abs(frame.t_ns - number * FRAME_NS / 1.01) < 2 * MS


LISTEN = """
import json, sys, threading
from daemons.engines.microphone import Microphone
frames, lost, enough = [], [], threading.Event()
def on_frame(frame):
    frames.append(frame)
    if len(frames) == int(sys.argv[1]):
        print("listening", flush=True)
def on_lost(error):
    lost.append(str(error)); enough.set()
source = Microphone()
source.start(on_frame, on_lost)
threading.Thread(target=lambda: sys.stdin.readline() and enough.set(), daemon=True).start()
enough.wait()
source.close()
loud = [frame.t_ns for frame in frames if max(frame.pcm) > 0]
print(json.dumps({"name": source.name, "times": [frame.t_ns for frame in frames], "loud": loud, "lost": lost}))
"""


def listener(card: SoundCard) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", LISTEN, "10"], env=card.env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    return process


@pytest.mark.sound
def test_a_real_device_gives_an_unbroken_stream(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(
            to_pcm(np.sin(np.arange(16_000) * 2 * np.pi * 440 / STT_RATE).astype(np.float32) / np.float32(2))
        )
    with SoundCard() as card:
        process = listener(card)
        card.play(tmp_path / "tone.wav")
        out, err = process.communicate("enough\n", timeout=30)
    heard = json.loads(out)
    assert err == "", "PortAudio keeps its remarks to itself"
    assert heard["lost"] == []
    assert 40 <= len(heard["loud"]) <= 60, "the second of tone, and not more"
    steps = np.diff(heard["times"]) / MS
    assert abs(np.mean(steps) - 20) < 2


@pytest.mark.sound
def test_a_real_device_that_goes_away_is_noticed() -> None:
    with SoundCard() as card:
        process = listener(card)
        card.unplug()
        out, err = process.communicate(timeout=30)
    assert "went away" in json.loads(out)["lost"][0]
    assert err == ""
