"""What is said, and stt: its real segmenter with a simulated transcriber."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from daemons.stt.core import Segmenter, Transcribe
from daemons.stt.turn import Heard
from ipc.audio import FRAME_NS
from tests.support.schedules.record import MS, START_NS, Record, Word

if TYPE_CHECKING:
    from tests.support.schedules.world import World


def script(chance: random.Random, record: Record) -> Iterator[Word]:
    """Some utterances, word by word, with pauses between."""
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
            yield word


class Ear:
    """stt: the segmenter, a transcriber, and the hop to dialog."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rids = (n.to_bytes(16, "big") for n in itertools.count(1000))
        self._spoken: dict[int, str] = {}
        self.alive = True
        self._core = self._new()

    def _new(self) -> Segmenter:
        return Segmenter("home", lambda: next(self._rids), self._patience)

    def _patience(self, text: str, frames: Sequence[Heard], last_voiced_ns: int) -> int:
        return self._world.chance.choice((350, 350, 700, 1200))

    def speak(self, script: Iterable[Word]) -> int:
        """Plans the frames; returns when the last word ends."""
        last_ns = START_NS
        for word in script:
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
