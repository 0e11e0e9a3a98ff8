"""Random schedules of a conversation, in simulated time.

`python -m tests.support.schedules SEED` tells the story of one. The real cores of stt, dialog and tts work together.
Everything around them is simulated from the seed: what is said and with which pauses, how long hops and engines take,
what fails, stalls or comes late, and which daemon dies when. What happened is written down as plain records, which
`schedule_monitor` judges without knowing the cores.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from daemons.dialog import effects as d
from daemons.dialog.core import Conversation
from daemons.dialog.effects import Work
from daemons.dialog.prompt import Prompter
from daemons.dialog.turn import Phase
from daemons.stt.core import Segmenter, Transcribe
from daemons.stt.turn import Heard
from daemons.tts import effects as s
from daemons.tts.core import SpeakingCore
from ipc.audio import FRAME_NS
from ipc.errors import Code
from ipc.messages import (
    ClauseReady,
    Generated,
    Memory,
    Partial,
    PlaybackDrained,
    PlaybackStarted,
    SpeechStarted,
    TurnCandidate,
    TurnDropped,
    TurnFinal,
    TurnResumed,
)

MS = 1_000_000
START_NS = 1_000_000 * MS
TICK_NS = 200 * MS
QUIET_NS = 90_000 * MS
"""After the last word: longer than any patience."""
RATE = 1000
"""Samples of the simulated voice in a second. Each bears the number of the work that it belongs to."""

Do = Callable[[], None]
MakeConversation = Callable[[str, Prompter], Conversation]


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    from_ns: int
    to_ns: int


@dataclass(slots=True)
class Sound:
    """What the device played of one piece; `to_ns` moves forward when it is cut."""

    work: Work
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` and `data` say what happened; see where each is written."""

    t_ns: int
    kind: str
    data: tuple[Any, ...] = ()


@dataclass
class Record:
    """All that came of one schedule. `transcripts`: none failed. `deaf`: when stt heard nothing."""

    seed: int
    words: list[Word] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    deaf: list[tuple[int, int]] = field(default_factory=list)
    transcripts: bool = True
    phase: Phase = Phase.IDLE

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def story(self) -> str:
        """One line an event, for a person."""
        lines = [(word.from_ns, f"says {word.text}") for word in self.words]
        lines += [(sound.from_ns, f"sounds until {_ms(sound.to_ns)}: {_name(sound.work)}") for sound in self.sounds]
        lines += [(event.t_ns, f"{event.kind} {' '.join(map(_name, event.data))}") for event in self.events]
        return "\n".join([f"seed {self.seed}", *(f"{_ms(t_ns):>7} {text}" for t_ns, text in sorted(lines))])


def _ms(t_ns: int) -> int:
    return (t_ns - START_NS) // MS


def _name(value: Any) -> str:
    if isinstance(value, Work):
        return f"{_name(value.turn)}.{value.revision}.{value.attempt}"
    return f"#{int.from_bytes(value, 'big')}" if isinstance(value, bytes) else str(value)


