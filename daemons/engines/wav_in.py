"""A WAV file as the microphone: heard at the pace of speech, then silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from daemons.engines.base import EngineError, Frame
from ipc.audio import FRAME_NS, WavError, paced, read_wav, silence
from ipc.errors import Code


class WavInput:
    """An AudioIn that plays `path` once, `before_ms` of silence first. `after_ms` of silence follow, then
    nothing; None keeps the silence up until it is closed, as a microphone in an empty room."""

    def __init__(self, path: Path, before_ms: int = 0, after_ms: int | None = None) -> None:
        self.name = str(path)
        self._path = path
        self._before_ms, self._after_ms = before_ms, after_ms
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, on_frame: Callable[[Frame], None], on_lost: Callable[[EngineError], None]) -> None:
        """Raises EngineError(DEVICE_MISSING) for a file that cannot be played. It is never lost."""
        try:
            pcm = silence(self._before_ms) + read_wav(self._path) + silence(self._after_ms or 0)
        except WavError as error:
            raise EngineError(Code.DEVICE_MISSING, str(error)) from None
        self._thread = threading.Thread(target=self._play, args=(pcm, on_frame), name="wav-input", daemon=True)
        self._thread.start()

    def _play(self, pcm: bytes, on_frame: Callable[[Frame], None]) -> None:
        end_ns = self._play_once(pcm, time.monotonic_ns(), on_frame)
        while self._after_ms is None and not self._closing.is_set():
            end_ns = self._play_once(silence(1000), end_ns, on_frame)

    def _play_once(self, pcm: bytes, start_ns: int, on_frame: Callable[[Frame], None]) -> int:
        """Returns when the sound ended: the next follows without a gap."""
        end_ns = start_ns
        for frame in paced(pcm, start_ns):
            if self._closing.wait(max(0, frame.due_ns - time.monotonic_ns()) / 1e9):
                break
            on_frame(Frame(frame.t_ns, frame.pcm))
            end_ns = frame.t_ns + FRAME_NS
        return end_ns

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
