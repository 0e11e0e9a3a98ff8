"""Where a conversation's sound goes; and the machine's own speaker, kept open."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from daemons.engines.base import AudioOut, EngineError
from daemons.engines.paced_out import null_out, wav_out
from daemons.engines.pcm import silence
from daemons.engines.plugged import RETRY_FIRST_S, Patience
from daemons.engines.speaker import Speaker
from ipc.messages import HOME

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who hears of a conversation's playback, on the event loop."""

    def started(self, conversation: str, t_ns: int) -> None: ...

    def drained(self, conversation: str, t_ns: int) -> None: ...

    def lost(self, conversation: str, error: EngineError) -> None: ...

    def speaking(self, conversation: str) -> bool: ...


class Port:
    """A conversation's AudioOut. Brings its callbacks to the event loop, and none of what was flushed."""

    def __init__(self, conversation: str, out: AudioOut, listener: Listener) -> None:
        self._out = out
        self._loop = asyncio.get_running_loop()
        self._flushed = 0
        out.on_started = lambda t_ns: self._hop(listener.started, conversation, t_ns)
        out.on_drained = lambda t_ns: self._hop(listener.drained, conversation, t_ns)

    def play(self, pause_ms: int, pcm: bytes) -> None:
        self._out.write(silence(pause_ms, self._out.sample_rate) + pcm)

    def mark_end(self) -> None:
        self._out.mark_end()

    def flush(self) -> None:
        self._out.flush()
        self._flushed += 1

    def close(self) -> None:
        self._flushed += 1
        self._out.close()

    def _hop(self, tell: Callable[[str, int], None], conversation: str, t_ns: int) -> None:
        """Any thread. What `flush` ended may still be on its way to the loop: its count gives it away."""
        self._loop.call_soon_threadsafe(self._tell, self._flushed, tell, conversation, t_ns)

    def _tell(self, flushed: int, tell: Callable[[str, int], None], conversation: str, t_ns: int) -> None:
        if flushed == self._flushed:
            tell(conversation, t_ns)


def open_output(setting: str, sample_rate: int) -> AudioOut:
    """`tts.output`: "auto", "none", a WAV file, or (a part of) a device's name."""
    if setting == "none":
        return null_out(sample_rate)
    if setting.lower().endswith(".wav"):
        return wav_out(Path(setting).expanduser(), sample_rate)
    return Speaker(setting, sample_rate)


class HomeSpeaker:
    """Keeps the output of the conversation "home" open: retried when it is missing or lost. Without any speaker
    "auto" lets answers pass unheard, so that a machine without one works; a device asked for by name is an error
    until it is there."""

    def __init__(
        self,
        setting: str,
        sample_rate: int,
        listener: Listener,
        make: Callable[[str, int], AudioOut] = open_output,
        retry_first_s: float = RETRY_FIRST_S,
    ) -> None:
        self.port: Port | None = None
        self.error: EngineError | None = None
        self._setting = setting
        self._rate = sample_rate
        self._listener = listener
        self._make = make
        self._patience = Patience(retry_first_s)
        self._tried = asyncio.Event()

    @property
    def trouble(self) -> str:
        if self.error is None:
            return ""
        return f"{self.error}; answers are not heard" if self.port else str(self.error)

    async def open(self) -> None:
        """Tries once, and keeps trying for as long as it is open."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        await self._tried.wait()

    async def close(self) -> None:
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._use(None)

    async def _keep(self) -> None:
        while True:
            if not self._listener.speaking(HOME):  # no change in the middle of an answer
                try:
                    lost = await self._start()
                    self._patience.reset()
                    self._tried.set()
                    self._without(await lost)
                except EngineError as error:
                    self._without(error)
                self._tried.set()
            await self._patience.wait()

    async def _start(self) -> asyncio.Future[EngineError]:
        """Opens the output and returns what will tell of its loss."""
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[EngineError] = loop.create_future()
        out = self._make(self._setting, self._rate)
        await _in_thread(lambda: out.start(lambda error: _set_later(loop, lost, error)))
        if self.error is not None:
            log.warning("the speaker %r is there now", out.name)
        self._use(out)
        self.error = None
        return lost

    def _without(self, error: EngineError) -> None:
        if self.error is None:
            log.warning("%s", error)
            self._use(null_out(self._rate) if self._setting == "auto" else None)
            self._listener.lost(HOME, error)
        self.error = error

    def _use(self, out: AudioOut | None) -> None:
        if self.port is not None:
            self.port.close()
        self.port = None if out is None else Port(HOME, out, self._listener)


def _set_later(loop: asyncio.AbstractEventLoop, future: asyncio.Future[_T], value: _T) -> None:
    """Any thread."""

    def tell() -> None:
        if not future.done():
            future.set_result(value)

    loop.call_soon_threadsafe(tell)


async def _in_thread(work: Callable[[], None]) -> None:
    """Runs what may hang, in a thread that cannot hold up the end of the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Exception | None] = loop.create_future()

    def run() -> None:
        failure: Exception | None = None
        try:
            work()
        except Exception as error:
            failure = error
        _set_later(loop, done, failure)

    threading.Thread(target=run, name="open-speaker", daemon=True).start()
    if error := await done:
        raise error