class World:
    """One schedule. `chance` decides all of it."""

    def __init__(self, seed: int, make: MakeConversation = Conversation) -> None:
        self.chance = random.Random(seed)
        self.record = Record(seed)
        self.now_ns = START_NS
        self._queue: list[tuple[int, int, Do]] = []
        self._count = itertools.count(1)
        self._rids = (n.to_bytes(16, "big") for n in itertools.count(1))
        self._channels: dict[str, int] = {}
        self._lives = {"stt": 0, "llm": 0, "memory": 0, "tts": 0}
        self.dialog = make("home", Prompter("Timmy", "", 12, lambda: "noon"))
        self.ear = _Ear(self)
        self.voice = _Voice(self)
        self._cancelled: set[Work] = set()
        self._models: dict[Work, None] = {}
        self._late = self.chance.random() < 0.5  # results of cancelled work arrive all the same

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

    def while_alive(self, daemon: str, do: Do) -> Do:
        """Nothing of a daemon that has died since arrives."""
        life = self._lives[daemon]
        return lambda: do() if self._lives[daemon] == life else None

    def note(self, kind: str, *data: Any) -> None:
        self.record.events.append(Event(self.now_ns, kind, data))

    def run(self) -> Record:
        last_ns = self.ear.speak(_script(self.chance, self.record))
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
        self.act(self.dialog.tick(self.now_ns))

    # --- what people and fate do ---

    def _type(self) -> None:
        if self.dialog.phase is Phase.IDLE:
            rid = next(self._rids)
            self.note("typed", rid)
            self.act(self.dialog.ask(rid, "typed", True, self.now_ns))
            if self.chance.random() < 0.3:
                self.after(1, 2000, lambda: self._take_back(rid))

    def _take_back(self, rid: bytes) -> None:
        self.note("unwanted", rid)
        self.act(self.dialog.cancel(rid, self.now_ns))

    def _misfortune(self) -> None:
        what = self.chance.choice(("stt", "llm", "tts", "memory") if self.ear.alive else ("llm", "tts", "memory"))
        self.note("died", what)
        self._lives[what] += 1
        if what == "stt":
            self.ear.die()
        elif what == "tts":
            self.voice.die()
        elif what == "llm":
            for work in [*self._models]:
                self.send("llm", partial(self._model_gone, work))

    def _model_gone(self, work: Work) -> None:
        self._models.pop(work, None)
        self.act(self.dialog.model_failed(work, "gone", self.now_ns))

    # --- dialog ---

    def act(self, effects: Sequence[d.Effect]) -> None:
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: d.Effect) -> None:
        match effect:
            case d.StartRecall(work, text):
                self.note("work", work, text)
                self._recall(work)
            case d.StartModel(work, _, _):
                self._model(work)
            case d.CancelWork(work) | d.CancelModel(work):
                self._cancelled.add(work)
                if isinstance(effect, d.CancelWork):
                    self.note("cancelled", work)
                    self.voice.cancel(work)
            case d.Mute(_, from_ns, lease_ms):
                self.ear.mute(from_ns, lease_ms)
            case d.Store(turn, heard):
                self.note("stored", turn, heard)
            case d.Report(report):
                self.note("report", report.turn, report.outcome, report.heard)
            case d.SpeakClause() | d.Release() | d.EndSpeech():
                self.voice.carry_out(effect)
            case _:
                self._foresee(effect)

    def _foresee(self, effect: d.Effect) -> None:
        if isinstance(effect, d.ReadPrompt):
            self.after(50, 2000, lambda: self.dialog.prompt_read(100))
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

        return self.while_alive(daemon, arrive)

    def _memories(self) -> list[Memory]:
        return [Memory(id=n, text=f"note {n}", importance=3, created_s=1.0) for n in range(self.chance.randrange(3))]

    def _recall(self, work: Work) -> None:
        fault = self.chance.random()
        if fault < 0.03:
            return  # stalls
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
        if fault >= 0.04:  # else it stalls
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
        match item:
            case SpeechStarted():
                self.note("started", item.turn, item.t_ns, self.dialog.phase is Phase.SOUNDING)
                self.act(self.dialog.speech_started(item.turn, item.t_ns, now_ns))
            case Partial():
                self.act(self.dialog.partial(item.turn, item.text))
            case TurnCandidate():
                self.note("candidate", item.turn, item.revision, item.text)
                self.act(self.dialog.candidate(item, now_ns))
            case TurnResumed():
                self.note("resumed", item.turn, item.revision, item.t_ns)
                self.act(self.dialog.resumed(item.turn, item.revision, item.t_ns, now_ns))
            case TurnFinal():
                self.note("final", item.turn, item.revision, item.text)
                self.act(self.dialog.final(item, now_ns))
            case TurnDropped():
                self.note("dropped", item.turn)
                self.act(self.dialog.dropped(item.turn, item.reason, now_ns))


def _script(chance: random.Random, record: Record) -> Iterator[tuple[Word, int]]:
    """Words, each with the silence in ms after it."""
    number = itertools.count(1)
    t_ns = START_NS + 500 * MS
    for _ in range(chance.randrange(1, 5)):
        length = chance.randrange(1, 6)
        for place in range(length):
            to_ns = t_ns + chance.randrange(8, 16) * FRAME_NS
            word = Word(f"{next(number):04d}", t_ns, to_ns)
            record.words.append(word)
            pause = chance.choice((0, 40, 140, 240, 320, 400, 600, 900)) if place < length - 1 else 0
            gap = pause or (chance.choice((120, 500, 800, 1300, 3000)) if place == length - 1 else 40)
            t_ns = to_ns + gap // 20 * FRAME_NS
            yield word, gap


