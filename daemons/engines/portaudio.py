"""What the microphone and the speaker share: PortAudio, silenced, with errors that say what to do."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

from daemons.engines.base import EngineError
from daemons.engines.plugged import surroundings
from ipc.errors import Code

Kind = Literal["input", "output"]

_WORD: dict[Kind, str] = {"input": "microphone", "output": "speaker"}
_DEVICE_UNAVAILABLE = -9985  # paDeviceUnavailable
_PRIORITY = 5  # of 99: what sound servers take for themselves
_HANG_S = 0.5
_SILENT_S = 2.0  # a running device without a block for this long is gone, whatever PortAudio says
_working = threading.Lock()  # a sound server that hangs keeps it until it goes on


def load() -> Any:
    """The sounddevice module. Raises EngineError(DEVICE_MISSING) when there is no PortAudio."""
    _mute_libraries()
    try:
        import sounddevice
    except OSError:
        raise EngineError(
            Code.DEVICE_MISSING, "the PortAudio library is missing: sudo apt install libportaudio2"
        ) from None
    return sounddevice


def find(sounddevice: Any, kind: Kind, name: str) -> tuple[int, dict[str, Any]]:
    """Index and properties of a device, the default one when `name` is "auto". Raises EngineError(DEVICE_MISSING)."""
    word = _WORD[kind]
    try:
        wanted = None if name == "auto" else name
        found: dict[str, Any] = sounddevice.query_devices(wanted, kind)
    except (sounddevice.PortAudioError, ValueError):
        detail = (
            f"no {word}: plug one in"
            if name == "auto"
            else f"no {word} called {name!r} (or more than one); 'auto' takes the default one"
        )
        raise EngineError(Code.DEVICE_MISSING, detail) from None
    return int(found["index"]), found


class _Streams:
    """The streams of this process: a satellite has two. To be used in `opening` only, or holding `_working`."""

    def __init__(self) -> None:
        self._open: list[tuple[Any, LossWatch]] = []
        self._surroundings: tuple[object, ...] = ()

    def add(self, stream: Any, watch: LossWatch) -> None:
        self._open.append((stream, watch))

    def refresh(self, sounddevice: Any) -> None:
        """Looks again at what is plugged in. PortAudio does so only when it starts, which ends every open stream: so
        while there is one, it is done only when hardware or a sound server came or went since. Whose stream that
        ends is told of a loss, and opens it again."""
        now = surroundings()
        if self._open and now == self._surroundings:
            return
        self._surroundings = now
        while self._open:
            stream, watch = self._open[-1]
            self.close(stream)
            watch.ended()
        sounddevice._terminate()
        sounddevice._initialize()

    def close(self, stream: Any) -> None:
        """Not a second time: PortAudio has forgotten what it was then."""
        if any(stream is other for other, _ in self._open):
            self._open = [each for each in self._open if each[0] is not stream]
            stream.close(ignore_errors=True)


streams = _Streams()


@contextlib.contextmanager
def opening() -> Iterator[None]:
    """PortAudio opens and closes one stream at a time. Raises EngineError(DEVICE_BUSY) when it hangs in one."""
    if not _working.acquire(timeout=_HANG_S):
        raise EngineError(Code.DEVICE_BUSY, "the sound server does not answer: restart it")
    try:
        with _ahead_of_others():
            yield
    finally:
        _working.release()


def close(stream: Any) -> None:
    """Returns within 0.5 s, even if the sound server hangs: the rest is done when it goes on."""

    def work() -> None:
        with _working:
            streams.close(stream)

    closing = threading.Thread(target=work, name="portaudio-close", daemon=True)
    closing.start()
    closing.join(_HANG_S)


@contextlib.contextmanager
def _ahead_of_others() -> Iterator[None]:
    """Threads made meanwhile run before those that compute, where that is allowed (root, LimitRTPRIO): models
    that fill every core would make the sound stutter. PortAudio and the sound server's library make theirs
    when a stream is opened, and a thread starts with its maker's priority."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class LossWatch:
    """Notices that a running stream is gone: it ended, or gives no sign of life. Tells so once."""

    def __init__(self, kind: Kind, name: str, on_lost: Callable[[EngineError], None]) -> None:
        self._word = _WORD[kind]
        self._name = name
        self._on_lost = on_lost
        self._told = threading.Lock()  # taken once, by whoever notices first
        self._closing = threading.Event()
        self._last_sign = time.monotonic()

    def start(self) -> None:
        """The stream runs from now on."""
        threading.Thread(target=self._watch, name=f"{self._word}-watch", daemon=True).start()

    def alive(self) -> None:
        """To be called with each block of samples."""
        self._last_sign = time.monotonic()

    def ended(self) -> None:
        """PortAudio's thread: the stream has ended, by `close` or because the device went away."""
        if not self._closing.is_set() and self._told.acquire(blocking=False):
            detail = f"the {self._word} {self._name!r} went away: plug it in again"
            self._on_lost(EngineError(Code.DEVICE_LOST, detail))

    def close(self) -> None:
        """What ends from now on ends as it should."""
        self._closing.set()

    def _watch(self) -> None:
        while not self._closing.wait(_SILENT_S / 2):
            if time.monotonic() - self._last_sign > _SILENT_S:
                self.ended()
                return


def open_error(kind: Kind, name: str, error: Exception) -> EngineError:
    """Why a stream could not be opened. `error`: sounddevice's PortAudioError."""
    reason = str(error).splitlines()[0]
    code = error.args[1] if len(error.args) > 1 else 0
    if code == _DEVICE_UNAVAILABLE or "busy" in reason.lower():
        return EngineError(Code.DEVICE_BUSY, f"the {_WORD[kind]} {name!r} is in use by another program: close it")
    return EngineError(Code.DEVICE_MISSING, f"the {_WORD[kind]} {name!r} cannot be opened: {reason}")


@functools.cache
def _mute_libraries() -> None:
    """Sends what C libraries print to `stderr` nowhere, for good: PortAudio and ALSA print at any time, from
    threads of their own. Python's sys.stderr writes to its descriptor itself and stays as it is."""
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    ctypes.c_void_p.in_dll(libc, "stderr").value = libc.fopen(os.devnull.encode(), b"w")
