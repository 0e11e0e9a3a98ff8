"""Sounds of a room in which nobody speaks, made from a seed: what a transcriber must find no words in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ipc.audio import STT_RATE, to_pcm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float64]
    Random = np.random.Generator

SECONDS = 3
LENGTH = SECONDS * STT_RATE
LEVELS_DB = (-50, -38, -28, -20, -12)
"""Of the loudest sample, below full scale: from hardly audible to close by."""
SETTLE_MS, TRAIL_MS = 400, 1600


def clips(count: int) -> list[tuple[str, bytes]]:
    """So many, each with its name: all kinds by turns, at all levels. STT_RATE, 16-bit mono."""
    import numpy as np

    made = []
    for number in range(count):
        name, make = list(KINDS.items())[number % len(KINDS)]
        level_db = LEVELS_DB[number // len(KINDS) % len(LEVELS_DB)]
        sound = make(np.random.default_rng(number))
        sound = sound / max(float(np.abs(sound).max()), 1e-9) * 10 ** (level_db / 20)
        ends = [np.zeros(ms * STT_RATE // 1000) for ms in (SETTLE_MS, TRAIL_MS)]
        samples = np.concatenate([ends[0], sound, ends[1]]).astype(np.float32)
        made.append((f"{name} {level_db} dB", to_pcm(samples)))
    return made


def _silence(chance: Random) -> Samples:
    import numpy as np

    return np.zeros(LENGTH)


def _coloured(exponent: float) -> Callable[[Random], Samples]:
    """Noise whose power falls as 1 / frequency ** exponent."""

    def make(chance: Random) -> Samples:
        import numpy as np

        spectrum = np.fft.rfft(chance.normal(size=LENGTH))
        frequencies = np.fft.rfftfreq(LENGTH, 1 / STT_RATE)
        sound: Samples = np.fft.irfft(spectrum / np.maximum(frequencies, 20) ** (exponent / 2), LENGTH)
        return sound

    return make


def _hum(chance: Random) -> Samples:
    """Of the mains, with its harmonics."""
    base = float(chance.choice([50, 60]))
    return _sum_of(chance, [(base * n, 1 / n) for n in range(1, 8)])


def _melody(chance: Random) -> Samples:
    """Notes of a second, with overtones, as from a radio in the next room."""
    import numpy as np

    notes = [220 * 2 ** (float(chance.integers(0, 24)) / 12) for _ in range(SECONDS * 2)]
    parts = [_sum_of(chance, [(note * n, 1 / n**2) for n in range(1, 5)])[: LENGTH // len(notes)] for note in notes]
    sound: Samples = np.concatenate(parts) * np.tile(_decay(LENGTH // len(notes), 0.3), len(notes))
    return sound


def _clicks(chance: Random) -> Samples:
    return _strokes(chance, 12, 0.002)


def _keys(chance: Random) -> Samples:
    return _strokes(chance, 28, 0.012)


def _knocks(chance: Random) -> Samples:
    return _strokes(chance, 5, 0.06)


def _breath(chance: Random) -> Samples:
    """Noise that swells and falls every two seconds."""
    import numpy as np

    swell = np.clip(np.sin(2 * np.pi * np.arange(LENGTH) / (2 * STT_RATE) + float(chance.uniform(0, 6))), 0, None)
    sound: Samples = _coloured(1.0)(chance) * swell**2
    return sound


def _fan(chance: Random) -> Samples:
    """Brown noise with the beat of the blades."""
    import numpy as np

    beat = 1 + 0.5 * np.sin(2 * np.pi * float(chance.uniform(4, 30)) * np.arange(LENGTH) / STT_RATE)
    return _coloured(2.0)(chance) * beat


def _strokes(chance: Random, count: int, length_s: float) -> Samples:
    """Bursts of noise at random moments."""
    import numpy as np

    sound, size = np.zeros(LENGTH), int(length_s * STT_RATE * 4)
    for start in chance.integers(0, LENGTH - size, count):
        sound[start : start + size] += chance.normal(size=size) * _decay(size, length_s)
    return sound


def _sum_of(chance: Random, waves: list[tuple[float, float]]) -> Samples:
    """Sines of these frequencies and heights, each beginning anywhere."""
    import numpy as np

    at = np.arange(LENGTH) / STT_RATE
    sound = np.zeros(LENGTH)
    for frequency, height in waves:
        sound += height * np.sin(2 * np.pi * frequency * at + float(chance.uniform(0, 2 * np.pi)))
    return sound


def _decay(size: int, length_s: float) -> Samples:
    import numpy as np

    return np.exp(-np.arange(size) / (length_s * STT_RATE))


KINDS: dict[str, Callable[[Random], Samples]] = {
    "silence": _silence,
    "white noise": _coloured(0.0),
    "pink noise": _coloured(1.0),
    "brown noise": _coloured(2.0),
    "hum": _hum,
    "melody": _melody,
    "clicks": _clicks,
    "keys": _keys,
    "knocks": _knocks,
    "breath": _breath,
    "fan": _fan,
}
