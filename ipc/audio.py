"""Audio as it travels to the transcriber: its shape, WAV files in that shape, and the pace of a microphone.

Both ends need it: the hearing daemon, and the clients that send it audio. numpy is imported only when a file
is read or a rate converted.
"""

from __future__ import annotations

import math
import stat
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ipc.errors import EXIT_NO_INPUT, TimmyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

STT_RATE = 16_000
"""Samples per second of all audio on its way to the transcriber (Whisper's own rate)."""

FRAME_MS = 20
"""Length of an audio frame on the wire and in the daemons."""

FRAME_NS = FRAME_MS * 1_000_000

FRAME_BYTES = STT_RATE * FRAME_MS // 1000 * 2
"""One such frame: signed 16-bit little-endian mono."""

WAV_MAX_BYTES = 64 * 1024 * 1024
"""Nearly six minutes of 48 kHz stereo: a larger file is not a spoken question."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_ZERO_CROSSINGS = 16
_KAISER_BETA = 9.0


class WavError(TimmyError):
    """A file that cannot be played as speech. The text names the file and what is wrong with it."""

    exit_status = EXIT_NO_INPUT


class PacedFrame(NamedTuple):
    """A frame, the capture time of its first sample, and when a microphone would hand it over."""

    t_ns: int
    due_ns: int
    pcm: bytes


def paced(pcm: bytes, start_ns: int) -> Iterator[PacedFrame]:
    """Cuts `pcm` into frames as a microphone opened at `start_ns` would give them: each is due when its last
    sample has been captured. The schedule is absolute, so a late caller does not make it drift. The last
    frame is filled up with silence."""
    for index, offset in enumerate(range(0, len(pcm), FRAME_BYTES)):
        t_ns = start_ns + index * FRAME_NS
        yield PacedFrame(t_ns, t_ns + FRAME_NS, pcm[offset : offset + FRAME_BYTES].ljust(FRAME_BYTES, b"\0"))


def silence(milliseconds: int) -> bytes:
    return bytes(STT_RATE * milliseconds // 1000 * 2)


def voice_ns(pcm: bytes) -> int:
    """How long the voice in a voiced frame lasts, since it ends anywhere in its last one: up to the last sample that
    is at least a tenth as high as the highest."""
    heights = [abs(sample) for sample in array("h", pcm)]
    least = max(heights) / 10
    last = next(at for at in range(len(heights) - 1, -1, -1) if heights[at] >= least)
    return (last + 1) * 1_000_000_000 // STT_RATE


def read_wav(path: Path) -> bytes:
    """The sound of a WAV file as STT_RATE 16-bit mono: 8, 16, 24 or 32-bit or float samples of any rate and
    number of channels (mixed). Raises WavError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise WavError(f"{path}: not a file")
        if path.stat().st_size > WAV_MAX_BYTES:
            raise WavError(f"{path}: larger than {WAV_MAX_BYTES >> 20} MiB; cut it")
        data = path.read_bytes()
    except OSError as error:
        raise WavError(f"{path}: {error.strerror}") from None
    try:
        return _decode(data)
    except WavError as error:
        raise WavError(f"{path}: {error}") from None


class _Format(NamedTuple):
    kind: int
    channels: int
    rate: int
    align: int
    bits: int


