"""A speaker over the wire: one `attach` request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from daemons.engines.base import EngineError
from daemons.engines.paced_out import AHEAD_NS, PacedOut
from daemons.speakers import Listener, Port
from ipc.call import Call
from ipc.errors import Code, TimmyError
from ipc.messages import Sound

BEHIND_FRAMES = 250
"""Five seconds of frames that a client did not take in time: it is given up."""


class _Out(PacedOut):
    before_flush: Callable[[], None]

    def flush(self) -> None:
        self.before_flush()
        super().flush()


class WireSpeaker:
    """Sends a conversation's sound to the client that asked for it, each frame at most 200 ms before it is due.
    `turn` tells whose sound it is."""

    def __init__(self, call: Call, sample_rate: int, turn: Callable[[], bytes], listener: Listener) -> None:
        self._call = call
        self._rate = sample_rate
        self._turn = turn
        self._frames: asyncio.Queue[tuple[Sound, bytes]] = asyncio.Queue(BEHIND_FRAMES)
        self._over: asyncio.Future[TimmyError] = asyncio.get_running_loop().create_future()
        out = _Out("a client", sample_rate, self._take, AHEAD_NS)
        out.before_flush = self._forget
        self.port = Port(call.body.conversation, out, listener)

    async def run(self) -> NoReturn:
        """Sends until the client leaves, does not keep up or is replaced, and raises that."""
        self._sender = asyncio.get_running_loop().create_task(self._send())
        try:
            raise await self._over
        finally:
            self._sender.cancel()
            self.port.close()

    def end(self, reason: TimmyError) -> None:
        if not self._over.done():
            self._over.set_result(reason)

    async def _send(self) -> None:
        try:
            while True:
                await self._call.send(*await self._frames.get())
        except TimmyError as error:
            self.end(error)

    def _forget(self) -> None:
        """What the client has not taken yet is void, too, when an answer is cut: none of it may follow its end."""
        while not self._frames.empty():
            self._frames.get_nowait()
        self._sender.cancel()  # it may hold one that waits for credit
        self._sender = asyncio.get_running_loop().create_task(self._send())

    def _take(self, t_ns: int, pcm: bytes, last: bool) -> None:
        try:
            self._frames.put_nowait((Sound(turn=self._turn(), t_ns=t_ns, sample_rate=self._rate, last=last), pcm))
        except asyncio.QueueFull:
            self.end(EngineError(Code.OVER_QUOTA, "the client takes its sound too slowly: attach again"))
