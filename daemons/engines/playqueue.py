"""What is still to sound, utterance by utterance: the queue behind every AudioOut. Not thread-safe."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from daemons.engines.pcm import fade_out


@dataclass(frozen=True, slots=True)
class Part:
    """Sound to play next. `first`, `last`: it begins, it completes an utterance; `pcm` may be empty then."""

    pcm: bytes
    first: bool = False
    last: bool = False


class PlayQueue:
    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._blocks: deque[memoryview | None] = deque()  # None: an utterance is complete
        self._tail = b""
        self._sounding = False

    @property
    def empty(self) -> bool:
        return not self._blocks and not self._tail

    def write(self, pcm: bytes) -> None:
        if pcm:
            self._blocks.append(memoryview(pcm))

    def mark_end(self) -> None:
        self._blocks.append(None)

    def flush(self) -> bool:
        """Forgets everything but a few faded milliseconds of what was sounding. Returns whether something was."""
        was_sounding = self._sounding
        rest = self._blocks[0] if self._blocks else None
        self._tail = fade_out(bytes(rest), self._rate) if was_sounding and rest is not None else b""
        self._blocks.clear()
        self._sounding = False
        return was_sounding

    def take(self, size: int) -> Part | None:
        """At most `size` bytes of one utterance, or None while there is nothing to play."""
        if self._tail:
            head, self._tail = self._tail[:size], self._tail[size:]
            return Part(head)
        if not self._blocks:
            return None
        taken = bytearray()
        while self._blocks and (block := self._blocks[0]) is not None and len(taken) < size:
            room = size - len(taken)
            taken += block[:room]
            if room < len(block):
                self._blocks[0] = block[room:]
            else:
                self._blocks.popleft()
        last = bool(self._blocks) and self._blocks[0] is None
        if last:
            self._blocks.popleft()
        first = bool(taken) and not self._sounding
        self._sounding = not last and (self._sounding or first)
        return Part(bytes(taken), first, last)