def _decode(data: bytes) -> bytes:
    if not data:
        raise WavError("the file is empty")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise WavError("not a WAV file (no RIFF/WAVE header)")
    fmt: _Format | None = None
    for name, body, size in _chunks(data):
        if name == b"fmt ":
            fmt = _format(body)
        elif name == b"data":
            if fmt is None:
                raise WavError("damaged: the sound comes before its format")
            if len(body) < size:
                raise WavError(f"truncated: {size} bytes of sound promised, {len(body)} there")
            if fmt[:3] == (_PCM, 1, STT_RATE) and fmt.bits == 16 and len(body) > 1:
                return bytes(body[: len(body) // 2 * 2])  # as it is wanted
            return to_pcm(_convert(_samples(body, fmt), fmt.rate))
    raise WavError("truncated: it ends before the sound")


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """(name, what is there of it, its promised size) of each chunk."""
    view, offset = memoryview(data), 12
    while offset + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, offset)
        yield name, view[offset + 8 : offset + 8 + size], size
        offset += 8 + size + size % 2


def _format(body: memoryview) -> _Format:
    if len(body) < 16:
        raise WavError("truncated: its format is cut off")
    kind, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", body)
    if kind == _EXTENSIBLE and len(body) >= 26:
        (kind,) = struct.unpack_from("<H", body, 24)  # the sub-format GUID begins with the plain tag
    fmt = _Format(kind, channels, rate, align, bits)
    if (kind, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        raise WavError(f"compressed or unknown encoding (tag {kind}, {bits} bits); save it as 16-bit PCM")
    if not 1 <= channels <= 64 or align != channels * bits // 8:
        raise WavError(f"damaged: {channels} channels in {align} bytes")
    if not 4_000 <= rate <= 384_000:
        raise WavError(f"a rate of {rate} Hz is not speech; 8,000 to 48,000 Hz is usual")
    return fmt


def _samples(body: memoryview, fmt: _Format) -> Samples:
    """Mono samples in -1..1."""
    import numpy as np

    body = body[: len(body) // fmt.align * fmt.align]
    if not body:
        raise WavError("it holds no sound")
    flat: Samples
    if fmt.kind == _FLOAT:
        flat = np.nan_to_num(np.frombuffer(body, f"<f{fmt.bits // 8}")).astype(np.float32)
    elif fmt.bits == 8:
        flat = (np.frombuffer(body, np.uint8).astype(np.float32) - 128) / np.float32(128)
    elif fmt.bits == 24:
        wide = np.zeros((len(body) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(body, np.uint8).reshape(-1, 3)
        flat = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    else:
        flat = np.frombuffer(body, f"<i{fmt.bits // 8}").astype(np.float32) / np.float32(2 ** (fmt.bits - 1))
    mono: Samples = flat.reshape(-1, fmt.channels).mean(axis=1, dtype=np.float32)
    return mono


def to_pcm(samples: Samples) -> bytes:
    """Samples in -1..1 (clipped) as 16-bit little-endian."""
    import numpy as np

    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def _convert(samples: Samples, rate: int) -> Samples:
    import numpy as np

    if rate == STT_RATE:
        return samples
    resampler = Resampler(rate, STT_RATE)
    blocks = [resampler.push(samples[at : at + rate]) for at in range(0, len(samples), rate)]
    return np.concatenate([*blocks, resampler.flush()])


class Resampler:
    """A polyphase windowed-sinc converter of mono samples, block by block. Output sample `n` sounds at the time
    of input position `n * from_rate / to_rate`; it can be given once `delay` input samples after it are known."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        import numpy as np

        common = math.gcd(from_rate, to_rate)
        self._up, self._down = to_rate // common, from_rate // common
        cutoff = min(1.0, to_rate / from_rate) * 0.95  # the window's slope ends near the new Nyquist frequency
        self.delay = math.ceil(_ZERO_CROSSINGS / cutoff)
        offsets = np.arange(-self.delay + 1, self.delay + 1)[None, :] - np.arange(self._up)[:, None] / self._up
        window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (offsets / self.delay) ** 2, 0, 1))) / np.i0(_KAISER_BETA)
        phases = cutoff * np.sinc(cutoff * offsets) * window
        self._phases: Samples = (phases / phases.sum(axis=1, keepdims=True)).astype(np.float32)
        self._tail: Samples = np.zeros(self.delay - 1, np.float32)  # what lies before the first sample
        self._position = 0  # of the next output sample in `_tail`, in 1/up input samples

    def push(self, block: Samples) -> Samples:
        """All output that can be computed now; what it still needs of the input is kept."""
        import numpy as np

        known = np.concatenate([self._tail, block])
        last = (len(known) - 2 * self.delay + 1) * self._up  # first position that needs more input
        positions = np.arange(self._position, max(last, self._position), self._down)
        starts, phases = np.divmod(positions, self._up)
        if not len(positions):
            self._tail = known
            return np.zeros(0, np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(known, 2 * self.delay)[starts]
        self._position = int(positions[-1]) + self._down
        drop = min(self._position // self._up, len(known))
        self._tail = known[drop:]
        self._position -= drop * self._up
        out: Samples = np.einsum("ij,ij->i", windows, self._phases[phases])
        return out

    def flush(self) -> Samples:
        """The rest, with silence after the last sample."""
        import numpy as np

        return self.push(np.zeros(self.delay, np.float32))
