"""The dialog daemon: drives stt, memory, llm and tts through each turn, and serves those who ask and follow."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from daemons.config import Config, Dialog, state_dir
from daemons.dialog.core import Conversation
from daemons.dialog.effects import (
    Effect,
    Mute,
    ReadPrompt,
    Report,
    Store,
    TellHeard,
    TellSaid,
    Withdraw,
)
from daemons.dialog.followers import Followers
from daemons.dialog.hearing import Hearing
from daemons.dialog.journal import Journal
from daemons.dialog.manner import Manner
from daemons.dialog.peers import Peer
from daemons.dialog.prompt import Prompter
from daemons.dialog.reading import Reader, miss
from daemons.dialog.storing import Storing
from daemons.dialog.turn import Phase
from daemons.dialog.work import Workers, open_or_log
from daemons.engines.base import EngineInfo
from daemons.journald import TURN, about
from ipc import messages
from ipc.call import Call, Handler
from ipc.client import Client
from ipc.endpoints import runtime_dir
from ipc.errors import CallError, Code, TimmyError
from ipc.marks import NO_MARKS, OUTCOMES, Marker, Stage
from ipc.messages import HOME, Body, Notice, Result, TurnHeard, TurnReport, TurnSaid

log = logging.getLogger(__name__)

TICK_S = 0.2
AGAIN_S = 1.0
MUTE_TTL_MS = 1000
CONVERSATIONS_MAX = 64


def _manner(settings: Dialog) -> Manner:
    return Manner(settings.early_work, settings.foresight, settings.first_clause_words)


def _clock() -> str:
    return time.strftime("%A, %-d %B %Y, %H:%M")


async def _keep_up(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs what a conversation cannot do without, and again when it failed inside."""
    while True:
        try:
            await job()
        except Exception:
            log.exception("%s failed inside and starts again", job.__qualname__)
        await asyncio.sleep(AGAIN_S)


