"""What the microphone and the speaker share: PortAudio, quietly, with errors that say what to do."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, Literal

from daemons.engines.base import EngineError
from ipc.errors import Code

Kind = Literal["input", "output"]

_WORD: dict[Kind, str] = {"input": "microphone", "output": "speaker"}
_DEVICE_UNAVAILABLE = -9985  # paDeviceUnavailable
_stderr = threading.Lock()


def load() -> Any:
    """The sounddevice module. Raises EngineError(DEVICE_MISSING) when there is no PortAudio."""
    try:
        with quiet():
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
        with quiet():
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


def refresh(sounddevice: Any) -> None:
    """Looks again at what is plugged in: PortAudio does so only when it starts. No stream may be open."""
    with quiet():
        sounddevice._terminate()
        sounddevice._initialize()


def open_error(kind: Kind, name: str, error: Exception) -> EngineError:
    """Why a stream could not be opened. `error`: sounddevice's PortAudioError."""
    reason = str(error).splitlines()[0]
    code = error.args[1] if len(error.args) > 1 else 0
    if code == _DEVICE_UNAVAILABLE or "busy" in reason.lower():
        return EngineError(Code.DEVICE_BUSY, f"the {_WORD[kind]} {name!r} is in use by another program: close it")
    return EngineError(Code.DEVICE_MISSING, f"the {_WORD[kind]} {name!r} cannot be opened: {reason}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what PortAudio and ALSA print (not return) while they look for devices off the terminal."""
    with _stderr:
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
