"""WAV files, rates and pace."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc import audio
from ipc.audio import FRAME_BYTES, FRAME_NS, STT_RATE, Resampler, WavError, paced, read_wav, silence, to_pcm
from ipc.errors import EXIT_NO_INPUT

SECOND = np.sin(np.arange(STT_RATE) * 2 * np.pi * 440 / STT_RATE)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def form(tag: int = 1, channels: int = 1, rate: int = STT_RATE, bits: int = 16) -> bytes:
    align = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits)


def encoded(samples: np.ndarray[tuple[int], np.dtype[np.float64]], tag: int, bits: int) -> bytes:
    if tag == 3:
        return samples.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return (np.rint(samples * 127) + 128).astype(np.uint8).tobytes()
    whole = np.rint(samples * (2 ** (bits - 1) - 1)).astype("<i4")
    if bits == 24:
        return bytes(whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
    return bytes(whole.astype(f"<i{bits // 8}").tobytes())


def tone(rate: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.sin(np.arange(rate) * 2 * np.pi * 440 / rate) / 2


def is_the_tone(pcm: bytes, tolerance: float) -> None:
    heard = np.frombuffer(pcm, "<i2") / 32768
    assert len(heard) == STT_RATE
    middle = slice(200, -200)  # the ends of a tone that starts at once are not a tone
    assert np.abs(heard - SECOND / 2)[middle].max() < tolerance


@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_any_usual_encoding_and_rate(tmp_path: Path, tag: int, bits: int, rate: int) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(riff((b"fmt ", form(tag, rate=rate, bits=bits)), (b"data", encoded(tone(rate), tag, bits))))
    is_the_tone(read_wav(path), 0.01 if bits == 8 else 0.001)


def test_stereo_is_mixed_and_other_chunks_are_skipped(tmp_path: Path) -> None:
    left_only = np.stack([tone(STT_RATE), np.zeros(STT_RATE)], axis=1).reshape(-1) * 2 * 0.999
    path = tmp_path / "tone.wav"
    path.write_bytes(riff((b"LIST", b"odd"), (b"fmt ", form(channels=2)), (b"data", encoded(left_only, 1, 16))))
    is_the_tone(read_wav(path), 0.001)


def test_the_extensible_format(tmp_path: Path) -> None:
    guid = struct.pack("<H", 3) + bytes.fromhex("000000001000800000aa00389b71")
    path = tmp_path / "tone.wav"
    extensible = form(0xFFFE, bits=32) + struct.pack("<HHI", 22, 32, 4) + guid
    path.write_bytes(riff((b"fmt ", extensible), (b"data", encoded(tone(STT_RATE), 3, 32))))
    is_the_tone(read_wav(path), 0.001)


def test_floats_beyond_full_scale_are_clipped_and_nonsense_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    samples = np.array([2.0, -2.0, np.nan, 0.5])
    path.write_bytes(riff((b"fmt ", form(3, bits=32)), (b"data", encoded(samples, 3, 32))))
    assert np.frombuffer(read_wav(path), "<i2").tolist() == [32767, -32768, 0, 16384]


GOOD = riff((b"fmt ", form()), (b"data", bytes(200)))
BAD = {
    "the file is empty": b"",
    "not a WAV file": b"ID3\x03 this is an mp3 file",
    "truncated: 200 bytes of sound promised, 90 there": GOOD[:-110],
    "truncated: it ends before the sound": GOOD[:36],
    "truncated: its format is cut off": riff((b"fmt ", form()[:10])),
    "damaged: the sound comes before its format": riff((b"data", bytes(200))),
    "it holds no sound": riff((b"fmt ", form()), (b"data", b"")),
    "compressed or unknown encoding": riff((b"fmt ", form(85)), (b"data", bytes(200))),
    "damaged: 0 channels": riff((b"fmt ", form(channels=0)), (b"data", bytes(200))),
    "damaged: 2 channels in 2 bytes": riff(
        (b"fmt ", struct.pack("<HHIIHH", 1, 2, STT_RATE, 32_000, 2, 16)), (b"data", bytes(200))
    ),
    "a rate of 11 Hz": riff((b"fmt ", form(rate=11)), (b"data", bytes(200))),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, reason: str) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(BAD[reason])
    with pytest.raises(WavError) as caught:
        read_wav(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == EXIT_NO_INPUT


def test_no_file_a_folder_a_pipe_and_a_giant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WavError, match="No such file"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(WavError, match="not a file"):
        read_wav(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(WavError, match="not a file"):
        read_wav(tmp_path / "pipe.wav")
    monkeypatch.setattr(audio, "WAV_MAX_BYTES", 100)
    (tmp_path / "big.wav").write_bytes(GOOD)
    with pytest.raises(WavError, match="larger than 0 MiB; cut it"):
        read_wav(tmp_path / "big.wav")


@given(st.binary(max_size=120), st.booleans())
def test_garbage_parses_or_is_a_wav_error(tmp_path_factory: pytest.TempPathFactory, junk: bytes, headed: bool) -> None:
    path = tmp_path_factory.mktemp("junk") / "junk.wav"
    path.write_bytes((GOOD[:12] + b"fmt " + junk) if headed else junk)
    with contextlib.suppress(WavError):
        assert len(read_wav(path)) % 2 == 0


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_block_by_block_is_the_same_as_at_once(rate: int) -> None:
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, rate).astype(np.float32)
    once, blocks = Resampler(rate, STT_RATE), Resampler(rate, STT_RATE)
    whole = np.concatenate([once.push(samples), once.flush()])
    cut = [blocks.push(samples[at : at + 37]) for at in range(0, rate, 37)]
    assert np.allclose(np.concatenate([*cut, blocks.flush()]), whole, atol=1e-5)


def test_what_the_new_rate_cannot_carry_is_gone() -> None:
    high = np.sin(np.arange(48_000) * 2 * np.pi * 10_000 / 48_000).astype(np.float32)
    assert np.abs(Resampler(48_000, STT_RATE).push(high)[200:]).max() < 1e-3


def test_the_pace_of_a_microphone() -> None:
    pcm = to_pcm(np.full(STT_RATE // 10 + 1, 0.5, np.float32))
    frames = list(paced(pcm, 1000))
    assert [frame.t_ns for frame in frames] == [1000 + n * FRAME_NS for n in range(6)]
    assert all(frame.due_ns == frame.t_ns + FRAME_NS and len(frame.pcm) == FRAME_BYTES for frame in frames)
    assert b"".join(frame.pcm for frame in frames).rstrip(b"\0") == pcm
    assert len(silence(250)) == STT_RATE // 4 * 2