class DialogService:
    """Meets daemons.runtime.Service. `connect` gives the client of a daemon."""

    def __init__(
        self, config: Config, connect: Callable[[str], Client] | None = None, *, marks: Marker = NO_MARKS
    ) -> None:
        self._settings = config.dialog
        self._marks = marks
        connect = connect or partial(Client, name="dialog", folder=runtime_dir(), marks=marks)
        self._peers = {name: Peer(name, connect) for name in ("stt", "memory", "llm", "tts")}
        self._reader = Reader(self._peers["llm"])
        self._conversations: dict[str, Conversation] = {}
        self._workers: dict[str, Workers] = {}
        self._followers = Followers()
        self._journal: Journal | None = None
        self._storing: Storing | None = None
        self._busy = asyncio.Event()
        self._ticked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.info = EngineInfo("dialog", "", "")

    @property
    def trouble(self) -> str:
        absent = [name for name, peer in self._peers.items() if not peer.present]
        waiting = f"waiting for {', '.join(absent)}" if absent else ""
        return waiting or (self._journal.trouble if self._journal else "")

    def handlers(self) -> Mapping[type[Body], Handler]:
        return {messages.Ask: self._ask, messages.Say: self._say, messages.Follow: self._follow}

    async def load(self) -> None:
        """Connects. The other daemons may come later: a turn waits for what it needs."""
        self._journal = Journal(state_dir() / "dialog" / "to-remember.jsonl")
        self._storing = Storing(self._journal, self._peers["memory"])
        self._storing.look(self._each())
        for peer in self._peers.values():
            await peer.start()
        hearing = Hearing(self._peers["stt"], self.conversation, self.act, self._followers, self._each, self._marks)
        loop = asyncio.get_running_loop()
        for job in (hearing.run, self._keep_time, self._storing.run, self._keep_prompt_read):
            self._tasks.append(loop.create_task(_keep_up(job)))

    live = frozenset(Dialog.__struct_fields__)

    def adopt(self, config: Config) -> None:
        """A turn in hand keeps the prompt it has; a persona that changes is read by the model at once."""
        if config.dialog == self._settings:
            return
        self._settings = config.dialog
        for name, conversation in self._conversations.items():
            fresh = self._settings
            conversation.adopt(_manner(fresh))
            conversation.prompter.adopt(fresh.assistant_name, fresh.persona, fresh.history_turns)
            self._workers[name].settings = fresh
        home = self.conversation(HOME)
        self.act(home, [home.read_prompt()])

    async def beat(self) -> None:
        """With the clock of the turns, while there are any."""
        if self._busy.is_set():
            self._ticked.clear()
            await self._ticked.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reader.close()
        for workers in self._workers.values():
            await workers.close()
        for peer in self._peers.values():
            await peer.close()
        if self._journal is not None:
            await self._journal.written()

    # --- conversations ---

    def conversation(self, name: str) -> Conversation:
        """The conversation of that name; a new one begins with an empty history."""
        if name not in self._conversations:
            self._make_room()
            prompter = Prompter(
                self._settings.assistant_name, self._settings.persona, self._settings.history_turns, _clock
            )
            new = Conversation(name, prompter, _manner(self._settings))
            self._conversations[name] = new
            self._workers[name] = Workers(new, self._peers, self.act, self._settings, self._marks)
        else:  # the one least recently used is the first to make room
            self._conversations[name] = self._conversations.pop(name)
        return self._conversations[name]

    def _make_room(self) -> None:
        idle = [name for name, known in self._conversations.items() if known.phase is Phase.IDLE and name != HOME]
        if len(self._conversations) < CONVERSATIONS_MAX:
            return
        if not idle:
            raise CallError(Code.BUSY, f"{CONVERSATIONS_MAX} conversations are going on already")
        del self._conversations[idle[0]], self._workers[idle[0]]

    def _each(self) -> list[Conversation]:
        return list(self._conversations.values())

    # --- effects ---

    def act(self, conversation: Conversation, effects: list[Effect]) -> None:
        """Carries out what the core asks for."""
        assert self._storing is not None
        for effect in effects:
            self._carry_out(conversation, effect)
        self._storing.look(self._each())
        if any(each.phase is not Phase.IDLE for each in self._each()):
            self._busy.set()
        else:
            self._busy.clear()

    def _carry_out(self, conversation: Conversation, effect: Effect) -> None:
        assert self._journal is not None
        match effect:
            case Mute(turn, from_ns, lease_ms):
                mute = messages.Mute(conversation=conversation.name, from_ns=from_ns, lease_ms=lease_ms)
                open_or_log(self._peers["stt"], mute, MUTE_TTL_MS, turn)
            case ReadPrompt(prompt, stable):
                self._reader.read(conversation, prompt, stable)
            case Store():
                self._journal.add(effect)
            case Withdraw(promise):
                self._journal.withdraw(promise)
            case TellHeard(turn, text, final):
                self._followers.tell(conversation.name, TurnHeard(turn=turn, text=text, final=final))
            case TellSaid(turn, text):
                self._followers.tell(conversation.name, TurnSaid(turn=turn, text=text))
            case Report(report):
                _log_turn(report)
                self._mark_end(report)
                self._followers.tell(conversation.name, report)
            case _:
                self._workers[conversation.name].carry_out(effect)

    def _mark_end(self, report: TurnReport) -> None:
        if report.outcome == "cancelled":
            self._marks.mark(report.turn, Stage.CANCELLED)
        self._marks.note(report.turn, "conversation", report.conversation)
        if self._settings.trace_words:
            self._marks.note(report.turn, "heard", report.heard)
        self._marks.mark(report.turn, Stage.ENDED, arg=OUTCOMES.index(report.outcome))

    # --- what goes on beside the turns ---

    async def _keep_time(self) -> None:
        while True:
            await self._busy.wait()
            await asyncio.sleep(TICK_S)
            for conversation in self._each():
                self.act(conversation, conversation.tick(time.monotonic_ns()))
            self._ticked.set()

    async def _keep_prompt_read(self) -> None:
        """A model that has just started has read nothing: give it the start of every prompt."""
        peer, read_by = self._peers["llm"], b""
        while True:
            try:
                client = await peer.ready()
            except TimmyError:
                continue
            if client.peer and client.peer.boot_id != read_by:
                read_by = client.peer.boot_id
                home = self.conversation(HOME)
                self.act(home, [home.read_prompt()])
            await peer.lost()

    # --- who asks and who follows ---

    async def _ask(self, call: Call) -> Result:
        body: messages.Ask = call.body
        if not body.text.strip():
            raise CallError(Code.BAD_REQUEST, "there is no question in it")
        conversation = self._idle(body.conversation)
        self._marks.mark(call.rid, Stage.HEARD, call.received_ns, len(body.text.split()))
        with self._followers.of(body.conversation) as told:
            self.act(conversation, conversation.ask(call.rid, body.text, body.speak, time.monotonic_ns()))
            report = await self._until_report(call, conversation, told)
        if report.outcome != "answered":
            raise CallError(Code.ENGINE_FAILED, report.detail or report.outcome)
        return messages.Answered(
            said=report.said,
            prompt_tokens=report.prompt_tokens,
            cached_tokens=report.cached_tokens,
            completion_tokens=report.completion_tokens,
            memories=report.memories,
        )

    async def _say(self, call: Call) -> Result:
        body: messages.Say = call.body
        conversation = self._idle(body.conversation)
        with self._followers.of(body.conversation) as told:
            self.act(conversation, conversation.say(call.rid, body.text, time.monotonic_ns()))
            report = await self._until_report(call, conversation, told)
        if report.outcome != "answered":
            raise CallError(Code.ENGINE_FAILED, report.detail or report.outcome)
        return messages.Done()

    def _idle(self, name: str) -> Conversation:
        conversation = self.conversation(name)
        if conversation.phase is not Phase.IDLE:
            raise CallError(Code.BUSY, f"conversation {name!r} is in the middle of a turn: ask again in a moment")
        return conversation

    async def _until_report(self, call: Call, conversation: Conversation, told: asyncio.Queue[Body]) -> TurnReport:
        """Passes on what is said, until the turn is over; a caller who leaves ends it."""
        gap = ""
        try:
            while True:
                item = await told.get()
                if isinstance(item, TurnReport) and item.turn == call.rid:
                    return item
                if isinstance(item, TurnSaid) and item.turn == call.rid and isinstance(call.body, messages.Ask):
                    await call.send(messages.Delta(text=gap + item.text))
                    gap = " "
        finally:
            self.act(conversation, conversation.cancel(call.rid, time.monotonic_ns()))

    async def _follow(self, call: Call) -> Result:
        body: messages.Follow = call.body
        with self._followers.of(body.conversation) as told:
            if self.trouble:
                await call.send(Notice(text=self.trouble))
            while True:
                await call.send(await told.get())


def _log_turn(report: TurnReport) -> None:
    """Figures only: what was said and heard stays out of the log."""
    audio = "no sound" if report.first_audio_ms is None else f"first audio after {report.first_audio_ms:.0f} ms"
    log.info(
        "turn %s %s: %s, %d of %d prompt tokens cached, %d memories%s",
        report.turn.hex(),
        report.outcome,
        audio,
        report.cached_tokens,
        report.prompt_tokens,
        report.memories,
        f" ({report.detail})" if report.detail else "",
        extra=about(TURN, report.turn),
    )
    if reason := miss(report):
        words = "turn %s: the start of its prompt was not cached: %s"
        log.info(words, report.turn.hex(), reason, extra=about(rid=report.turn))
