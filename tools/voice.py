"""A microphone and a speaker over the wire: what `timmy talk --wav` is, and a satellite in another room."""

from __future__ import annotations

import asyncio
import time
import wave
from dataclasses import dataclass, field
from pathlib import Path

from ipc.audio import FRAME_BYTES, FRAME_NS, silence
from ipc.client import Client
from ipc.messages import Attach, Audio, Feed, Sound
from ipc.quiet import QuietHold

REPLIES_KEPT = 8
"""The last frames of an answer come within a turn of it; older ones nobody will ask for."""


class WireMicrophone:
    """Feeds stt at speaking pace: silence, until there is something to say."""

    def __init__(self, stt: Client, conversation: str) -> None:
        self._stt = stt
        self._conversation = conversation
        self._pending = bytearray()
        self._said = asyncio.Event()
        self._said.set()

    async def run(self) -> None:
        """Until cancelled. The schedule is absolute, as a sound card's. Raises what ends the request."""
        stream = self._stt.open(Feed(conversation=self._conversation))
        start, still = time.monotonic_ns(), silence(FRAME_NS // 1_000_000)
        hold: QuietHold[bytes] = QuietHold()
        number = 0
        while True:
            await asyncio.sleep((start + (number + 1) * FRAME_NS - time.monotonic_ns()) / 1e9)
            frame = bytes(self._pending[:FRAME_BYTES]).ljust(FRAME_BYTES, b"\0") if self._pending else still
            del self._pending[:FRAME_BYTES]
            passed = hold.push(frame, frame)
            number += 1
            if passed:
                first_ns = start + (number - len(passed)) * FRAME_NS
                await stream.send(Audio(t_ns=first_ns), b"".join(passed))
            if not self._pending:
                self._said.set()

    async def say(self, pcm: bytes) -> None:
        """Returns when the last of `pcm` has been captured."""
        self._said.clear()
        self._pending += pcm
        await self._said.wait()


@dataclass
class Reply:
    """The sound of one answer."""

    sample_rate: int
    pcm: bytearray = field(default_factory=bytearray)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, path: Path) -> None:
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.sample_rate)
            file.writeframes(bytes(self.pcm))


class WireSpeaker:
    """Takes the conversation's answers as tts makes them."""

    def __init__(self, tts: Client, conversation: str) -> None:
        self._tts = tts
        self._conversation = conversation
        self.replies: dict[bytes, Reply] = {}
        """The newest answers, by turn."""

    async def run(self) -> None:
        """Until cancelled. Raises what ends the request."""
        async for item, payload in self._tts.open(Attach(conversation=self._conversation)):
            if isinstance(item, Sound):
                reply = self.replies.get(item.turn)
                if reply is None or reply.complete.is_set():
                    # Another revision of the turn: what was flushed before it is void.
                    reply = self.replies[item.turn] = Reply(item.sample_rate)
                    while len(self.replies) > REPLIES_KEPT:
                        del self.replies[next(iter(self.replies))]
                reply.pcm += payload
                if item.last:
                    reply.complete.set()