class _Ear:
    """stt: the segmenter, a transcriber, and the hop to dialog."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rids = (n.to_bytes(16, "big") for n in itertools.count(1000))
        self._spoken: dict[int, str] = {}
        self.alive = True
        self._muted_ns = 0
        self._core = self._new()

    def _new(self) -> Segmenter:
        return Segmenter("home", lambda: next(self._rids), self._patience)

    def _patience(self, text: str, frames: Sequence[Heard], last_voiced_ns: int) -> int:
        return self._world.chance.choice((350, 350, 700, 1200))

    def speak(self, script: Iterable[tuple[Word, int]]) -> int:
        """Plans the frames; returns when the last word ends."""
        last_ns = START_NS
        for word, _ in script:
            for t_ns in range(word.from_ns, word.to_ns, FRAME_NS):
                self._spoken[t_ns] = word.text
            last_ns = word.to_ns
        for t_ns in range(START_NS, last_ns + 15_000 * MS, FRAME_NS):
            self._world.at(t_ns + FRAME_NS, partial(self._frame, t_ns))
        return last_ns

    def _frame(self, t_ns: int) -> None:
        if self.alive:
            word = self._spoken.get(t_ns, "")
            self._apply(self._core.frame(Heard(t_ns, bool(word), (word or "....").encode()), self._world.now_ns))

    def _apply(self, effects: Sequence[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Transcribe):
                self._transcribe(effect)
            else:
                self._world.send("heard", self._world.while_alive("stt", partial(self._world.heard, effect)))

    def _transcribe(self, job: Transcribe) -> None:
        chance = self._world.chance
        read = [job.pcm[at : at + 4].decode() for at in range(0, len(job.pcm), 4)]
        text: str | None = " ".join(word for word, _ in itertools.groupby(word for word in read if word != "...."))
        if chance.random() < 0.01:
            text, self._world.record.transcripts = None, False
        answer = self._world.while_alive("stt", partial(self._answer, text))
        self._world.after(20, 300 if chance.random() < 0.95 else 2000, answer)

    def _answer(self, text: str | None) -> None:
        self._apply(self._core.transcribed(text, self._world.now_ns))

    def mute(self, from_ns: int, lease_ms: int) -> None:
        deaf = self._world.record.deaf
        if lease_ms:
            deaf.append((from_ns, max(from_ns, self._world.now_ns) + (lease_ms + 100) * MS))
        self._world.send(
            "mute",
            self._world.while_alive("stt", lambda: self._apply(self._core.mute(from_ns, lease_ms, self._world.now_ns))),
        )

    def die(self) -> None:
        """Everything in hand is lost, and dialog notices."""
        world, self.alive = self._world, False
        back_ns = world.now_ns + world.chance.randrange(100, 1500) * MS
        world.record.deaf.append((0, back_ns + 400 * MS))
        world.send("stt gone", self._lost)
        world.at(back_ns, self._come_back)

    def _lost(self) -> None:
        self._world.note("lost")
        self._world.act(self._world.dialog.hearing_lost(self._world.now_ns))

    def _come_back(self) -> None:
        self._core, self.alive = self._new(), True
        self._world.act(self._world.dialog.hearing_back(self._world.now_ns))


class _Voice:
    """tts: the speaking core, a synthesizer and a device, and the hops from and to dialog."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._core = SpeakingCore(RATE)
        self._numbers = itertools.count(1)
        self._utterances: dict[Work, int] = {}
        self._works: dict[int, Work] = {}
        self._flushed = 0
        self._end_ns = 0

    def _tell(self, do: Do) -> None:
        self._world.send("to tts", self._world.while_alive("tts", do))

    def carry_out(self, effect: d.SpeakClause | d.Release | d.EndSpeech) -> None:
        if isinstance(effect, d.SpeakClause):
            self._clause(effect.work, effect.text, effect.held)
            return
        number = self._utterances[effect.work]
        order = self._core.release if isinstance(effect, d.Release) else self._core.end
        self._tell(lambda: self._apply(order(number, self._world.now_ns)))

    def _clause(self, work: Work, text: str, held: bool) -> None:
        if work not in self._utterances:
            number = self._utterances[work] = next(self._numbers)
            self._works[number] = work
            self._tell(lambda: self._apply(self._core.speak(number, "home", held)))
        number = self._utterances[work]
        self._tell(lambda: self._apply(self._core.clause(number, text, self._world.now_ns)))

    def cancel(self, work: Work) -> None:
        if work in self._utterances:
            number = self._utterances[work]
            self._tell(lambda: self._apply(self._core.cancel(number)))

    def die(self) -> None:
        """The device falls silent, and whoever waits for speech is told."""
        self._cut()
        self._core = SpeakingCore(RATE)
        for work in self._utterances:
            self._world.send("from tts", partial(self._failed, work))

    def _failed(self, work: Work) -> None:
        self._world.act(self._world.dialog.speech_failed(work, "gone", self._world.now_ns))

    def _apply(self, effects: Sequence[s.Effect]) -> None:
        world = self._world
        for effect in effects:
            match effect:
                case s.Synthesize(number, index, text):
                    self._synthesize(number, index, text)
                case s.Play(_, pause_ms, pcm):
                    self._play(pause_ms, pcm)
                case s.Flush():
                    self._cut()
                case s.MarkEnd():
                    self._on_device(self._end_ns, lambda t_ns: self._core.drained("home", t_ns))
                case s.Tell(number, item):
                    world.send("from tts", world.while_alive("tts", partial(self._told, self._works[number], item)))
                case s.Finish(number, _):
                    work = self._works[number]
                    world.send("from tts", world.while_alive("tts", partial(self._finished, work)))
                case s.Fail(number, _, _) | s.Supersede(number):
                    world.send("from tts", partial(self._failed, self._works[number]))
                case s.Wake(number, at_ns):
                    world.at(at_ns, lambda number=number: self._apply(self._core.woken(number, world.now_ns)))  # type: ignore[misc]

    def _synthesize(self, number: int, index: int, text: str) -> None:
        chance = self._world.chance
        fault = chance.random()
        if fault < 0.01:
            return  # stalls
        pcm = b"" if fault < 0.03 else number.to_bytes(2, "big") * (60 + 50 * len(text.split()))

        def done() -> None:
            now_ns = self._world.now_ns
            if fault > 0.99:
                self._apply(self._core.failed(number, index, Code.ENGINE_FAILED, "failed"))
                return
            self._apply(self._core.audio(number, index, pcm, now_ns))
            self._apply(self._core.synthesized(number, index, now_ns))

        self._world.after(30, 400, self._world.while_alive("tts", done))

    def _play(self, pause_ms: int, pcm: bytes) -> None:
        work = self._works[int.from_bytes(pcm[:2], "big")]
        begins_ns = max(self._world.now_ns + 5 * MS, self._end_ns) + pause_ms * MS
        self._end_ns = begins_ns + len(pcm) // 2 * 1000 // RATE * MS
        self._world.record.sounds.append(Sound(work, begins_ns, self._end_ns))
        self._on_device(begins_ns, lambda t_ns: self._core.started("home", t_ns))

    def _on_device(self, t_ns: int, tell: Callable[[int], list[s.Effect]]) -> None:
        flushed = self._flushed
        happen = self._world.while_alive("tts", lambda: self._apply(tell(t_ns)) if flushed == self._flushed else None)
        self._world.at(t_ns, happen)

    def _cut(self) -> None:
        self._flushed += 1
        now_ns = self._end_ns = self._world.now_ns
        sounds = self._world.record.sounds
        sounds[:] = [sound for sound in sounds if sound.from_ns < now_ns]
        for sound in sounds:
            sound.to_ns = min(sound.to_ns, now_ns)

    def _told(self, work: Work, item: Any) -> None:
        world = self._world
        dialog, now_ns = world.dialog, world.now_ns
        if isinstance(item, ClauseReady):
            world.act(dialog.clause_ready(work, item.received_ns, now_ns))
        elif isinstance(item, PlaybackStarted):
            world.act(dialog.playback_started(work, item.t_ns, now_ns))
        elif isinstance(item, PlaybackDrained):
            world.act(dialog.playback_drained(work, item.t_ns))

    def _finished(self, work: Work) -> None:
        self._world.act(self._world.dialog.playback_drained(work, self._world.now_ns))


if __name__ == "__main__":
    print(World(int(sys.argv[1])).run().story())
