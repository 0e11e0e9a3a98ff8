"""Campaign 13: engines that fail. Each request has one end, an error says what is wrong, the next one is served."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ipc.client import Client
from ipc.errors import CallError, Code
from ipc.messages import Result, Status, StatusReport
from tests.campaigns.asking import Accountant, feed, generate, recall, remember, speak
from tests.campaigns.watch import Watch
from tests.support import fake_house
from tests.support.eventually import eventually
from tests.support.fake_house import Orders
from tests.support.fake_ollama import FakeOllama
from tests.support.forked import Forked

TTL_MS = 400
"""What a request to a hanging engine is given; any other has `LONG_MS`."""
LONG_MS = 20_000
PATIENCE_S = 30.0
"""Only a request without an end takes so long."""
MODEL = "llama3.2:3b"

Ask = Callable[[Client, int], Awaitable[Result]]
Start = Callable[..., Forked]


@dataclass(frozen=True, slots=True)
class Fault:
    """`codes`: what the request may end with, none: it ends well all the same. `says`: words of the error."""

    daemon: str
    name: str
    ask: Ask
    codes: frozenset[Code] = frozenset()
    says: str = ""


_FAILED, _LATE = frozenset({Code.ENGINE_FAILED, Code.INTERNAL}), frozenset({Code.DEADLINE})
_UPSTREAM = frozenset({Code.UPSTREAM_FAILED, Code.UPSTREAM_DOWN})
_INSIDE, _OWN = "failed inside; its log says how", "has lost its mind: restart it"

FAULTS = (
    Fault("llm", "exception", generate, _FAILED, _INSIDE),
    Fault("llm", "engine error", generate, _FAILED, _OWN),
    Fault("llm", "hang", generate, _LATE, "took longer than"),
    Fault("llm", "empty", generate, frozenset({Code.EMPTY_ANSWER}), "without words"),
    Fault("llm", "huge", generate),
    Fault("llm", "bad UTF-8", generate),
    Fault("tts", "exception", speak, _FAILED, _INSIDE),
    Fault("tts", "engine error", speak, _FAILED, _OWN),
    Fault("tts", "hang", speak, _LATE, "took longer than"),
    Fault("tts", "half a sample", speak, _FAILED, "the voice"),
    Fault("tts", "empty", speak),
    Fault("tts", "no audio", speak),
    Fault("memory", "exception", recall, _FAILED, _INSIDE),
    Fault("memory", "exception", remember, _FAILED, _INSIDE),
    Fault("memory", "engine error", recall, _FAILED, _OWN),
    Fault("memory", "hang", recall, _LATE, "took longer than"),
    Fault("memory", "hang", remember, _LATE, "took longer than"),
    Fault("memory", "NaN", recall, _FAILED, "the embedder"),
    Fault("memory", "NaN", remember, _FAILED, "the embedder"),
    Fault("memory", "short", recall, _FAILED, "the embedder"),
    Fault("memory", "empty", remember, _FAILED, "the embedder"),
    Fault("memory", "classifier", remember, _FAILED, _INSIDE),
    Fault("memory", "no grade", remember, _FAILED, "the classifier"),
    Fault("stt", "exception", feed),
    Fault("stt", "engine error", feed),
    Fault("stt", "hang", feed, _LATE, "took longer than"),
    Fault("stt", "empty", feed),
    Fault("stt", "huge", feed),
    Fault("stt", "bad UTF-8", feed),
)
"""What the engines in the daemons do."""

OLLAMA = tuple(
    Fault("ollama", name, generate, codes, says)
    for name, codes, says in (
        ("500", _UPSTREAM, "the runner has died"),
        ("404", frozenset({Code.MODEL_MISSING}), "lacks the model"),
        ("not json", _UPSTREAM, "is no Ollama"),
        ("not ollama", _UPSTREAM, "Ollama"),
        ("stops", _UPSTREAM, "Ollama at"),
        ("ends", _UPSTREAM, "in the middle"),
        ("error", _UPSTREAM, "out of memory"),
        ("silent", _LATE, "took longer than"),
        ("slow", _LATE, "took longer than"),
        ("bad UTF-8", frozenset(), ""),
        ("huge", frozenset(), ""),
    )
)
"""What a server does that the llm daemon asks."""


def run(count: int, seed: int, start: Start = fake_house.start) -> dict[str, int]:
    """Each fault so often, in random order. Raises AssertionError with the seed."""
    chance = random.Random(seed)
    faults = [*FAULTS, *OLLAMA] * count
    chance.shuffle(faults)
    with tempfile.TemporaryDirectory(prefix="timmy-") as name, ExitStack() as stack:
        folder = Path(name)
        try:
            requests, seen = _campaign(folder, faults, stack, start)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    return {"times": count, "faults": len(FAULTS) + len(OLLAMA), "requests": requests, **seen}


def _campaign(folder: Path, faults: list[Fault], stack: ExitStack, start: Start) -> tuple[int, dict[str, int]]:
    """How many requests had their one end, and what was seen of the daemons meanwhile."""
    ollama = stack.enter_context(FakeOllama((MODEL,)))
    house, other = folder / "a", folder / "b"
    for place in (house, other):
        (place / "run").mkdir(0o700, parents=True)
    settings = {"TIMMY_LLM_ENGINE": "ollama", "TIMMY_LLM_OLLAMA_URL": ollama.url, "TIMMY_LLM_OLLAMA_MODEL": MODEL}
    daemons = {daemon: stack.enter_context(start(daemon, house)) for daemon in ("stt", "llm", "memory", "tts")}
    daemons["ollama"] = stack.enter_context(start("llm", other, settings, real_model=True))
    asyncio.run(_torment(house, other, [], daemons, ollama))  # until they are ready
    with Watch(house / "run", "stt", "llm", "memory", "tts", calm_s=0.5) as watch:
        requests = asyncio.run(_torment(house, other, faults, daemons, ollama))
        return requests, watch.verdict()


async def _torment(
    house: Path, other: Path, faults: list[Fault], daemons: dict[str, Forked], ollama: FakeOllama
) -> int:
    orders = Orders(house)
    async with _clients(house, other) as clients:
        for fault in faults:
            try:
                await _try(clients[fault.daemon], fault, orders, ollama)
                assert daemons[fault.daemon].process.is_alive(), "the daemon died"
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"{fault.daemon}, {fault.name}, {fault.ask.__name__}: {error!r}") from error
        return sum(client.check() for client in clients.values())


@asynccontextmanager
async def _clients(house: Path, other: Path) -> AsyncIterator[dict[str, Accountant]]:
    """Connected to daemons that are ready."""
    clients = {name: Accountant(name, "test", folder=house / "run") for name in ("stt", "llm", "memory", "tts")}
    clients["ollama"] = Accountant("llm", "test", folder=other / "run")
    try:
        for client in clients.values():
            await client.start()
            await client.wait_connected(30)
            await eventually(partial(_loaded, client))
        yield clients
    finally:
        for client in clients.values():
            await client.close()


async def _loaded(client: Client) -> bool:
    report: Any = await client.request(Status())
    assert isinstance(report, StatusReport)
    return report.state != "loading"


async def _try(client: Client, fault: Fault, orders: Orders, ollama: FakeOllama) -> None:
    """A request with the fault, and one without it."""
    _set(fault.daemon, fault.name, orders, ollama)
    failure = await _failure(fault.ask, client, TTL_MS if fault.codes == _LATE else LONG_MS)
    code, says = (failure.code, str(failure)) if failure else (None, "")
    assert code in (fault.codes or {None}), f"it ended in {code or 'nothing wrong'}: {says!r}"
    # On a busy machine the caller's own clock may be the first to say so.
    assert fault.says in says or (fault.codes == _LATE and "did not answer in time" in says), f"it says {says!r}"
    _set(fault.daemon, "", orders, ollama)
    failure = await _failure(fault.ask, client, LONG_MS)
    assert failure is None, f"afterwards it is not served: {failure}"


async def _failure(ask: Ask, client: Client, ttl_ms: int) -> CallError | None:
    """How a request ended that did not end well."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await ask(client, ttl_ms)
    except CallError as error:
        return error
    return None


def _set(daemon: str, name: str, orders: Orders, ollama: FakeOllama) -> None:
    if daemon == "ollama":
        ollama.fault = name
    else:
        orders.give(f"fault-{daemon}", name)
