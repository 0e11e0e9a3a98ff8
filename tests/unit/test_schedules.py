"""What a conversation promises holds under every schedule (docs/adr/011-schedules.md)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from daemons.dialog.core import Conversation
from daemons.dialog.effects import CancelWork, Effect, Report, SpeakClause, Store
from daemons.dialog.prompt import Prompter
from ipc.messages import TurnCandidate
from tests.support.schedules.monitor import faults, kinds
from tests.support.schedules.world import World

COUNT = int(os.environ.get("SCHEDULES", "2000"))
TRIES = 60
"""Of so many schedules at least one shows a planted fault."""


def test_every_schedule_keeps_the_promises() -> None:
    held: Counter[str] = Counter()
    for seed in range(COUNT):
        record = World(seed).run()
        assert faults(record) == [], record.story()
        held += kinds(record)
    for kind in ("revoked at work", "joined after the end", "died", "lost", "cut", "typed", "unwanted", "dropped"):
        assert held[kind] > COUNT / 50, held


def altered(change: Callable[[Effect], Sequence[Effect]]) -> Callable[[str, Prompter], Conversation]:
    """A conversation whose effects go through `change`."""

    class Altered(Conversation):
        def __getattribute__(self, name: str) -> object:
            found = super().__getattribute__(name)
            if name not in ("speech_started", "resumed", "candidate", "final", "playback_drained", "recalled", "token"):
                return found

            def changed(*arguments: object, **named: object) -> list[Effect]:
                return [new for effect in found(*arguments, **named) for new in change(effect)]

            return changed

    return Altered


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


FAULTS = {
    "after it was revoked": altered(lambda effect: [] if isinstance(effect, CancelWork) else [effect]),
    "a second outcome of one turn": altered(
        lambda effect: [effect, effect] if isinstance(effect, Report) else [effect]
    ),
    "stored 2 times": altered(lambda effect: [effect, effect] if isinstance(effect, Store) else [effect]),
    "sounds before its turn is over": altered(
        lambda effect: [SpeakClause(effect.work, effect.text)] if isinstance(effect, SpeakClause) else [effect]
    ),
    "never got an outcome": Forgetful,
    "sounds before": Hasty,
}
"""What the monitor must say of each."""


@pytest.mark.parametrize(("said", "make"), FAULTS.items(), ids=FAULTS)
def test_a_planted_fault_is_seen_for_what_it_is(said: str, make: Callable[[str, Prompter], Conversation]) -> None:
    assert any(said in fault for seed in range(TRIES) for fault in faults(World(seed, make).run()))


def test_a_schedule_is_the_same_every_time() -> None:
    assert World(7).run().story() == World(7).run().story()
