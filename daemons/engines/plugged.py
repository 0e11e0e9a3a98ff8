"""Waiting for a sound device that is missing, without looking for it all the time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

RETRY_FIRST_S = 2.0
RETRY_MOST_S = 120.0
"""PortAudio takes some 50 ms of a core to look for devices. Most of what is plugged in is noticed before."""

EAGER_S = 60.0
"""What was pulled out by mistake, or a sound server that is started again, is mostly back by then."""

LOOK_S = 2.0

_HARDWARE = Path("/dev/snd")


class Patience:
    """How long to wait before the next try: twice as long after each one, but not in the first minute after a loss."""

    def __init__(self, first_s: float = RETRY_FIRST_S) -> None:
        self._first_s = self._next_s = first_s
        self._eager_s = 0.0

    def reset(self) -> None:
        """The device was there just now."""
        self._next_s, self._eager_s = self._first_s, EAGER_S

    async def wait(self) -> None:
        """Ends early when hardware or a sound server comes or goes."""
        left_s, before = self._next_s, surroundings()
        if self._eager_s > 0:
            self._eager_s -= left_s
        else:
            self._next_s = min(2 * self._next_s, RETRY_MOST_S)
        while left_s > 0 and surroundings() == before:
            await asyncio.sleep(min(LOOK_S, left_s))
            left_s -= LOOK_S


def surroundings() -> tuple[object, ...]:
    """What differs when hardware or a sound server of this user has come or gone. Takes some 50 µs."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    named = Path(os.environ.get("PULSE_SERVER", "").removeprefix("unix:"))  # on WSL2 it is elsewhere
    servers = (runtime / "pulse/native", runtime / "pipewire-0", Path("/run/pulse/native"), named)
    devices = sorted(os.listdir(_HARDWARE)) if _HARDWARE.is_dir() else []  # noqa: PTH208 - names are all it takes
    return (*devices, *map(_identity, servers))


def _identity(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
