"""The speaker: PortAudio's output, opened once and kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from daemons.engines import portaudio
from daemons.engines.base import EngineError
from daemons.engines.pcm import silence
from daemons.engines.playqueue import PlayQueue

BLOCK_MS = 20
"""One callback a block. Half of it would cost half as much again of a core, all day long, while nobody speaks."""

LATENCY_S = 0.02
"""Asked of the device, which takes two blocks. With what a sound server adds, sound comes and goes 60 ms later."""

_LATENCY_MAX_S = 2.0
"""A claimed playout time further ahead than this is not believed."""


class Speaker:
    """An AudioOut. `name`: "auto" for the default device, else (a part of) a device's name."""

    def __init__(self, name: str, sample_rate: int) -> None:
        self.name = name
        self.sample_rate = sample_rate
        self.on_started: Callable[[int], None] = lambda t_ns: None
        self.on_drained: Callable[[int], None] = lambda t_ns: None
        self._wanted = name
        self._queue = PlayQueue(sample_rate)
        self._drains: deque[int] = deque()
        self._lock = threading.Lock()
        self._stream: Any = None
        self._still = silence(BLOCK_MS, sample_rate)

    def start(self, on_lost: Callable[[EngineError], None]) -> None:
        with portaudio.opening():
            self._open(on_lost)

    def _open(self, on_lost: Callable[[EngineError], None]) -> None:
        sounddevice = portaudio.load()
        portaudio.streams.refresh(sounddevice)
        index, found = portaudio.find(sounddevice, "output", self._wanted)
        self.name = str(found["name"])
        self._watch = portaudio.LossWatch("output", self.name, on_lost)
        try:
            self._stream = sounddevice.RawOutputStream(
                samplerate=self.sample_rate,
                blocksize=self.sample_rate * BLOCK_MS // 1000,
                device=index,
                channels=1,
                dtype="int16",
                latency=LATENCY_S,
                callback=self._fill,
                finished_callback=self._watch.ended,
            )
            portaudio.streams.add(self._stream, self._watch)
            self._stream.start()
            self._watch.start()
        except sounddevice.PortAudioError as error:
            if self._stream is not None:
                portaudio.streams.close(self._stream)
            raise portaudio.open_error("output", self.name, error) from None

    def write(self, pcm: bytes) -> None:
        with self._lock:
            self._queue.write(pcm)

    def mark_end(self) -> None:
        with self._lock:
            self._queue.mark_end()

    def flush(self) -> None:
        with self._lock:
            self._queue.flush()
            self._drains.clear()

    def close(self) -> None:
        if self._stream is not None:
            self._watch.close()
            portaudio.close(self._stream)

    def _fill(self, out: Any, _: int, times: Any, __: Any) -> None:
        """PortAudio's thread: a block of samples is due. The callbacks are called under the lock, so that none
        of an utterance comes after the `flush` that ended it."""
        self._watch.alive()
        if self._queue.empty and not self._drains:  # all day long; what is written just now begins a block later
            out[:] = self._still
            return
        now_ns = time.monotonic_ns()
        # Not `times.currentTime`, which is past when this thread had to wait for the interpreter.
        ahead_s = times.outputBufferDacTime - self._stream.time
        if not 0 < ahead_s <= _LATENCY_MAX_S:
            ahead_s = self._stream.latency
        sounds_ns = now_ns + int(ahead_s * 1e9)
        filled = 0
        with self._lock:
            while filled < len(out) and (part := self._queue.take(len(out) - filled)):
                if part.first:
                    self.on_started(self._at(sounds_ns, filled))
                out[filled : filled + len(part.pcm)] = part.pcm
                filled += len(part.pcm)
                if part.last:
                    self._drains.append(self._at(sounds_ns, filled))
            out[filled:] = bytes(len(out) - filled)
            while self._drains and self._drains[0] <= now_ns:
                self.on_drained(self._drains.popleft())

    def _at(self, sounds_ns: int, offset: int) -> int:
        return sounds_ns + offset // 2 * 1_000_000_000 // self.sample_rate
