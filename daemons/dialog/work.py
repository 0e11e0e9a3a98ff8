"""Carrying out what a turn needs: recall, model and speech as tasks that bear their Work.

A task ends by telling the core. Cancelling one cancels its request at the daemon too, so nothing of it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from daemons.config import Dialog
from daemons.dialog.core import Conversation
from daemons.dialog.effects import (
    CancelModel,
    CancelWork,
    Effect,
    EndSpeech,
    Foresee,
    Release,
    RestModel,
    SpeakClause,
    StartModel,
    StartRecall,
    Work,
)
from daemons.dialog.peers import Peer
from daemons.journald import about
from ipc import messages
from ipc.client import Stream
from ipc.errors import CallCancelled, CallError, TimmyError
from ipc.marks import Marker, Stage
from ipc.messages import (
    ChatMessage,
    Clause,
    ClauseReady,
    Generate,
    Generated,
    Memory,
    PlaybackDrained,
    PlaybackStarted,
    Recall,
    Recalled,
    Speak,
    Token,
)

log = logging.getLogger(__name__)

RECALL_TTL_MS = 2000
MODEL_TTL_MS = 120_000
Clauses = asyncio.Queue[Clause | messages.Release | None]
"""What goes up to the voice for one utterance; None: that was all."""

Act = Callable[[Conversation, list[Effect]], None]


class Workers:
    """What is under way for one conversation."""

    def __init__(
        self, conversation: Conversation, peers: dict[str, Peer], act: Act, settings: Dialog, marks: Marker
    ) -> None:
        self._conversation = conversation
        self._peers = peers
        self._act = act
        self.settings = settings
        self._marks = marks
        self._tasks: dict[tuple[Work, str], asyncio.Task[None]] = {}
        self._clauses: dict[Work, Clauses] = {}
        self._models: dict[Work, Stream] = {}

    def carry_out(self, effect: Effect) -> None:
        """Starts or stops what a turn asks for."""
        match effect:
            case StartRecall(work, text):
                self._marks.mark(work.turn, Stage.RECALL_START)
                self._spawn(work, "recall", self._recall(work, text))
            case Foresee(work, text):
                self._spawn(work, "foresight", self._foresee(work, text))
            case StartModel(work, prompt, stable_tokens):
                self._marks.mark(work.turn, Stage.PROMPT_BUILT, arg=len(prompt))
                self._marks.mark(work.turn, Stage.STABLE_TOKENS, arg=stable_tokens)
                self._spawn(work, "model", self._model(work, prompt))
            case SpeakClause(work, text, held):
                self._clause(work, text, held)
            case RestModel(work, ms):
                self._rest(work, ms)
            case Release(work):
                self._clauses[work].put_nowait(messages.Release())
            case EndSpeech(work):
                self._clauses[work].put_nowait(None)
            case CancelWork(work):
                self._marks.mark(work.turn, Stage.REVOKED, arg=work.revision)
                self._cancel(work, "recall", "model", "speech")
                self._clauses.pop(work, None)
            case CancelModel(work):
                self._cancel(work, "model")
            case _:
                raise TypeError(f"{type(effect).__name__} is not work")

    def _clause(self, work: Work, text: str, held: bool) -> None:
        """Hands a clause to the voice. The first one opens the utterance."""
        if work not in self._clauses:
            self._marks.mark(work.turn, Stage.FIRST_CLAUSE)
            self._clauses[work] = asyncio.Queue()
            self._spawn(work, "speech", self._speech(work, held, self._clauses[work]))
        self._clauses[work].put_nowait(Clause(text=text))

    def _rest(self, work: Work, ms: int) -> None:
        if stream := self._models.get(work):
            with contextlib.suppress(TimmyError):  # its end is on its way to the core
                stream.offer(messages.Rest(ms=ms))

    def _cancel(self, work: Work, *kinds: str) -> None:
        for kind in kinds:
            if task := self._tasks.get((work, kind)):
                task.cancel()

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _spawn(self, work: Work, kind: str, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks[work, kind] = task

        def over(done: asyncio.Task[None]) -> None:
            if self._tasks.get((work, kind)) is done:  # else the same work has begun anew: a caller asked again
                del self._tasks[work, kind]
            if not done.cancelled() and (error := done.exception()):
                log.error("the %s of a turn failed inside", kind, exc_info=error, extra=about(rid=work.turn))

        task.add_done_callback(over)

    def _tell(self, effects: list[Effect]) -> None:
        self._act(self._conversation, effects)

    async def _recalled(self, work: Work, text: str) -> Recalled:
        client = await self._peers["memory"].ready(RECALL_TTL_MS / 1000)
        recall = Recall(text=text, limit=self.settings.recall_limit)
        reply = await client.request(recall, rid=work.turn, ttl_ms=RECALL_TTL_MS)
        assert isinstance(reply, Recalled)
        return reply

    async def _foresee(self, work: Work, text: str) -> None:
        memories: list[Memory] = []
        try:
            memories = (await self._recalled(work, text)).memories
        except TimmyError as error:
            log.debug("nothing foreseen: %s", error)
        self._tell(self._conversation.foreseen(work, memories))

    async def _recall(self, work: Work, text: str) -> None:
        try:
            reply = await self._recalled(work, text)
        except TimmyError as error:
            log.warning("answering without memories: %s", error, extra=about(rid=work.turn))
            self._marks.mark(work.turn, Stage.RECALL_END)
            self._tell(self._conversation.recalled(work, [], (0, 0), time.monotonic_ns()))
            return
        self._marks.mark(work.turn, Stage.RECALL_END, arg=len(reply.memories))
        times = (reply.received_ns, reply.finished_ns)
        self._tell(self._conversation.recalled(work, reply.memories, times, time.monotonic_ns()))

    async def _model(self, work: Work, prompt: Sequence[ChatMessage]) -> None:
        stream: Stream | None = None
        try:
            client = await self._peers["llm"].ready()
            request = Generate(messages=list(prompt), max_tokens=self.settings.max_answer_tokens)
            self._marks.mark(work.turn, Stage.MODEL_SENT)
            stream = client.open(request, rid=work.turn, ttl_ms=MODEL_TTL_MS)
            if client.peer and "rest" in client.peer.features:
                self._models[work] = stream
            came = False
            async for item, _ in stream:
                assert isinstance(item, Token)
                if not came:
                    came = True
                    self._marks.mark(work.turn, Stage.TOKEN_RECEIVED)
                self._tell(self._conversation.token(work, item.text, item.t_ns, time.monotonic_ns()))
            usage = await stream.result()
            assert isinstance(usage, Generated)
            self._tell(self._conversation.model_done(work, usage, time.monotonic_ns()))
        except TimmyError as error:
            self._tell(self._conversation.model_failed(work, str(error), time.monotonic_ns()))
        except asyncio.CancelledError:
            if stream is not None:
                stream.cancel("revoked")
            raise
        finally:
            if stream is not None and self._models.get(work) is stream:
                del self._models[work]

    async def _speech(self, work: Work, held: bool, clauses: Clauses) -> None:
        stream: Stream | None = None
        sender: asyncio.Task[None] | None = None
        try:
            client = await self._peers["tts"].ready()
            stream = client.open(Speak(conversation=self._conversation.name, hold=held), rid=work.turn)
            sender = asyncio.get_running_loop().create_task(_send_clauses(stream, clauses))
            async for item, _ in stream:
                self._sounded(work, item)
            await stream.result()
            # Text in which nothing can be pronounced ends without a sound.
            self._tell(self._conversation.playback_drained(work, time.monotonic_ns()))
        except TimmyError as error:
            self._tell(self._conversation.speech_failed(work, str(error), time.monotonic_ns()))
        except asyncio.CancelledError:
            if stream is not None:
                stream.cancel("revoked")
            raise
        finally:
            if self._clauses.get(work) is clauses:
                del self._clauses[work]
            if sender is not None:
                sender.cancel()

    def _sounded(self, work: Work, item: object) -> None:
        conversation, now_ns = self._conversation, time.monotonic_ns()
        if isinstance(item, ClauseReady):
            self._tell(conversation.clause_ready(work, item.received_ns, now_ns))
        elif isinstance(item, PlaybackStarted):
            self._tell(conversation.playback_started(work, item.t_ns, now_ns))
        elif isinstance(item, PlaybackDrained):
            self._tell(conversation.playback_drained(work, item.t_ns))


async def _send_clauses(stream: Stream, clauses: Clauses) -> None:
    try:
        while (item := await clauses.get()) is not None:
            await stream.send(item)
        stream.end()
    except (CallError, CallCancelled) as error:
        # The reading side gets the same failure and tells the core.
        log.debug("no more clauses go out: %s", error)


def open_or_log(peer: Peer, body: Any, ttl_ms: int, rid: bytes | None = None) -> None:
    """Sends a request whose answer changes nothing. Order on the wire is the order of the calls."""
    try:
        peer.client.open(body, rid=rid, ttl_ms=ttl_ms)
    except TimmyError as error:
        log.debug("%s not told: %s", peer.daemon, error)
