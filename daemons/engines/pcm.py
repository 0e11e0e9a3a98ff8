"""Edges of speech: 16-bit mono PCM without the silence around it, faded so that no seam clicks."""

from __future__ import annotations

from array import array

AUDIBLE = 300
"""Amplitude (of 32,767) that counts as sound: -41 dB. Piper's own hiss between words stays below it."""

ONSET_MS = 5
"""Kept before the first audible sample: soft consonants begin below AUDIBLE."""

DECAY_MS = 15
"""Kept after the last audible sample."""

FADE_MS = 3


def duration_ns(pcm: bytes, rate: int) -> int:
    return len(pcm) // 2 * 1_000_000_000 // rate


def silence(milliseconds: int, rate: int) -> bytes:
    return bytes(rate * milliseconds // 1000 * 2)


def trim(pcm: bytes, rate: int) -> bytes:
    """`pcm` from just before its first audible sample to just after its last one, faded at both ends; empty
    when nothing is audible."""
    samples = array("h", pcm)
    first = _first_audible(samples, range(len(samples)))
    if first is None:
        return b""
    last = _first_audible(samples, range(len(samples) - 1, -1, -1))
    assert last is not None
    start = max(0, first - rate * ONSET_MS // 1000)
    kept = samples[start : last + 1 + rate * DECAY_MS // 1000]
    _ramp(kept, rate, rising=True)
    _ramp(kept, rate, rising=False)
    return kept.tobytes()


def fade_out(pcm: bytes, rate: int) -> bytes:
    """The first FADE_MS of `pcm`, faded to nothing: how sound stops in the middle."""
    samples = array("h", pcm[: rate * FADE_MS // 1000 * 2])
    _ramp(samples, rate, rising=False)
    return samples.tobytes()


def _first_audible(samples: array[int], order: range) -> int | None:
    return next((at for at in order if not -AUDIBLE < samples[at] < AUDIBLE), None)


def _ramp(samples: array[int], rate: int, *, rising: bool) -> None:
    length = min(rate * FADE_MS // 1000, len(samples))
    for step in range(length):
        at = step if rising else len(samples) - 1 - step
        samples[at] = samples[at] * step // length
