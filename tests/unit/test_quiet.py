"""What is held back on its way from a microphone, and what never is."""

from __future__ import annotations

import random
from array import array

from daemons.engines.webrtc import WebRtcDetector
from ipc.audio import FRAME_BYTES, read_wav
from ipc.quiet import HELD_FRAMES, QUIET_AFTER_FRAMES, Background, QuietHold, level_db
from tests.support.suite import EXAMPLES

STILL = bytes(FRAME_BYTES)


def noise(amplitude: int, seed: int = 1) -> bytes:
    draw = random.Random(seed)
    return array("h", (draw.randint(-amplitude, amplitude) for _ in range(FRAME_BYTES // 2))).tobytes()


def frames(pcm: bytes) -> list[bytes]:
    return [pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES)]


def test_the_level_is_the_mean_power_below_full_scale() -> None:
    assert level_db(array("h", [32767, -32767] * 160).tobytes()) > -0.01
    assert round(level_db(array("h", [3277, -3277] * 160).tobytes())) == -20
    assert level_db(STILL) == -100


def test_quiet_goes_on_at_once_until_it_has_lasted_and_then_in_groups() -> None:
    hold: QuietHold[int] = QuietHold()
    passed = [hold.push(number, STILL) for number in range(QUIET_AFTER_FRAMES + 3 * HELD_FRAMES)]
    assert passed[:QUIET_AFTER_FRAMES] == [[number] for number in range(QUIET_AFTER_FRAMES)]
    groups = [group for group in passed[QUIET_AFTER_FRAMES:] if group]
    assert [len(group) for group in groups] == [HELD_FRAMES] * 3
    assert [number for group in passed for number in group] == list(range(len(passed))), "none is lost or out of order"


def test_a_frame_that_stands_out_takes_what_was_held_with_it() -> None:
    hold: QuietHold[int] = QuietHold()
    for number in range(QUIET_AFTER_FRAMES):
        hold.push(number, STILL)
    assert hold.push(900, STILL) == hold.push(901, STILL) == []
    assert hold.push(902, noise(3000)) == [900, 901, 902]
    assert hold.push(903, STILL) == [903], "the quiet begins anew"


def test_a_steady_noise_becomes_the_background() -> None:
    background = Background()
    hum = [background.exceeded_by(level_db(noise(1000, seed))) for seed in range(1000)]
    assert hum[0]
    assert not any(hum[-100:])


def test_what_the_detector_calls_speech_is_never_held() -> None:
    said = read_wav(EXAMPLES / "2-capital.wav")
    room = b"".join(noise(40, seed) for seed in range(300))
    detector, hold = WebRtcDetector(2), QuietHold[int]()
    held = spoken = 0
    for number, pcm in enumerate(frames(room + said + room + said)):
        voiced, passed = detector.is_speech(pcm), hold.push(number, pcm)
        spoken += voiced
        held += not passed
        assert not voiced or number in passed
    assert spoken > 50
    assert held > 100
