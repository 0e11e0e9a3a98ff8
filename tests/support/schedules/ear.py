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


ECHO = "echo"
"""What a transcriber makes of our own voice."""
SILENCE = "...."
UNDERSTOOD_FRAMES = 3
"""A shorter piece of our own voice is no word."""


def script(chance: random.Random, record: Record, utterances_max: int = 4, prefix: str = "") -> Iterator[Word]:
    """Some utterances, word by word, with pauses between. Each word is a number after `prefix`."""
    number = itertools.count(1)
    t_ns = record.start_ns + 500 * MS
    for _ in range(chance.randint(1, utterances_max)):
        length = chance.randrange(1, 6)
        for place in range(length):
            to_ns = t_ns + chance.randrange(8, 16) * FRAME_NS
            word = Word(f"{prefix}{next(number):04d}", t_ns, to_ns)
            record.words.append(word)
            pause = chance.choice((0, 40, 140, 240, 320, 400, 600, 900)) if place < length - 1 else 0
            gap = pause or (chance.choice((120, 500, 800, 1300, 3000)) if place == length - 1 else 40)
            t_ns = to_ns + gap // 20 * FRAME_NS
            yield word


def understood(read: Sequence[str]) -> str:
    """What a transcriber makes of frames that bear the words spoken in them."""
    pieces = [(text, len([*frames])) for text, frames in itertools.groupby(read)]
    return " ".join(
        text for text, frames in pieces if text != SILENCE and (text != ECHO or frames >= UNDERSTOOD_FRAMES)
    )


class Ear:
    """stt: the segmenter, a transcriber, and the hop to dialog. It hears what is said, and what the device plays."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rids = (n.to_bytes(16, "big") for n in itertools.count(1000))
        self._spoken: dict[int, str] = {}
        self.alive = True
        self._core = self._new()

    def _new(self) -> Segmenter:
        return self._world.cores.segmenter("home", lambda: next(self._rids), self._patience)

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
            word = self._spoken.get(t_ns) or (ECHO if self._world.voice.sounds_at(t_ns) else "")
            self._apply(self._core.frame(Heard(t_ns, bool(word), (word or SILENCE).encode()), self._world.now_ns))

    def _apply(self, effects: Sequence[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Transcribe):
                self._transcribe(effect)
            else:
                self._world.send("heard", self._world.to_dialog(partial(self._world.heard, effect), "stt"))

    def _transcribe(self, job: Transcribe) -> None:
        chance = self._world.chance
        read = [job.pcm[at : at + 4].decode() for at in range(0, len(job.pcm), 4)]
        fault = chance.random()
        if fault > 0.95:
            self._world.note("stalled", "stt")
        answer = partial(self._answer, None if chance.random() < 0.01 else understood(read), read)
        self._world.after(20, 300 if fault <= 0.95 else 2000, self._world.while_alive(answer, "stt"))

    def _answer(self, text: str | None, read: Sequence[str]) -> None:
        if text is None:
            said = (word.from_ns for word in self._world.record.words if word.text in read)
            self._world.note("untold", min(said, default=self._world.now_ns))
        self._apply(self._core.transcribed(text, self._world.now_ns))

    def mute(self, from_ns: int, lease_ms: int) -> None:
        self._world.send("mute", self._world.while_alive(partial(self._mute, from_ns, lease_ms), "stt"))

    def _mute(self, from_ns: int, lease_ms: int) -> None:
        self._world.note("mute", from_ns, lease_ms)
        self._apply(self._core.mute(from_ns, lease_ms, self._world.now_ns))

    def die(self) -> None:
        """Everything in hand is lost, and dialog notices."""
        self.alive = False
        self._world.send("stt gone", self._world.to_dialog(self._lost))
        self._world.after(100, 1500, self._come_back)

    def _lost(self) -> None:
        self._world.note("lost")
        self._world.act(self._world.dialog.hearing_lost(self._world.now_ns))

    def _come_back(self) -> None:
        self._world.note("back", "stt")
        self._core, self.alive = self._new(), True
        if self._world.listening:
            self._world.act(self._world.dialog.hearing_back(self._world.now_ns))
