"""The five services on real sockets, with engines of numbers; each can die as a killed process does, and come back."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from unittest import mock

import msgspec

from daemons.config import Config, Stt, Tts
from daemons.dialog import patience, work
from daemons.engines.fakes_memory import FakeClassifier
from daemons.engines.fakes_stt import FakeDetector
from daemons.llm.service import LlmService
from daemons.memory import worker
from daemons.runtime import Service
from daemons.stt import service as stt_service
from daemons.stt.turn import Heard
from ipc.call import Call
from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.ids import new_rid
from ipc.messages import Result, StatusReport, Welcome
from ipc.server import Server
from ipc.transport import Frames, ZmqClientTransport, ZmqServerTransport
from tests.support.schedules.book import Book, NotingDialog, NotingMemory, NotingStt, NotingTts, writing
from tests.support.schedules.engines import Embedder, Model, Synthesizer, Transcriber
from tests.support.suite import house as environment

CONFIG = Config(stt=Stt(input="none"), tts=Tts(output="none"))


class MortalServer(ZmqServerTransport):
    """Once `dead`, nothing leaves it: a killed process says no good-bye."""

    dead = False

    def send(self, peer: bytes, frames: Frames) -> bool:
        return not self.dead and super().send(peer, frames)


class MortalClient(ZmqClientTransport):
    dead = False

    def send(self, frames: Frames) -> bool:
        return not self.dead and super().send(frames)


class BootedServer(Server):
    """Says in each life that it is another process."""

    def _hello(self, call: Call) -> Result:
        welcome = super()._hello(call)
        assert isinstance(welcome, Welcome)
        return msgspec.structs.replace(welcome, boot_id=self.boot_id)

    boot_id = b""


class Life:
    """One daemon from its start to its death."""

    def __init__(self, name: str, service: Service, folder: Path) -> None:
        self.service = service
        self.clients: list[MortalClient] = []
        self._name = name
        self._transport = MortalServer(name, folder)
        self._server = BootedServer(name, self._transport, service.handlers(), self._report)
        self._server.boot_id = new_rid()

    async def begin(self) -> None:
        """Serves once it is ready."""
        await self.service.load()
        self._server.start()

    async def end(self, *, killed: bool) -> None:
        if killed:
            self._transport.dead = True
            for transport in self.clients:
                transport.dead = True
            if isinstance(self.service, NotingDialog):
                self.service.die()
        await self._server.close()
        await self.service.close()

    def _report(self) -> StatusReport:
        return StatusReport(
            daemon=self._name, state="ready", detail="", engine="", model="", device="", pid=os.getpid(),
            uptime_s=0.0, rss_bytes=0, requests_open=0, last_error="",
        )  # fmt: skip


class House:
    """All five daemons. `chance` decides what their engines do."""

    def __init__(self, book: Book, chance: random.Random, folder: Path) -> None:
        self.book = book
        self.chance = chance
        self.folder = folder
        self.lives: dict[str, Life] = {}
        self._answers = itertools.count(1)
        self._utterances = itertools.count(1)
        self._makes: dict[str, Callable[[], Service]] = {
            "stt": lambda: NotingStt(CONFIG, lambda: Transcriber(self.book, self.chance), FakeDetector),
            "llm": lambda: LlmService(CONFIG, Model(self.book, self.chance, self._answers)),
            "memory": lambda: NotingMemory(
                CONFIG, lambda: Embedder(self.book, self.chance), lambda embedder: FakeClassifier()
            ),
            "tts": self._tts,
        }

    @property
    def dialog(self) -> NotingDialog:
        service = self.lives["dialog"].service
        assert isinstance(service, NotingDialog)
        return service

    async def begin(self, name: str) -> None:
        clients: list[MortalClient] = []

        def connect(daemon: str) -> Client:
            clients.append(MortalClient(daemon, self.folder))
            return Client(daemon, "dialog", transport=clients[-1])

        service = NotingDialog(CONFIG, connect) if name == "dialog" else self._makes[name]()
        life = Life(name, service, self.folder)
        life.clients = clients
        await life.begin()
        self.lives[name] = life

    async def end(self) -> None:
        for name in ("dialog", "stt", "llm", "memory", "tts"):
            await self.lives[name].end(killed=False)

    async def kill(self, name: str) -> None:
        """It dies, and is started again as by supervision. Ears are back when they hear and are listened to again."""
        self.book.note_all("died", name)
        await self.lives[name].end(killed=True)
        await asyncio.sleep(self.chance.uniform(0.2, 1.0))
        await self.begin(name)

    def _tts(self) -> NotingTts:
        service = NotingTts(CONFIG, lambda: Synthesizer(self.book, self.chance))
        service._numbers = self._utterances  # each utterance of the house has its own
        return service


@contextmanager
def _hurry(chance: random.Random) -> Iterator[None]:
    """Short patience, and a silence that ends a turn as in simulated time: any of these."""

    def judge(*_: object) -> Callable[[str, Sequence[Heard], int], int]:
        return lambda text, frames, last_voiced_ns: chance.choice((350, 350, 700, 1200))

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(stt_service, "confirm_after", judge))
        for module, name, value in (
            (patience, "RECALL_PATIENCE_S", 1.0),
            (patience, "FIRST_TOKEN_PATIENCE_S", 2.0),
            (patience, "STALL_PATIENCE_S", 2.0),
            (work, "RECALL_TTL_MS", 1000),
            (worker, "_LAST_JOB_S", 10.0),  # a dead thread holds no store, as a dead process holds none
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        yield


@asynccontextmanager
async def house(book: Book, chance: random.Random, state: Path) -> AsyncIterator[House]:
    """A house whose daemons are up, in folders of its own."""
    with environment(state), writing(book), _hurry(chance):
        daemons = House(book, chance, Path(os.environ["TIMMY_RUNTIME"]))
        for name in DAEMONS:
            await daemons.begin(name)
        try:
            yield daemons
        finally:
            await daemons.end()
