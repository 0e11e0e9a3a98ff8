"""A WAV file as the microphone."""

from __future__ import annotations

import queue
import wave
from pathlib import Path

import pytest

from daemons.engines.base import EngineError, Frame
from daemons.engines.wav_in import WavInput
from ipc.audio import FRAME_BYTES, FRAME_NS
from ipc.errors import Code

SOUND = bytes([1, 2]) * (FRAME_BYTES // 2) * 3


def no_loss(error: EngineError) -> None:
    raise AssertionError(error)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(SOUND)
    return tmp_path / "clip.wav"


def test_silence_the_sound_and_silence_without_a_gap(clip: Path) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    source = WavInput(clip, before_ms=40)
    source.start(frames.put, no_loss)
    heard = [frames.get(timeout=10) for _ in range(60)]
    source.close()
    assert b"".join(frame.pcm for frame in heard) == bytes(2 * FRAME_BYTES) + SOUND + bytes(55 * FRAME_BYTES)
    assert [frame.t_ns - heard[0].t_ns for frame in heard] == [n * FRAME_NS for n in range(60)]


def test_it_may_end(clip: Path) -> None:
    frames: list[Frame] = []
    source = WavInput(clip, after_ms=20)
    source.start(frames.append, no_loss)
    assert source._thread is not None
    source._thread.join(10)
    assert b"".join(frame.pcm for frame in frames) == SOUND + bytes(FRAME_BYTES)
    source.close()


def test_a_bad_file_is_a_missing_device(tmp_path: Path) -> None:
    source = WavInput(tmp_path / "none.wav")
    with pytest.raises(EngineError, match=r"none\.wav: No such file") as caught:
        source.start(lambda frame: None, no_loss)
    assert caught.value.code is Code.DEVICE_MISSING
    source.close()
