"""A Piper voice that gives its sound piece by piece. The only module that imports Piper (GPL): see piper_worker.py."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemons.engines.piper_graph import divide

Floats = NDArray[np.float32]

FIRST_FRAMES = 16
"""Of the first piece: 190 ms of sound at 22,050 Hz, made in some 20 ms."""

GROWTH = 2
"""Of one piece over the one before. Sound is made some 15 times as fast as it plays, on two cores."""

MARGIN = 1.5
"""A beginning is given when it plays so much longer than the next piece seems to take: on a machine that is busy
with something else it waits, since a gap inside a word is worse than a later answer."""

AROUND = (12, 24, 48)
"""Frames on each side of a piece that its sound may depend on, to be tried out; 12 are enough for a medium voice."""

SAME = 1e-4
"""Difference of samples, of 1, that is none: float32 sums in another order."""

PEAK = 0.65
"""What the loudest sample of the warm-up becomes. Other sentences of the same voice are up to 1.5 times as loud."""

KNEE = 0.85
"""Above it, samples are bent towards 1, which they do not pass."""

_WARM_UP = "The voice is ready, and so am I."


class NoCuda(Exception):
    """CUDA was asked for by name and does not load."""


class Voice:
    """Can be stopped at any moment. Loading warms it up. Not `pieces`: it speaks each sentence as a whole. Raises
    NoCuda, ImportError, and what a damaged voice makes of onnxruntime and Piper."""

    def __init__(self, path: Path, device: str, threads: int, pieces: bool = True) -> None:
        import onnxruntime
        from piper.config import PiperConfig
        from piper.voice import PiperVoice

        self._run_options = onnxruntime.RunOptions()
        self._stopped = False
        parts = divide(path) if pieces else None
        self._decoder: Any = None
        self._frames = ""
        if parts is None:
            self._session = open_session(onnxruntime, path, device, threads)
        else:
            self._frames = parts.frames
            with _as_file(parts.encoder) as file:
                self._session = open_session(onnxruntime, file, device, threads)
            with _as_file(parts.decoder) as file:
                self._decoder = open_session(onnxruntime, file, device, threads)
        config = json.loads(Path(f"{path}.json").read_text("utf-8"))
        # Piper asks nothing of its session but `run`.
        self._piper: Any = PiperVoice(session=self, config=PiperConfig.from_dict(config))
        self.device = "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"
        self._rate: int = self._piper.config.sample_rate
        self._inputs: dict[str, Any] = {}
        self._made: NDArray[Any] = np.zeros(0)
        self._gain = 1.0
        self._around: int | None = None
        self._warm_up()

    def run(self, outputs: Any, inputs: dict[str, Any]) -> Any:
        """For Piper: the session's `run`, with options that `stop` can reach. What comes of it is kept."""
        made = self._session.run(outputs, inputs, self._run_options)
        self._inputs, self._made = inputs, made[0]
        return made

    def speak(self, text: str) -> Iterator[bytes]:
        """16-bit mono PCM in pieces, the first one short; an empty one ends each sentence."""
        for phonemes in self._piper.phonemize(text):
            if phonemes:
                for sound in self._pieces(self._frames_of(phonemes)):
                    if self._stopped:
                        return
                    yield _pcm(sound * self._gain)
                yield b""

    def stop(self, stopped: bool = True) -> None:
        """Ends what `speak` does, and whatever it begins later, until `stop(False)`."""
        self._stopped = self._run_options.terminate = stopped

    def _frames_of(self, phonemes: list[str]) -> NDArray[Any]:
        """Of an undivided voice, its sound."""
        self._piper.phoneme_ids_to_audio(self._piper.phonemes_to_ids(phonemes))
        return self._made

    def _pieces(self, frames: NDArray[Any]) -> Iterator[Floats]:
        if self._decoder is None:
            yield frames.ravel()
        elif self._around is None:
            yield self._decode(frames)
        else:
            yield from self._timely(frames, self._around)

    def _timely(self, frames: NDArray[Any], around: int) -> Iterator[Floats]:
        """Once the first has been given, the next ones follow before it has played."""
        spans = _spans(frames.shape[-1])
        held: list[Floats] = []
        flows = False
        for number, (start, end) in enumerate(spans, 1):
            began_s = time.perf_counter()
            held.append(self._piece(frames, start, end, around))
            if not flows and number < len(spans):
                a_frame_s = (time.perf_counter() - began_s) / (end - start + around)
                next_s = a_frame_s * (spans[number][1] - end + 2 * around)
                plays_s = sum(piece.size for piece in held) / self._rate
                flows = plays_s > MARGIN * next_s
                if not flows:
                    continue
            yield np.concatenate(held)
            held.clear()

    def _piece(self, frames: NDArray[Any], start: int, end: int, around: int) -> Floats:
        """The sound of frames `start` to `end`, made with those around them."""
        first, last = max(0, start - around), min(frames.shape[-1], end + around)
        sound = self._decode(frames[..., first:last])
        samples = sound.size // (last - first)
        return sound[(start - first) * samples : (end - first) * samples]

    def _decode(self, frames: NDArray[Any]) -> Floats:
        inputs = {each.name: self._inputs.get(each.name) for each in self._decoder.get_inputs()}
        inputs[self._frames] = frames
        sound: Floats = self._decoder.run(None, inputs, self._run_options)[0]
        return sound.ravel()

    def _warm_up(self) -> None:
        """Finds out how loud it is, and how much around a piece its sound depends on."""
        (phonemes, *_) = self._piper.phonemize(_WARM_UP)
        frames = self._frames_of(phonemes)
        (sound,) = self._pieces(frames)
        self._gain = PEAK / float(np.abs(sound).max())
        if self._decoder is None or sound.size % frames.shape[-1]:
            return
        start, end = (frames.shape[-1] * third // 3 for third in (1, 2))
        samples = sound.size // frames.shape[-1]
        for around in AROUND:
            piece = self._piece(frames, start, end, around)
            if np.abs(piece - sound[start * samples : end * samples]).max() < SAME:
                self._around = around
                return


def _spans(total: int) -> list[tuple[int, int]]:
    """Where pieces begin and end. What would be left over for one shorter than the first goes with the one before."""
    spans: list[tuple[int, int]] = []
    start, size = 0, FIRST_FRAMES
    while start < total:
        end = start + size if total - start - size >= FIRST_FRAMES else total
        spans.append((start, end))
        start, size = end, size * GROWTH
    return spans


def open_session(onnxruntime: Any, path: Path, device: str, threads: int) -> Any:
    """A network. "auto" takes CUDA where its libraries load. Raises NoCuda."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False  # keeps 100 MB more resident, and is no faster
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise NoCuda("CUDA does not load here: set tts.device to 'auto' or 'cpu', or install onnxruntime-gpu")
    return session


@contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    """A file in memory: onnxruntime keeps for good what it is given as bytes."""
    descriptor = os.memfd_create("voice")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _pcm(sound: Floats) -> bytes:
    """Raises ArithmeticError for what is no number: it would sound as silence or as a crack."""
    if not np.isfinite(sound).all():
        raise ArithmeticError("the voice's network gave what is no number: timmy models verify")
    beyond = np.abs(sound) > KNEE
    if beyond.any():
        room = 1 - KNEE
        loud = sound[beyond]
        sound[beyond] = np.sign(loud) * (KNEE + room * np.tanh((np.abs(loud) - KNEE) / room))
    return (sound * 32767).astype("<i2").tobytes()
