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


class Trimmer:
    """Takes a phrase in pieces, gives it in pieces: from just before its first audible sample to just after its last
    one, faded at both ends. What may be silence at the end is held back."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._onset, self._decay, self._fade = (rate * length // 1000 for length in (ONSET_MS, DECAY_MS, FADE_MS))
        self._held: array[int] = array("h")
        self._kept = 0
        """How much of what is held ends with the last audible sample and its decay."""
        self._begun = False
        self._risen = False

    def feed(self, pcm: bytes) -> bytes:
        """What surely belongs to the phrase by now; often empty."""
        before = len(self._held)
        self._held.frombytes(pcm)
        last = _first_audible(self._held, range(len(self._held) - 1, before - 1, -1))
        if last is not None:
            self._kept = last + 1 + self._decay
        if not self._begun:
            if last is None:
                self._take(max(0, len(self._held) - self._onset))
                return b""
            first = _first_audible(self._held, range(before, last + 1))
            assert first is not None
            self._take(max(0, first - self._onset))
            self._begun = True
        sure = min(self._kept, len(self._held)) - self._fade
        if not self._risen:
            if sure < self._fade:
                return b""
            _ramp(self._held, self._rate, rising=True)
            self._risen = True
        return self._take(sure).tobytes()

    def end(self) -> bytes:
        """The rest of the phrase; another one may follow."""
        rest = self._take(min(self._kept, len(self._held)))
        if not self._risen:
            _ramp(rest, self._rate, rising=True)
        _ramp(rest, self._rate, rising=False)
        del self._held[:]
        self._kept = 0
        self._begun = self._risen = False
        return rest.tobytes()

    def _take(self, count: int) -> array[int]:
        taken = self._held[:count]
        del self._held[:count]
        self._kept -= count
        return taken


def trim(pcm: bytes, rate: int) -> bytes:
    """A whole phrase, trimmed; empty when nothing is audible."""
    trimmer = Trimmer(rate)
    return trimmer.feed(pcm) + trimmer.end()


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
