"""The machine's own microphone: opened, watched, and opened again when it went away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from daemons.engines.base import AudioIn, EngineError, Frame
from daemons.stt.ear import Ear

log = logging.getLogger(__name__)

RETRY_S = 2.0
RETRY_MAX_S = 30.0
"""Looking for devices costs some 50 ms of a core: not more often while there is none."""


class InputKeeper:
    """Feeds `ear` from the input that `make` gives. `changed` is told why it went away, "" when it is back."""

    def __init__(self, make: Callable[[], AudioIn], ear: Ear, changed: Callable[[str], None]) -> None:
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
        pause_s, heard = RETRY_S, not self.trouble
        while True:
            await self._lost.wait()
            if heard:
                heard, pause_s = False, RETRY_S
                self._ear.silence()
                self._changed(self.trouble)
            await self._shut()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MAX_S)
            await self._open()
            if not self.trouble:
                heard = True
                self._changed("")

    async def _shut(self) -> None:
        if self._input is not None:
            await asyncio.to_thread(self._input.close)
            self._input = None

    # --- called by the input, from its own thread ---

    def _on_frame(self, frame: Frame) -> None:
        self._loop.call_soon_threadsafe(self._ear.hear, frame)

    def _on_lost(self, error: EngineError) -> None:
        self._loop.call_soon_threadsafe(self._went_away, str(error))

    def _went_away(self, reason: str) -> None:
        log.warning("%s", reason)
        self.trouble = reason
        self._lost.set()
