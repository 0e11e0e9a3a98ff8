"""Where in a frame the voice ends."""

from __future__ import annotations

import numpy as np
import pytest

from daemons.engines.base import FRAME_BYTES
from ipc.audio import FRAME_NS, STT_RATE, to_pcm, voice_ns

MS = 1_000_000


@pytest.mark.parametrize("voiced_ms", [1, 7.5, 13, 20])
@pytest.mark.parametrize("height", [0.005, 0.9])
def test_a_voice_lasts_to_its_last_sample_of_height(voiced_ms: float, height: float) -> None:
    """A hum of 200 Hz over noise 30 dB below it."""
    at = np.arange(FRAME_BYTES // 2)
    hum = np.where(at < voiced_ms * STT_RATE / 1000, np.sign(np.sin(at * 2 * np.pi * 200 / STT_RATE + 0.1)), 0)
    noise = np.random.default_rng(3).uniform(-0.03, 0.03, len(at))
    pcm = to_pcm((height * (hum + noise)).astype(np.float32))
    assert voice_ns(pcm) == pytest.approx(voiced_ms * MS, abs=0.1 * MS)


def test_digital_silence_that_a_detector_calls_voiced_lasts_its_frame() -> None:
    assert voice_ns(bytes(FRAME_BYTES)) == FRAME_NS
