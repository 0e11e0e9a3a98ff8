"""Prompts that the model reads before they are needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from daemons.dialog.core import Conversation
from daemons.dialog.peers import Peer
from ipc.client import Stream
from ipc.errors import TimmyError
from ipc.messages import ChatMessage, Generate, Generated, TurnReport

log = logging.getLogger(__name__)

TTL_MS = 60_000

TAIL_TOKENS = 8
"""What a chat template puts after the last message, so that a longer prompt goes on differently there."""


class Reader:
    """Has the model read prompts. A question never waits for that: what is not read by then is given up."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._newest: dict[str, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, conversation: Conversation, prompt: Sequence[ChatMessage], stable: bool) -> None:
        """Order on the wire is the order of the calls."""
        try:
            stream = self._peer.client.open(Generate(messages=list(prompt), max_tokens=0), ttl_ms=TTL_MS)
        except TimmyError as error:
            log.debug("llm not told: %s", error)
            return
        if stable:
            self._newest[conversation.name] = stream
        task = asyncio.get_running_loop().create_task(self._until_read(conversation, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_read(self, conversation: Conversation, stream: Stream) -> None:
        try:
            result = await stream.result()
        except TimmyError as error:
            log.debug("a prompt was not read to its end: %s", error)
        else:
            assert isinstance(result, Generated)
            if self._newest.get(conversation.name) is stream:
                conversation.prompt_read(result.prompt_tokens)
        finally:
            if self._newest.get(conversation.name) is stream:
                del self._newest[conversation.name]  # conversations come and go

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def miss(report: TurnReport) -> str:
    """Why the model had to read again what every prompt of the conversation begins with; empty when it had not."""
    if not report.prompt_tokens or report.cached_tokens + TAIL_TOKENS >= report.stable_tokens > 0:
        return ""
    if not report.stable_tokens:
        return "it had not been read to its end before the question came"
    return "another prompt, or another run of llm, has taken its place"
