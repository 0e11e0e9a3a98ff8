"""One schedule: the clock, the hops, dialog with its engines, and what goes wrong.

Everything around the real cores is simulated from one seed: what is said and with which pauses, how long hops and
engines take, what fails, stalls or comes late, and which daemon dies when.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from daemons.dialog import effects as d
from daemons.dialog.core import Conversation
from daemons.dialog.effects import Work
from daemons.dialog.prompt import Prompter
from daemons.dialog.turn import Phase
from daemons.stt.core import Segmenter
from daemons.stt.endpointing import ConfirmAfter
from daemons.tts.core import SpeakingCore
from ipc.messages import (
    Generated,
    Memory,
    Partial,
    SpeechStarted,
    TurnCandidate,
    TurnDropped,
    TurnFinal,
    TurnResumed,
)
from tests.support.schedules.ear import Ear, script
from tests.support.schedules.record import MS, START_NS, Event, Record, note_effect, note_heard
from tests.support.schedules.voice import Voice

TICK_NS = 200 * MS
QUIET_NS = 90_000 * MS
"""After the last word: longer than any patience."""
Do = Callable[[], None]


@dataclass(frozen=True)
class Cores:
    """What works in the schedule: the cores as they are, or with a fault planted in one."""

    conversation: Callable[[str, Prompter], Conversation] = Conversation
    segmenter: Callable[[str, Callable[[], bytes], ConfirmAfter], Segmenter] = Segmenter
    speaking: Callable[[int], SpeakingCore] = SpeakingCore


class World:
    """One schedule. `chance` decides all of it."""

    def __init__(self, seed: int, cores: Cores = Cores()) -> None:
        self.chance = random.Random(seed)
        self.cores = cores
        self.record = Record(seed)
        self.now_ns = START_NS
        self._queue: list[tuple[int, int, Do]] = []
        self._count = itertools.count(1)
        self._rids = (n.to_bytes(16, "big") for n in itertools.count(1))
        self._channels: dict[str, int] = {}
        self._lives = {"stt": 0, "dialog": 0, "llm": 0, "memory": 0, "tts": 0}
        self.listening = True
        """Whether dialog is there."""
        self.dialog = self._new()
        self.ear = Ear(self)
        self.voice = Voice(self)
        self._cancelled: set[Work] = set()
        self._models: dict[Work, None] = {}
        self._late = self.chance.random() < 0.5  # results of cancelled work arrive all the same

    def _new(self) -> Conversation:
        return self.cores.conversation("home", Prompter("Timmy", "", 12, lambda: "noon"))

    # --- time ---

    def at(self, t_ns: int, do: Do) -> None:
        heapq.heappush(self._queue, (max(t_ns, self.now_ns), next(self._count), do))

    def after(self, least_ms: float, most_ms: float, do: Do) -> None:
        self.at(self.now_ns + int(self.chance.uniform(least_ms, most_ms) * MS), do)

    def send(self, channel: str, do: Do) -> None:
        """A hop: in order, with a delay."""
        t_ns = self.now_ns + int(self.chance.choice((0.3, 1, 5, 25)) * MS)
        self._channels[channel] = t_ns = max(t_ns, self._channels.get(channel, 0))
        self.at(t_ns, do)

    def while_alive(self, do: Do, *daemons: str) -> Do:
        """Nothing of, or for, a daemon that has died since happens."""
        lives = [self._lives[daemon] for daemon in daemons]
        return lambda: do() if lives == [self._lives[daemon] for daemon in daemons] else None

    def to_dialog(self, do: Do, *daemons: str) -> Do:
        """What comes from `daemons` for the dialog that is there now, if one is."""
        return self.while_alive(do, "dialog", *daemons) if self.listening else lambda: None

    def note(self, kind: str, *data: Any) -> None:
        self.record.events.append(Event(self.now_ns, kind, data))

    def run(self) -> Record:
        last_ns = self.ear.speak(script(self.chance, self.record))
        for _ in range(self.chance.choice((0, 0, 0, 1, 2))):
            self.at(self.chance.randrange(START_NS, last_ns), self._misfortune)
        for _ in range(self.chance.choice((0, 0, 1, 2))):
            self.at(self.chance.randrange(START_NS, last_ns), self._type)
        for t_ns in range(START_NS, last_ns + QUIET_NS, TICK_NS):
            self.at(t_ns, self._tick)
        while self._queue:
            self.now_ns, _, do = heapq.heappop(self._queue)
            do()
        self.record.phase = self.dialog.phase
        return self.record

    def _tick(self) -> None:
        if self.listening:
            self.act(self.dialog.tick(self.now_ns))

    # --- what people and fate do ---

    def _type(self) -> None:
        if self.listening and self.dialog.phase is Phase.IDLE:
            rid = next(self._rids)
            self.note("typed", rid)
            self.act(self.dialog.ask(rid, "typed", True, self.now_ns))
            if self.chance.random() < 0.3:
                self.after(1, 2000, self.to_dialog(lambda: self._take_back(rid)))

    def _take_back(self, rid: bytes) -> None:
        self.note("unwanted", rid)
        self.act(self.dialog.cancel(rid, self.now_ns))

    def _misfortune(self) -> None:
        there = {"stt": self.ear.alive, "dialog": self.listening}
        what = self.chance.choice([daemon for daemon in self._lives if there.get(daemon, True)])
        self.note("died", what)
        self._lives[what] += 1
        if what == "stt":
            self.ear.die()
        elif what == "dialog":
            self.listening = False
            self.voice.lose_dialog()
            self.after(300, 2000, self._come_back)
        elif what == "tts":
            self.voice.die()
        elif what == "llm":
            for work in [*self._models]:
                self.send("llm", self.to_dialog(partial(self._model_gone, work)))

    def _come_back(self) -> None:
        """A new dialog knows of nothing."""
        self.note("back", "dialog")
        self.dialog, self.listening = self._new(), True
        self._models.clear()
        self._cancelled.clear()

    def _model_gone(self, work: Work) -> None:
        self._models.pop(work, None)
        self.act(self.dialog.model_failed(work, "gone", self.now_ns))

    # --- dialog ---

    def act(self, effects: Sequence[d.Effect]) -> None:
        for effect in effects:
            note_effect(self.note, effect)
            self._carry_out(effect)

    def _carry_out(self, effect: d.Effect) -> None:
        match effect:
            case d.StartRecall(work, _):
                self._recall(work)
            case d.StartModel(work, _, _):
                self._model(work)
            case d.CancelWork(work) | d.CancelModel(work):
                self._cancelled.add(work)
                if isinstance(effect, d.CancelWork):
                    self.voice.cancel(work)
            case d.Mute(_, from_ns, lease_ms):
                self.ear.mute(from_ns, lease_ms)
            case d.SpeakClause() | d.Release() | d.EndSpeech():
                self.voice.carry_out(effect)
            case _:
                self._foresee(effect)

    def _foresee(self, effect: d.Effect) -> None:
        if isinstance(effect, d.ReadPrompt):
            self.after(50, 2000, self.to_dialog(lambda: self.dialog.prompt_read(100)))
        elif isinstance(effect, d.Foresee):
            found = partial(self._foreseen, effect.work)
            self.after(2, 60, self._result("memory", found, effect.work))

    def _foreseen(self, work: Work) -> list[d.Effect]:
        return self.dialog.foreseen(work, self._memories())

    def _result(self, daemon: str, result: Callable[[], list[d.Effect]], work: Work) -> Do:
        """What comes of work, if it still comes."""

        def arrive() -> None:
            if self._late or work not in self._cancelled:
                self.act(result())

        return self.to_dialog(arrive, daemon)

    def _memories(self) -> list[Memory]:
        return [Memory(id=n, text=f"note {n}", importance=3, created_s=1.0) for n in range(self.chance.randrange(3))]

    def _recall(self, work: Work) -> None:
        fault = self.chance.random()
        if fault < 0.03:
            self.note("stalled", "memory")
            return
        times = (0, 0) if fault < 0.06 else (self.now_ns, self.now_ns)
        recalled = self._result(
            "memory", lambda: self.dialog.recalled(work, self._memories(), times, self.now_ns), work
        )
        self.after(1, 80 if fault < 0.9 else 1500, recalled)

    def _model(self, work: Work) -> None:
        self._models[work] = None
        words = self.chance.choice((0, 1, 5, 12, 30))
        fault = self.chance.random()
        t_ns = self.now_ns + int(self.chance.uniform(20, 400) * MS)
        for _ in range(self.chance.randrange(words + 1) if fault < 0.08 else words):
            t_ns += int(self.chance.uniform(5, 40) * MS)
            piece = self.chance.choice((" answer", " is", " it,", " so.", " we"))
            self.at(t_ns, self._result("llm", partial(self._token, work, piece), work))
        if fault < 0.04:
            self.note("stalled", "llm")
        else:
            over = partial(self._model_over, work, words if fault >= 0.08 else -1)
            self.at(t_ns + MS, self._result("llm", over, work))

    def _token(self, work: Work, piece: str) -> list[d.Effect]:
        return self.dialog.token(work, piece, self.now_ns, self.now_ns)

    def _model_over(self, work: Work, words: int) -> list[d.Effect]:
        self._models.pop(work, None)
        if words < 0:
            return self.dialog.model_failed(work, "failed", self.now_ns)
        usage = Generated(
            prompt_tokens=9, cached_tokens=1, completion_tokens=words, finish="stop", received_ns=1, first_token_ns=1
        )
        return self.dialog.model_done(work, usage, self.now_ns)

    def heard(self, item: Any) -> None:
        """An event of stt arrives at dialog."""
        now_ns = self.now_ns
        note_heard(self.note, item, self.dialog.phase)
        match item:
            case SpeechStarted():
                self.act(self.dialog.speech_started(item.turn, item.t_ns, now_ns))
            case Partial():
                self.act(self.dialog.partial(item.turn, item.text))
            case TurnCandidate():
                self.act(self.dialog.candidate(item, now_ns))
            case TurnResumed():
                self.act(self.dialog.resumed(item.turn, item.revision, item.t_ns, now_ns))
            case TurnFinal():
                self.act(self.dialog.final(item, now_ns))
            case TurnDropped():
                self.act(self.dialog.dropped(item.turn, item.reason, now_ns))
