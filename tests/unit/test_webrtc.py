"""The voice detector on real speech, silence and noise."""

from __future__ import annotations

import numpy as np
import pytest

from daemons.engines.webrtc import WebRtcDetector
from ipc.audio import FRAME_BYTES, FRAME_MS, silence, to_pcm
from tests.support.speech import speak


def verdicts(pcm: bytes, aggressiveness: int = 2) -> list[bool]:
    detector = WebRtcDetector(aggressiveness)
    frames = range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES)
    return [detector.is_speech(pcm[at : at + FRAME_BYTES]) for at in frames]


@pytest.mark.models
@pytest.mark.parametrize("aggressiveness", [0, 1, 2, 3])
def test_speech_is_voiced_and_its_end_is_seen_at_once(aggressiveness: int) -> None:
    speech = speak("Where is the spare key?")
    samples = np.abs(np.frombuffer(speech, "<i2").astype(np.int32))
    end_frame = int(np.nonzero(samples > samples.max() // 50)[0][-1]) * 2 // FRAME_BYTES
    voiced = verdicts(speech + silence(1000), aggressiveness)
    assert sum(voiced[:end_frame]) > 0.7 * end_frame
    last = max(n for n, verdict in enumerate(voiced) if verdict)
    assert abs(last - end_frame) <= 60 // FRAME_MS


def test_silence_and_a_faint_hiss_are_not() -> None:
    hiss = to_pcm(np.random.default_rng(1).normal(0, 1e-3, 32_000).astype(np.float32))
    assert not any(verdicts(silence(2000)))
    assert sum(verdicts(hiss)) <= 3


def test_a_steady_noise_becomes_the_background() -> None:
    noise = to_pcm(np.random.default_rng(1).normal(0, 0.1, 16_000 * 20).astype(np.float32))
    assert not any(verdicts(noise)[-200:])
