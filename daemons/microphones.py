"""The machine's own microphone: opened, watched, and opened again when it went away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from daemons.engines.base import AudioIn, EngineError, Frame
from daemons.engines.plugged import Patience
from ipc.quiet import QuietHold

log = logging.getLogger(__name__)


class Hearer(Protocol):
    """Who gets what a microphone hears, on the event loop."""

    def hear(self, frame: Frame) -> None: ...

    def silence(self) -> None:
        """Nothing comes for a while."""


def input_of(setting: str) -> Callable[[], AudioIn] | None:
    """What opens the input that a setting names: "auto", a WAV file, or (a part of) a device's name; None for
    "none"."""
    if setting == "none":
        return None
    if setting.lower().endswith(".wav"):
        from daemons.engines.wav_in import WavInput

        return lambda: WavInput(Path(setting).expanduser())
    from daemons.engines.microphone import Microphone

    return lambda: Microphone(setting)


class InputKeeper:
    """Feeds `ear` from the input that `make` gives. `changed` is told why it went away, "" when it is back."""

    def __init__(self, make: Callable[[], AudioIn], ear: Hearer, changed: Callable[[str], None]) -> None:
        self.trouble = ""
        """Why nothing can be heard, else empty."""
        self._make = make
        self._ear = ear
        self._changed = changed
        self._input: AudioIn | None = None
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the input; where that fails, `trouble` says why and it is tried again later."""
        self._loop = asyncio.get_running_loop()
        await self._open()
        self._keeper = self._loop.create_task(self._keep())

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        await self._shut()

    async def _open(self) -> None:
        self._lost.clear()
        source = self._input = self._make()
        self._hold: QuietHold[Frame] = QuietHold()
        try:
            await asyncio.to_thread(source.start, self._on_frame, self._on_lost)
        except EngineError as error:
            if str(error) != self.trouble:
                log.warning("%s", error)
            self.trouble = str(error)
            self._lost.set()
        else:
            self.trouble = ""
            log.info("listening to %s", source.name)

    async def _keep(self) -> None:
        patience, heard = Patience(), not self.trouble
        while True:
            await self._lost.wait()
            if heard:
                heard = False
                patience.reset()
                self._ear.silence()
                self._changed(self.trouble)
            await self._shut()
            await patience.wait()
            await self._open()
            if not self.trouble:
                heard = True
                self._changed("")

    async def _shut(self) -> None:
        if self._input is not None:
            await asyncio.to_thread(self._input.close)
            self._input = None

    def _hear(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self._ear.hear(frame)

    # --- called by the input, from its own thread ---

    def _on_frame(self, frame: Frame) -> None:
        if frames := self._hold.push(frame, frame.pcm):
            self._loop.call_soon_threadsafe(self._hear, frames)

    def _on_lost(self, error: EngineError) -> None:
        self._loop.call_soon_threadsafe(self._went_away, str(error))

    def _went_away(self, reason: str) -> None:
        log.warning("%s", reason)
        self.trouble = reason
        self._lost.set()
