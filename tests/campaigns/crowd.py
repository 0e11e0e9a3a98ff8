"""Callers that keep a house busy, and an account of what became of each of their requests."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipc.audio import FRAME_BYTES, FRAME_NS
from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.errors import CallCancelled, CallError
from ipc.messages import (
    Ask,
    Attach,
    Audio,
    Body,
    ChatMessage,
    Clause,
    Feed,
    Follow,
    Generate,
    Listen,
    Recall,
    Release,
    Remember,
    Speak,
)
from tests.campaigns.watcher import SETTLED_S
from tools.harness import House

AGAIN_S = 0.05
HUNG_S = 10.0
"""A request may last so long beyond its time, or beyond the death of its daemon. It takes milliseconds; a machine that
is busy with other things takes longer."""

TTL_MS = 15_000
PROBE = "probe"
"""A conversation in which nobody but the campaign itself speaks, and is listened to."""

Item = tuple[Body, bytes]


@dataclass(eq=False, slots=True)
class Request:
    """One that is open. `pid`: of the process that it went to. `ttl_ms` 0: it lives until its daemon dies."""

    daemon: str
    pid: int
    ttl_ms: int
    began_s: float
    outcome: str = ""


class Crowd:
    """`open`: what has not ended yet; `outcomes`: how often each daemon's requests ended in what."""

    def __init__(self) -> None:
        self.open: set[Request] = set()
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def waiting(self, daemon: str, pid: int) -> list[Request]:
        """What this process has been asked and not answered."""
        return [request for request in self.open if (request.daemon, request.pid) == (daemon, pid)]

    async def ended(self, requests: Sequence[Request], allowed: frozenset[str]) -> None:
        """Waits for their ends. Raises AssertionError for one that has none or another than `allowed`."""
        until = time.monotonic() + HUNG_S
        while any(request in self.open for request in requests):
            if time.monotonic() > until:
                hung = [request for request in requests if request in self.open]
                raise AssertionError(f"{len(hung)} requests to {hung[0].daemon} hang, {HUNG_S:g} s after all was over")
            await asyncio.sleep(AGAIN_S)
        for request in requests:
            if request.outcome not in allowed:
                raise AssertionError(f"{request.daemon} ended a request with {request.outcome}, not {set(allowed)}")

    def check_deadlines(self) -> None:
        """Raises AssertionError for a request that is open although its time is long over."""
        now_s = time.monotonic()
        for request in self.open:
            if request.ttl_ms and now_s - request.began_s > request.ttl_ms / 1000 + HUNG_S:
                raise AssertionError(
                    f"a request to {request.daemon} is open {now_s - request.began_s:.0f} s after it began"
                )

    async def call(
        self,
        client: Client,
        body: Body,
        items: AsyncIterator[Item] | None = None,
        ttl_ms: int = TTL_MS,
        heed: Callable[[Body, bytes], None] = lambda item, payload: None,
    ) -> str:
        """One request to its end, which is put into the account; `heed` gets what comes before. Raises AssertionError
        when more follows it."""
        try:
            if not client.connected:
                await client.wait_connected()
            stream = client.open(body, ttl_ms=ttl_ms)
        except CallError as error:
            return str(error.code)
        assert client.peer is not None
        request = Request(client.daemon, client.peer.pid, ttl_ms, time.monotonic())
        self.open.add(request)
        sending = asyncio.create_task(_send(stream.send, stream.end, items))
        try:
            async for item, payload in stream:
                heed(item, payload)
            await stream.result()
            request.outcome = "done"
        except CallError as error:
            request.outcome = str(error.code)
        except CallCancelled:
            request.outcome = "cancelled"
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)  # what ended the sending ended the request
            self.open.discard(request)
        self.outcomes[client.daemon, request.outcome] += 1
        return request.outcome


async def _send(
    send: Callable[..., Coroutine[object, object, None]], end: Callable[[], None], items: AsyncIterator[Item] | None
) -> None:
    if items is not None:
        async for item, payload in items:
            await send(item, payload)
    end()


