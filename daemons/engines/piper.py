"""The Piper voice. Piper itself runs in a process of its own (piper_worker.py), started once and kept warm."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import IO, Self

import msgspec

from daemons import catalogue
from daemons.engines.base import EngineError, EngineInfo
from daemons.engines.piper_pipe import (
    LENGTH,
    MESSAGE_MAX_BYTES,
    FromPiper,
    Over,
    Pcm,
    Ready,
    Say,
    Stop,
    ToPiper,
    Unusable,
    from_piper,
    pack,
)
from daemons.speakable import portions, speakable
from ipc.errors import Code, ConfigError

log = logging.getLogger(__name__)

PORTION_CHARS = 200
"""The most that is synthesized in one go: about 10 s of speech, so that first audio and memory stay small."""

_LOAD_S = 60.0
_STALL_S = 20.0
"""Some hundred times what a portion takes: a process silent for longer hangs."""


class PiperSynthesizer:
    """A Synthesizer. `voice`: a name of the catalogue or a path; `device`: auto, cpu or cuda; `pieces`: what can be
    given before a clause is made as a whole is given then.

    Several texts may be asked for at once: they are spoken in the order asked. A process that dies fails the
    text in hand with EngineError(ENGINE_FAILED) and is started again.
    """

    def __init__(self, voice: str, device: str = "auto", threads: int = 2, pieces: bool = True) -> None:
        self._path = catalogue.resolve("tts", voice, sums=True)
        self.sample_rate = _sample_rate(self._path)
        self.info = EngineInfo("piper", voice, device)
        self._arguments = (str(self._path), device, str(threads), "pieces" if pieces else "whole")
        self._turn = asyncio.Lock()
        self._jobs = itertools.count(1)
        self._process: _PiperProcess | None = None
        self._revival: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Starts the process and waits until it is warm. Raises EngineError(MODEL_DAMAGED | ENGINE_FAILED) and
        ConfigError."""
        async with self._turn:
            await self._ready()

    async def synthesize(self, text: str) -> AsyncGenerator[bytes, None]:
        for portion in portions(speakable(text), PORTION_CHARS):
            async with self._turn:
                process = await self._ready()
                async with contextlib.aclosing(process.speak(next(self._jobs), portion)) as parts:
                    async for pcm in parts:
                        yield pcm

    async def close(self) -> None:
        if self._revival is not None:
            self._revival.cancel()
            await asyncio.gather(self._revival, return_exceptions=True)
        if self._process is not None:
            self._process.close()
            self._process = None

    async def _ready(self) -> _PiperProcess:
        if self._process is not None and self._process.alive:
            return self._process
        if self._process is not None:
            self._process.close()
        self._process = await _PiperProcess.start(self._arguments)
        self.info = dataclasses.replace(self.info, device=self._process.device)
        self._process.on_death = self._died
        return self._process

    def _died(self) -> None:
        self._revival = asyncio.get_running_loop().create_task(self._revive())

    async def _revive(self) -> None:
        """Starts it again before it is needed; if that fails, the next text says why."""
        log.warning("the Piper process died: starting it again")
        with contextlib.suppress(EngineError):
            await self.load()


class _PiperProcess:
    """One run of the Piper process. `on_death` is called when it ends without having been asked to."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "daemons.engines.piper_worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._parts: asyncio.Queue[FromPiper | None] = asyncio.Queue()
        self._job = 0
        self._closing = False
        self.on_death: Callable[[], None] = lambda: None
        self.device = ""
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="piper", daemon=True)
        self._reader.start()

    @classmethod
    async def start(cls, arguments: tuple[str, ...]) -> Self:
        self = cls(arguments)
        try:
            match await self._next(_LOAD_S):
                case Ready(device=device):
                    self.device = device
                case Unusable(code=code, detail=detail):
                    raise EngineError(code, detail) if code else ConfigError(detail)
                case other:
                    raise EngineError(Code.ENGINE_FAILED, f"the Piper process sent {type(other).__name__} first")
        except BaseException:
            self.close()
            raise
        return self

    @property
    def alive(self) -> bool:
        """Also right before the reader has noticed its end."""
        return not self._ended and self._process.poll() is None

    async def speak(self, job: int, text: str) -> AsyncGenerator[bytes, None]:
        """The parts of one job. Leaving early stops it; what still comes of it is dropped."""
        self._job = job
        self._parts = asyncio.Queue()
        if self._ended:
            self._parts.put_nowait(None)
        self._tell(Say(job, text))
        over = False
        try:
            while not over:
                match await self._next(_STALL_S):
                    case Pcm(pcm=pcm):
                        yield pcm
                    case Over(error=error):
                        over = True
                        if error:
                            raise EngineError(
                                Code.ENGINE_FAILED, f"Piper could not say {len(text)} characters: {error}"
                            )
        finally:
            self._job = 0
            if not over:
                self._tell(Stop(job))

    def close(self) -> None:
        """Ends the process and waits for it."""
        self._closing = True
        self._process.kill()
        self._reader.join()

    def _tell(self, order: ToPiper) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # it died, or is closed: the reader tells
            self._process.stdin.write(pack(order))
            self._process.stdin.flush()

    async def _next(self, patience_s: float) -> FromPiper:
        try:
            async with asyncio.timeout(patience_s):
                message = await self._parts.get()
        except TimeoutError:
            self._process.kill()
            self._ended = True
            raise EngineError(Code.ENGINE_FAILED, f"the Piper process gave nothing for {patience_s:.0f} s") from None
        if message is None:
            status = self._process.returncode
            raise EngineError(Code.ENGINE_FAILED, f"the Piper process died (status {status}): say it again")
        return message

    def _read(self) -> None:
        """A thread of its own: what the process writes, until it ends."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with stdout:
            while message := _message(stdout):
                self._hand_over(self._arrived, message)
        self._process.kill()  # it may have closed its stdout and live
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # bytes that were not taken any more
            stdin.close()
        self._hand_over(self._has_ended)

    def _hand_over(self, callback: Callable[..., None], *arguments: FromPiper) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _arrived(self, message: FromPiper) -> None:
        if not isinstance(message, Pcm | Over) or message.job == self._job:
            self._parts.put_nowait(message)

    def _has_ended(self) -> None:
        self._ended = True
        self._parts.put_nowait(None)
        if not self._closing:
            self.on_death()


def _message(stdout: IO[bytes]) -> FromPiper | None:
    """The next message, or None when the process has ended (or writes nonsense)."""
    head = stdout.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    try:
        return from_piper(stdout.read(min(length, MESSAGE_MAX_BYTES)))
    except msgspec.DecodeError:
        return None


def _sample_rate(voice: Path) -> int:
    """From the description beside the voice. Raises EngineError(MODEL_DAMAGED)."""
    description = Path(f"{voice}.json")
    try:
        rate = json.loads(description.read_text("utf-8"))["audio"]["sample_rate"]
        if isinstance(rate, int) and 8000 <= rate <= 48000:
            return rate
        problem = f"a sample rate of {rate!r}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        problem = str(error)
    raise EngineError(Code.MODEL_DAMAGED, f"{description} does not describe a voice ({problem}): fetch it again")
