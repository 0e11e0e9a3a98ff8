"""The microphone: PortAudio's input, opened once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from daemons.engines import portaudio
from daemons.engines.base import FRAME_MS, STT_RATE, EngineError, Frame
from daemons.engines.framing import Framer

log = logging.getLogger(__name__)

_LATENCY_MAX_S = 1.0
"""A claimed capture time further back than this is not believed."""

_OVERFLOW_REPORT_S = 10.0


class Microphone:
    """An AudioIn. `name`: "auto" for the default device, else (a part of) a device's name."""

    def __init__(self, name: str = "auto") -> None:
        self.name = name
        self._wanted = name
        self._stream: Any = None
        self._last_report = 0.0

    def start(self, on_frame: Callable[[Frame], None], on_lost: Callable[[EngineError], None]) -> None:
        with portaudio.opening():
            self._open(on_frame, on_lost)

    def _open(self, on_frame: Callable[[Frame], None], on_lost: Callable[[EngineError], None]) -> None:
        sounddevice = portaudio.load()
        portaudio.streams.refresh(sounddevice)
        index, found = portaudio.find(sounddevice, "input", self._wanted)
        self.name = str(found["name"])
        self._watch = portaudio.LossWatch("input", self.name, on_lost)
        try:
            rate = _rate(sounddevice, index, found)
            self._framer = Framer(rate, on_frame)
            self._stream = sounddevice.RawInputStream(
                samplerate=rate,
                blocksize=rate * FRAME_MS // 1000,
                device=index,
                channels=1,
                dtype="int16",
                callback=self._block,
                finished_callback=self._watch.ended,
            )
            portaudio.streams.add(self._stream, self._watch)
            self._stream.start()
            self._watch.start()
        except sounddevice.PortAudioError as error:
            raise portaudio.open_error("input", self.name, error) from None

    def close(self) -> None:
        if self._stream is not None:
            self._watch.close()
            portaudio.close(self._stream)

    def _block(self, data: Any, _: int, times: Any, status: Any) -> None:
        """PortAudio's thread: a block of samples. It may have waited for the interpreter, so `times.currentTime` is
        past: only the stream's own clock tells how long ago the block was captured."""
        now_ns, now = time.monotonic_ns(), time.monotonic()
        self._watch.alive()
        if status.input_overflow and now - self._last_report > _OVERFLOW_REPORT_S:
            self._last_report = now
            log.warning("the microphone lost samples: this machine is too busy")
        pcm = bytes(data)
        shortest_s = len(pcm) / 2 / self._framer.rate  # the block cannot have begun later
        age_s = self._stream.time - times.inputBufferAdcTime
        if not shortest_s <= age_s <= _LATENCY_MAX_S:
            age_s = shortest_s
        self._framer.push(now_ns - int(age_s * 1e9), pcm)


def _rate(sounddevice: Any, index: int, found: dict[str, Any]) -> int:
    """STT_RATE if the device can, else its own."""
    try:
        sounddevice.check_input_settings(index, channels=1, dtype="int16", samplerate=STT_RATE)
    except sounddevice.PortAudioError:
        return int(found["default_samplerate"])
    return STT_RATE
