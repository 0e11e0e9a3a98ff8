"""What a conversation promises holds under every schedule (docs/adr/011-schedules.md)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from daemons.dialog.core import Conversation
from daemons.dialog.effects import CancelWork, Effect, Mute, Report, SpeakClause, Store, Withdraw
from daemons.stt import core as stt
from daemons.stt.turn import Turn
from daemons.tts import core as tts
from daemons.tts import effects as speech
from ipc.messages import TurnCandidate
from tests.support.schedules.monitor import faults, kinds
from tests.support.schedules.world import Cores, World

COUNT = int(os.environ.get("SCHEDULES", "2000"))
TRIES = 60
"""Of so many schedules at least one shows a planted fault."""

OFTEN = ("revoked at work", "joined after the end", "died", "stalled", "cut", "typed")
SELDOM = (
    "lost",
    "unwanted",
    "dropped",
    "untold",
    *(f"died {daemon}" for daemon in ("stt", "dialog", "llm", "memory", "tts")),
    *(f"stalled {engine}" for engine in ("stt", "llm", "memory", "tts")),
)


def test_every_schedule_keeps_the_promises() -> None:
    held: Counter[str] = Counter()
    for seed in range(COUNT):
        record = World(seed).run()
        assert faults(record) == [], record.story()
        held += kinds(record)
    assert all(held[kind] > COUNT / 20 for kind in OFTEN), held
    assert all(held[kind] > COUNT / 100 for kind in SELDOM), held


# --- planted faults: in dialog ---


def altered(change: Callable[[Effect], Sequence[Effect]]) -> Cores:
    """A conversation whose effects go through `change`."""

    class Altered(Conversation):
        def __getattribute__(self, name: str) -> object:
            found = super().__getattribute__(name)
            if name not in ENTRIES:
                return found

            def changed(*arguments: object, **named: object) -> list[Effect]:
                return [new for effect in found(*arguments, **named) for new in change(effect)]

            return changed

    return Cores(conversation=Altered)


ENTRIES = (
    "speech_started",
    "resumed",
    "candidate",
    "final",
    "playback_started",
    "playback_drained",
    "recalled",
    "token",
    "tick",
)


def without(kind: type[Effect]) -> Cores:
    return altered(lambda effect: [] if isinstance(effect, kind) else [effect])


def twice(kind: type[Effect]) -> Cores:
    return altered(lambda effect: [effect, effect] if isinstance(effect, kind) else [effect])


class Forgetful(Conversation):
    """Words of an answer that is given up do not join what follows."""

    def speech_started(self, turn: bytes, t_ns: int, now_ns: int, revision: int = 0) -> list[Effect]:
        effects = super().speech_started(turn, t_ns, now_ns, revision)
        if effects:
            assert self._turn is not None
            self._turn.heard_before = ""
        return effects


class Hasty(Conversation):
    """What is begun at a candidate sounds at once."""

    def candidate(self, event: TurnCandidate, now_ns: int) -> list[Effect]:
        effects = super().candidate(event, now_ns)
        if self._turn is not None:
            self._turn.held = False
        return effects


# --- planted faults: in stt ---


class Unmuted(stt.Segmenter):
    """Listens to the assistant itself."""

    def mute(self, from_ns: int, lease_ms: int, now_ns: int) -> list[stt.Effect]:
        return []


class Deaf(stt.Segmenter):
    """A mute is not lifted early: it runs out."""

    def mute(self, from_ns: int, lease_ms: int, now_ns: int) -> list[stt.Effect]:
        return super().mute(from_ns, lease_ms, now_ns) if lease_ms else []


class Beheaded(stt.Segmenter):
    """The words before the last pause are gone when a turn is joined."""

    def _resume(self, turn: Turn, t_ns: int) -> None:
        super()._resume(turn, t_ns)
        turn.kept = ""


# --- planted faults: in tts ---


class Unflushed(tts.SpeakingCore):
    """What the device has goes on sounding."""

    def cancel(self, utterance: int) -> list[speech.Effect]:
        return [effect for effect in super().cancel(utterance) if not isinstance(effect, speech.Flush)]


class Stale(tts.SpeakingCore):
    """What is synthesized after the flush sounds all the same."""

    def audio(self, utterance: int, index: int, pcm: bytes, now_ns: int) -> list[speech.Effect]:
        known = self._at_work(utterance, index)
        return super().audio(utterance, index, pcm, now_ns) if known else [speech.Play("home", 0, pcm)]


class Unheld(tts.SpeakingCore):
    """Sounds as soon as there is something to hear."""

    def speak(self, utterance: int, conversation: str, hold: bool) -> list[speech.Effect]:
        return super().speak(utterance, conversation, False)


FAULTS = {
    "a revoke silences nobody": ("after it was revoked", without(CancelWork)),
    "two outcomes": ("a second outcome of one turn", twice(Report)),
    "a memory stored twice": ("stored 2 times", twice(Store)),
    "a memory that is not stored": ("stored 0 times", without(Store)),
    "a promise that is not taken back": ("stored 1 times, and 0 times", without(Withdraw)),
    "audio that is not held": (
        "sounds before its turn is over",
        altered(
            lambda effect: [SpeakClause(effect.work, effect.text)] if isinstance(effect, SpeakClause) else [effect]
        ),
    ),
    "words that are forgotten": ("never got an outcome", Cores(conversation=Forgetful)),
    "a turn that does not wait for its end": ("sounds before", Cores(conversation=Hasty)),
    "a mute that dialog does not send": ("the assistant hears itself", without(Mute)),
    "a mute that stt does not heed": ("the assistant hears itself", Cores(segmenter=Unmuted)),
    "a mute that is not lifted": ("was said, and never told", Cores(segmenter=Deaf)),
    "words that stt forgets": ("has lost words of", Cores(segmenter=Beheaded)),
    "a cancel that does not flush": ("after it was revoked", Cores(speaking=Unflushed)),
    "stale audio after a flush": ("sound begins that was cancelled", Cores(speaking=Stale)),
    "a hold that tts does not heed": ("sounds before its turn is over", Cores(speaking=Unheld)),
}
"""What the monitor must say of each."""


@pytest.mark.parametrize(("said", "cores"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_seen_for_what_it_is(said: str, cores: Cores) -> None:
    assert any(said in fault for seed in range(TRIES) for fault in faults(World(seed, cores).run()))


def test_a_schedule_is_the_same_every_time() -> None:
    assert World(7).run().story() == World(7).run().story()
