"""Campaign 10: those who read nothing, a tenth or a half of what comes, at a daemon's observation and in its streams.

A daemon holds no more for them than its limits say, and others get all that they ask for. An observer knows how much it
missed. A reader that stands still outlives a daemon that falls silent, and one that goes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ipc import limits
from ipc.client import Client, Stream
from ipc.errors import CallCancelled
from ipc.ids import new_rid
from ipc.messages import ChatMessage, Generate, Ping, Token
from tests.campaigns.reader import STREAMS, Reader
from tests.campaigns.subject import Subject, subject
from tests.campaigns.watch import Watch
from tests.socket.process import resident_bytes, serving
from tests.socket.rig import DAEMON, prompt

SHARES = (0, 10, 50)
"""How much of what comes is read, in percent."""

TOKENS = 1000
"""Of one answer: four times the credit that its reader begins with."""

LARGE = Generate(messages=[ChatMessage(role="user", content="word " * 1200)] * 10, max_tokens=1)
"""A header of 60 kB: what waits for an observer has to be few of them."""

LARGE_AT_ONCE = 100

ENOUGH = 10 * limits.OBSERVATION_BACKLOG_MAX
"""Headers that are more than the daemon, the kernel and a reader's own queue hold together."""

FLAT_BYTES = 10_000_000
"""What a daemon may grow by in the second half: nothing, and the noise of a process."""

SILENT_S = 6.0
"""How long a daemon says nothing before its observers read on: 1 s to a heartbeat, 3 s for the answer, and a new
connection. libzmq would abort at the first read."""

GONE_S = 1.5
"""How long a daemon is gone before a caller reads on: libzmq would abort at its next heartbeat."""

ARRIVE_S = 2.0
"""How long what was sent may take to a reader's queue. Nobody can look into it."""

HANG_S = 60.0

Readers = Mapping[int, Reader]


def run(count: int, seed: int, fault: str = "", reader_fault: str = "") -> dict[str, int]:
    """For `count` seconds. Raises AssertionError. `fault`: planted, for the observed daemon; `reader_fault`: for its
    readers. Nothing is left to chance: the seed plays no part."""
    with subject(DAEMON, fault) as daemon, _observers(daemon, reader_fault) as readers, _other() as other:
        with Watch(daemon.folder, DAEMON) as watch, Watch(other, DAEMON) as other_watch:
            told, read = asyncio.run(_both(daemon, readers, other, count))
            figures, others = watch.verdict(), other_watch.verdict()
        daemon.check_log()
        asyncio.run(_falls_silent(daemon, readers))
    _goes(reader_fault)
    return {"seconds": count, **told, **read, **figures, "MB at most in streams": others["MB at most"]}


@contextmanager
def _observers(daemon: Subject, fault: str) -> Iterator[Readers]:
    with ExitStack() as stack:
        yield {share: stack.enter_context(Reader("observer", daemon.folder, daemon.name, fault)) for share in SHARES}


@contextmanager
def _other() -> Iterator[Path]:
    """The folder of a daemon that gives tokens as fast as credit allows, to all at once."""
    with TemporaryDirectory(prefix="timmy-") as folder, serving(Path(folder)):
        yield Path(folder)


async def _both(daemon: Subject, readers: Readers, other: Path, seconds: int) -> tuple[dict[str, int], dict[str, int]]:
    until = time.monotonic() + seconds
    return await asyncio.gather(_observe(daemon, readers, until), _stream(other, until))


# --- observation ---------------------------------------------------------------------------------------------


class _Work:
    """What one caller makes a daemon publish, counted by the caller."""

    def __init__(self, client: Client) -> None:
        self.sent = self.passed = 0
        self._client = client

    async def once(self) -> None:
        """A long answer, and some to large questions."""
        await self._end(self._client.open(Generate(messages=LARGE.messages[:1], max_tokens=TOKENS)), TOKENS)
        for _ in range(LARGE_AT_ONCE):
            await self._end(self._client.open(LARGE), 1)

    async def _end(self, stream: Stream, tokens: int) -> None:
        read = len([item async for item in stream])
        assert read == tokens, f"{read} of {tokens} tokens came"
        exchange = stream._exchange
        self.sent += exchange.send_seq
        self.passed += exchange.send_seq + exchange.receive_seq


