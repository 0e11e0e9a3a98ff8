"""tts: its real core with a simulated synthesizer and a simulated device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from daemons.dialog import effects as d
from daemons.dialog.effects import Work
from daemons.tts import effects as s
from ipc.audio import FRAME_NS
from ipc.errors import Code
from ipc.messages import ClauseReady, PlaybackDrained, PlaybackStarted
from tests.support.schedules.record import MS, Sound

if TYPE_CHECKING:
    from tests.support.schedules.world import Do, World

RATE = 1000
FIRST_PIECE = 190 * 2
"""Samples of the simulated voice in a second. Each bears the number of the work that it belongs to."""


VANISHED_MS = (4500, 7500)
"""So long a caller that says nothing any more keeps its requests: `CLIENT_SILENCE_S`, looked at every half of it."""


class Voice:
    """tts: the speaking core, a synthesizer and a device, and the hops from and to dialog."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._core = world.cores.speaking(RATE)
        self._numbers = itertools.count(1)
        self._utterances: dict[Work, int] = {}
        self._works: dict[int, Work] = {}
        self._flushed = 0
        self._end_ns = 0

    def sounds_at(self, t_ns: int) -> bool:
        """Whether the device plays for the whole of the frame that begins then."""
        for sound in reversed(self._world.record.sounds):
            if sound.to_ns <= t_ns:
                return False
            if sound.from_ns <= t_ns and t_ns + FRAME_NS <= sound.to_ns:
                return True
        return False

    def _tell(self, do: Do) -> None:
        self._world.send("to tts", self._world.while_alive(do, "tts"))

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
        self._core = self._world.cores.speaking(RATE)
        for work in self._utterances:
            self._world.send("from tts", self._world.to_dialog(partial(self._failed, work)))

    def lose_dialog(self) -> None:
        """What it asked for goes on until it is missed."""
        for number in self._utterances.values():
            self._world.after(*VANISHED_MS, self._world.while_alive(partial(self._give_up, number), "tts"))
        self._utterances.clear()

    def _give_up(self, number: int) -> None:
        self._apply(self._core.cancel(number))

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
                    self._say(number, lambda work, item=item: self._told(work, item))  # type: ignore[misc]
                case s.Finish(number, _):
                    self._say(number, self._finished)
                case s.Fail(number, _, _) | s.Supersede(number):
                    self._say(number, self._failed)
                case s.Wake(number, at_ns):
                    world.at(at_ns, lambda number=number: self._apply(self._core.woken(number, world.now_ns)))  # type: ignore[misc]

    def _say(self, number: int, say: Callable[[Work], None]) -> None:
        """To dialog. One that has died since it asked is missed at once by who has something to say to it."""
        world, work = self._world, self._works[number]
        if self._utterances.get(work) == number:
            world.send("from tts", world.to_dialog(partial(say, work), "tts"))
        else:
            world.at(world.now_ns, world.while_alive(partial(self._give_up, number), "tts"))

    def _synthesize(self, number: int, index: int, text: str) -> None:
        chance = self._world.chance
        fault = chance.random()
        if fault < 0.01:
            self._world.note("stalled", "tts")
            return
        pcm = b"" if fault < 0.03 else number.to_bytes(2, "big") * (60 + 50 * len(text.split()))

        def done() -> None:
            now_ns = self._world.now_ns
            if fault > 0.99:
                self._apply(self._core.failed(number, index, Code.ENGINE_FAILED, "failed"))
                return
            for piece in filter(None, (pcm[:FIRST_PIECE], pcm[FIRST_PIECE:])):
                self._apply(self._core.audio(number, index, piece, now_ns))
            self._apply(self._core.synthesized(number, index, now_ns))

        self._world.after(30, 400, self._world.while_alive(done, "tts"))

    def _play(self, pause_ms: int, pcm: bytes) -> None:
        work = self._works[int.from_bytes(pcm[:2], "big")]
        begins_ns = max(self._world.now_ns + 5 * MS, self._end_ns) + pause_ms * MS
        self._end_ns = begins_ns + len(pcm) // 2 * 1000 // RATE * MS
        self._world.record.sounds.append(Sound(work, begins_ns, self._end_ns))
        self._on_device(begins_ns, lambda t_ns: self._core.started("home", t_ns))

    def _on_device(self, t_ns: int, tell: Callable[[int], list[s.Effect]]) -> None:
        flushed = self._flushed
        happen = self._world.while_alive(lambda: self._apply(tell(t_ns)) if flushed == self._flushed else None, "tts")
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
