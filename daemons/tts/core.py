"""Speaking, without sound: which clause is synthesized when, what may sound, and when an utterance is over.

Pure: each method takes what happened and a clock reading, and returns the effects to carry out, in order. An
utterance is one `speak` request, under a number that the service counts upwards. A conversation has one at a
time: a new one supersedes the older. What comes late for an utterance that is over has no effect.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from daemons.tts.effects import (
    Effect,
    Fail,
    Finish,
    Flush,
    MarkEnd,
    Play,
    StopSynthesis,
    Supersede,
    Synthesize,
    Tell,
    Wake,
)
from ipc.errors import Code
from ipc.messages import ClauseReady, PlaybackDrained, PlaybackStarted, Spoken

AHEAD_NS = 10_000_000_000
"""Synthesis rests while this much is ready to sound: more would only be thrown away when the answer is cut."""

CLAUSES_WAITING_MAX = 256
"""Far above the longest answer."""

PAUSE_MS = {".": 150, "!": 150, "?": 150, "…": 150, ":": 120, ";": 120, ",": 80}
"""Silence after a clause that ends so."""

PAUSE_PLAIN_MS = 60
PAUSE_INSIDE_MS = 150
"""Between the phrases of one clause."""

_CLOSING = "\"'”’)]» \n"


def pause_after(text: str) -> int:
    """Milliseconds of silence that a reader leaves after `text`."""
    return PAUSE_MS.get(text.rstrip(_CLOSING)[-1:], PAUSE_PLAIN_MS)


@dataclass(slots=True)
class _Clause:
    index: int
    text: str
    received_ns: int
    started_ns: int = 0
    ready: bool = False
    sounds: bool = False  # the phrase in hand


@dataclass(slots=True)
class _Utterance:
    id: int
    conversation: str
    held: bool
    ended: bool = False
    complete: bool = False
    started: bool = False
    clauses: int = 0
    waiting: deque[_Clause] = field(default_factory=deque)
    working: _Clause | None = None
    prepared: list[tuple[int, bytes]] = field(default_factory=list)
    pause_ms: int = 0  # due before the next part
    began_ns: int = 0  # when the first part was given to the output
    ends_ns: int = 0  # when all that was given to it will have sounded
    prepared_ns: int = 0
    played_ns: int = 0


class SpeakingCore:
    """All utterances of the daemon. `sample_rate` of what `audio` brings, 16-bit mono."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._utterances: dict[int, _Utterance] = {}
        self._floor: dict[str, _Utterance] = {}

    def speaking(self, conversation: str) -> bool:
        return conversation in self._floor

    # --- the request ---

    def speak(self, utterance: int, conversation: str, hold: bool) -> list[Effect]:
        older = self._floor.get(conversation)
        effects = [] if older is None else [Supersede(older.id), *self._drop(older)]
        fresh = _Utterance(utterance, conversation, hold)
        self._utterances[utterance] = self._floor[conversation] = fresh
        return effects

    def clause(self, utterance: int, text: str, now_ns: int) -> list[Effect]:
        u = self._utterances.get(utterance)
        if u is None:
            return []
        if len(u.waiting) == CLAUSES_WAITING_MAX:
            return self._fail(u, Code.OVER_QUOTA, f"more than {CLAUSES_WAITING_MAX} clauses wait to be spoken")
        u.waiting.append(_Clause(u.clauses, text, now_ns))
        u.clauses += 1
        return self._proceed(u, now_ns)

    def release(self, utterance: int, now_ns: int) -> list[Effect]:
        u = self._utterances.get(utterance)
        if u is None or not u.held:
            return []
        u.held = False
        effects: list[Effect] = [self._play(u, pause_ms, pcm, now_ns) for pause_ms, pcm in u.prepared]
        u.prepared.clear()
        return effects + self._proceed(u, now_ns)

    def end(self, utterance: int, now_ns: int) -> list[Effect]:
        u = self._utterances.get(utterance)
        if u is None:
            return []
        if u.held:
            return self._fail(u, Code.BAD_REQUEST, "held audio was not released before the end")
        u.ended = True
        return self._proceed(u, now_ns)

    def cancel(self, utterance: int) -> list[Effect]:
        """Nobody wants it any more: nothing more of it sounds."""
        u = self._utterances.get(utterance)
        return [] if u is None else self._drop(u)

    def woken(self, utterance: int, now_ns: int) -> list[Effect]:
        u = self._utterances.get(utterance)
        return [] if u is None else self._proceed(u, now_ns)

    # --- the synthesizer ---

    def audio(self, utterance: int, index: int, pcm: bytes, now_ns: int) -> list[Effect]:
        """A piece of a clause, not empty, without the silence around its phrase."""
        if (found := self._at_work(utterance, index)) is None:
            return []
        u, clause = found
        clause.sounds = True
        effects = _ready(u, clause, now_ns)
        pause_ms, u.pause_ms = u.pause_ms, 0
        if u.held:
            u.prepared.append((pause_ms, pcm))
            u.prepared_ns += self._duration_ns(pause_ms, pcm)
        else:
            effects.append(self._play(u, pause_ms, pcm, now_ns))
        return effects

    def phrase_over(self, utterance: int, index: int) -> None:
        """The clause may go on with another phrase."""
        if found := self._at_work(utterance, index):
            u, clause = found
            if clause.sounds:
                u.pause_ms = PAUSE_INSIDE_MS
                clause.sounds = False

    def synthesized(self, utterance: int, index: int, now_ns: int) -> list[Effect]:
        """The clause is complete. One that holds nothing to read had no audio."""
        if (found := self._at_work(utterance, index)) is None:
            return []
        u, clause = found
        effects = _ready(u, clause, now_ns)
        if u.played_ns or u.prepared_ns:
            u.pause_ms = pause_after(clause.text)
        u.working = None
        return effects + self._proceed(u, now_ns)

    def failed(self, utterance: int, index: int, code: Code, detail: str) -> list[Effect]:
        if (found := self._at_work(utterance, index)) is None:
            return []
        u, _ = found
        u.working = None
        return self._fail(u, code, detail)

    # --- the output ---

    def started(self, conversation: str, t_ns: int) -> list[Effect]:
        u = self._floor.get(conversation)
        if u is None or u.started:
            return []
        u.started = True
        u.ends_ns += t_ns - u.began_ns
        return [Tell(u.id, PlaybackStarted(t_ns=t_ns))]

    def drained(self, conversation: str, t_ns: int) -> list[Effect]:
        u = self._floor.get(conversation)
        if u is None or not u.complete:
            return []
        return [Tell(u.id, PlaybackDrained(t_ns=t_ns)), *self._finish(u)]

    def lost(self, conversation: str, code: Code, detail: str) -> list[Effect]:
        """The conversation's output is gone."""
        u = self._floor.get(conversation)
        return [] if u is None else self._fail(u, code, detail)

    # --- inside ---

    def _proceed(self, u: _Utterance, now_ns: int) -> list[Effect]:
        """Begins the next clause when it is time to, or completes the utterance."""
        if u.working is not None or u.complete:
            return []
        if not u.waiting:
            return self._complete(u) if u.ended else []
        if u.held and u.prepared_ns > AHEAD_NS:
            return []
        if u.ends_ns - now_ns > AHEAD_NS:
            return [Wake(u.id, u.ends_ns - AHEAD_NS)]
        u.working = u.waiting.popleft()
        u.working.started_ns = now_ns
        return [Synthesize(u.id, u.working.index, u.working.text)]

    def _complete(self, u: _Utterance) -> list[Effect]:
        if not u.played_ns:
            return self._finish(u)
        u.complete = True
        return [MarkEnd(u.conversation)]

    def _at_work(self, utterance: int, index: int) -> tuple[_Utterance, _Clause] | None:
        u = self._utterances.get(utterance)
        if u is None or u.working is None or u.working.index != index:
            return None
        return u, u.working

    def _play(self, u: _Utterance, pause_ms: int, pcm: bytes, now_ns: int) -> Play:
        """Silence that has passed since the last part sounded counts as pause."""
        if not u.played_ns:
            u.began_ns = u.ends_ns = now_ns
        quiet_ns = max(0, now_ns - u.ends_ns)
        pause_ms = max(0, pause_ms - quiet_ns // 1_000_000)
        duration_ns = self._duration_ns(pause_ms, pcm)
        u.ends_ns += quiet_ns + duration_ns
        u.played_ns += duration_ns
        return Play(u.conversation, pause_ms, pcm)

    def _duration_ns(self, pause_ms: int, pcm: bytes) -> int:
        return pause_ms * 1_000_000 + len(pcm) // 2 * 1_000_000_000 // self._rate

    def _finish(self, u: _Utterance) -> list[Effect]:
        self._forget(u)
        return [Finish(u.id, Spoken(clauses=u.clauses, audio_ms=u.played_ns // 1_000_000))]

    def _fail(self, u: _Utterance, code: Code, detail: str) -> list[Effect]:
        return [*self._drop(u), Fail(u.id, code, detail)]

    def _drop(self, u: _Utterance) -> list[Effect]:
        self._forget(u)
        stop: list[Effect] = [] if u.working is None else [StopSynthesis(u.id)]
        return [Flush(u.conversation), *stop] if u.played_ns else stop

    def _forget(self, u: _Utterance) -> None:
        del self._utterances[u.id]
        del self._floor[u.conversation]


def _ready(u: _Utterance, clause: _Clause, now_ns: int) -> list[Effect]:
    """Tells once when a clause's first audio is there."""
    if clause.ready:
        return []
    clause.ready = True
    times = ClauseReady(
        index=clause.index, received_ns=clause.received_ns, started_ns=clause.started_ns, ready_ns=now_ns
    )
    return [Tell(u.id, times)]