async def _observe(daemon: Subject, readers: Readers, until: float) -> dict[str, int]:
    half, half_bytes = (time.monotonic() + until) / 2, 0
    async with Client(DAEMON, "caller", folder=daemon.folder) as client:
        await client.wait_connected(30)
        for share, reader in readers.items():
            await _found(client, share, reader)
        work = _Work(client)
        while time.monotonic() < until or work.passed < ENOUGH:
            await work.once()
            for share, reader in readers.items():
                reader.tell(read=work.passed * share // 100)
            if time.monotonic() > half and not half_bytes:
                half_bytes = resident_bytes(daemon.pid)
        grown = resident_bytes(daemon.pid) - half_bytes
        assert grown < FLAT_BYTES, f"{daemon.name} grew by {grown / 1e6:.0f} MB in the second half"
        lost = {share: await _account(client, daemon, work, share, reader) for share, reader in readers.items()}
    assert lost[0], "nothing was lost to an observer that does not read"
    return {"headers": work.passed, **{f"lost to {share} %": each for share, each in lost.items()}}


async def _found(client: Client, share: int, reader: Reader) -> dict[str, int]:
    """Asks until the observer sees that. What it says then of what came before."""
    until = time.monotonic() + HANG_S
    while True:
        reader.tell(rid=(rid := new_rid()).hex())
        hearing = asyncio.create_task(asyncio.to_thread(reader.hear))
        while not hearing.done():
            if time.monotonic() > until:
                reader.kill()  # else nothing ends the thread that hears
                raise AssertionError(f"an observer of {share} % sees nothing any more")
            await client.request(Ping(), rid=rid)
            await asyncio.wait([hearing], timeout=0.05)
        if (told := await hearing)["found"]:
            return told


async def _account(client: Client, daemon: Subject, work: _Work, share: int, reader: Reader) -> int:
    """How much it counts as lost: at least what it missed of the work, and not more than passed, others' pings and
    their answers included."""
    told = await _found(client, share, reader)
    missed, most = work.passed - told["work"], work.passed + 2 * (daemon.arrived()[0] - work.sent)
    assert missed <= told["lost"], f"an observer of {share} % missed {missed} headers and counts {told['lost']}"
    assert told["seen"] + told["lost"] <= most, f"an observer of {share} % counts {told} of {most} headers"
    return told["lost"]


# --- streams -------------------------------------------------------------------------------------------------


async def _stream(folder: Path, until: float) -> dict[str, int]:
    """Streams of three callers that read as slowly, and of one that reads all."""
    read: Counter[int] = Counter()
    async with Client(DAEMON, "callers", folder=folder) as client:
        await client.wait_connected(30)
        async with asyncio.TaskGroup() as tasks:
            for share in (*SHARES, 100):
                tasks.create_task(_reads(client, share, read, until))
    return {f"read by {share} %": read[share] for share in (*SHARES[1:], 100)}


async def _reads(client: Client, share: int, read: Counter[int], until: float) -> None:
    while time.monotonic() < until:
        stream, number = client.open(prompt(TOKENS)), 0
        try:
            await _rest(share, read, until)
            async for token, _ in stream:
                assert isinstance(token, Token)
                assert token.text == str(number), f"{token.text} came, {number} was due"
                number += 1
                read[share] += 1
                await _rest(share, read, until)
                if time.monotonic() >= until:
                    waiting = len(stream._inbox)
                    assert waiting <= limits.CREDIT_EVENTS, f"{waiting} items were sent on {limits.CREDIT_EVENTS}"
                    stream.cancel()
        except CallCancelled:
            return
        assert number == TOKENS, f"{number} of {TOKENS} tokens came"


async def _rest(share: int, read: Counter[int], until: float) -> None:
    """Until it is its turn again."""
    while share < 100 and read[share] * 100 >= share * read[100] and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # what it waits for is a counter, not an event


# --- what happens before they have read ------------------------------------------------------------


async def _falls_silent(daemon: Subject, readers: Readers) -> None:
    async with Client(DAEMON, "caller", folder=daemon.folder) as client:
        await client.wait_connected(30)
        work = _Work(client)
        while work.passed < ENOUGH:
            await work.once()
    await asyncio.sleep(SILENT_S)
    for reader in readers.values():
        reader.tell(rid=new_rid().hex())
        reader.hear()


def _goes(fault: str) -> None:
    """A caller has more streams than a queue of libzmq would hold, and reads when their daemon is gone."""
    with (
        TemporaryDirectory(prefix="timmy-") as folder,
        serving(Path(folder)) as daemon,
        Reader("caller", Path(folder), DAEMON, fault) as caller,
    ):
        assert caller.hear() == {"open": STREAMS}
        time.sleep(ARRIVE_S)
        daemon.kill()
        time.sleep(GONE_S)
        caller.tell(read="on")
        caller.hear()