async def _said() -> AsyncIterator[Item]:
    """A sentence, over and over, with pauses that end a turn."""
    start_ns, number = time.monotonic_ns(), 0
    while True:
        await asyncio.sleep((start_ns + (number + 1) * FRAME_NS - time.monotonic_ns()) / 1e9)
        voiced = number % 100 < 15
        yield Audio(t_ns=start_ns + number * FRAME_NS), (b"\x00\x20" if voiced else b"\0\0") * (FRAME_BYTES // 2)
        number += 1


async def _clauses() -> AsyncIterator[Item]:
    yield Clause(text="Well."), b""
    yield Release(), b""


@asynccontextmanager
async def crowd(folder: Path, ttl_ms: int = TTL_MS) -> AsyncIterator[Crowd]:
    """Eleven requests are open at nearly any time, at least two to each of the five daemons in `folder`."""
    account = Crowd()
    async with AsyncExitStack() as stack:
        clients = {d: await stack.enter_async_context(Client(d, "crowd", folder=folder)) for d in DAEMONS}
        for client in clients.values():
            await client.wait_connected(HUNG_S)
        tasks = [asyncio.create_task(job) for job in _jobs(account, clients, ttl_ms)]
        try:
            yield account
        finally:
            for task in tasks:
                task.cancel()
            over = await asyncio.gather(*tasks, return_exceptions=True)
    for result in over:
        if not isinstance(result, asyncio.CancelledError):
            raise AssertionError(f"a caller broke: {result!r}")


def _jobs(account: Crowd, clients: dict[str, Client], ttl_ms: int) -> list[Coroutine[object, object, None]]:
    question = Generate(messages=[ChatMessage(role="user", content="Which city?")], max_tokens=8)
    conversation, read_aloud = "crowd", "crowd-aloud"  # where dialog answers, a newer utterance would cancel an older

    async def again(
        daemon: str, body: Body, items: Callable[[], AsyncIterator[Item]] | None = None, ttl_ms: int = ttl_ms
    ) -> None:
        while True:
            await account.call(clients[daemon], body, items() if items else None, ttl_ms)
            await asyncio.sleep(AGAIN_S)

    return [
        again("stt", Feed(conversation=conversation), _said, 0),
        again("stt", Listen(), None, 0),
        again("llm", question),
        again("memory", Recall(text="Where is the key?", limit=3)),
        again("memory", Remember(heard="The key is under the mat.", always=True)),
        again("tts", Attach(conversation=conversation), None, 0),
        again("tts", Attach(conversation=PROBE), None, 0),
        again("tts", Attach(conversation=read_aloud), None, 0),
        again("tts", Speak(conversation=read_aloud), _clauses),
        again("dialog", Follow(conversation=conversation), None, 0),
        again("dialog", Ask(conversation=f"{conversation}-typed", text="Which city?")),
    ]


SLOW = {"llm": 60.0, "memory": 60.0, "tts": 60.0, "stt": 20.0}
"""Milliseconds that each piece of work takes, so that there is always something to interrupt."""


def slow_down(house: House, *daemons: str, **orders: Any) -> None:
    """Gives all of them, or `daemons`, work that takes its time, and what else `orders` say."""
    for daemon in daemons or DAEMONS:
        house.engine(daemon, slow_ms=SLOW.get(daemon, 0.0), **orders)


def check_nothing_is_left(house: House) -> None:
    """Raises AssertionError for a daemon that still works for callers that are gone."""
    for daemon in DAEMONS:
        until = time.monotonic() + SETTLED_S
        # What dialog has open at stt lives as long as both.
        while (report := house.status(daemon)) is None or report.requests_open > 1 + (daemon == "stt"):
            if time.monotonic() > until:
                open_s = report.requests_open if report else "no answer"
                raise AssertionError(f"{daemon} does not forget callers that are gone: {open_s}")
            time.sleep(0.05)
