"""The turn, as a pure state machine: events and a clock reading in, effects out.

One Conversation has at most one turn in hand. Everything that is done for a turn bears its Work (turn and
revision); what comes back under any other Work is dropped. So a revoked revision can neither speak nor write
memory: there is no path from a stale result to an effect. Times are monotonic ns.
"""

from __future__ import annotations

from collections.abc import Sequence

from daemons.dialog.clauses import ClauseCutter
from daemons.dialog.effects import (
    CancelModel,
    CancelWork,
    Effect,
    EndSpeech,
    Foresee,
    Mute,
    ReadPrompt,
    Release,
    Report,
    RestModel,
    SpeakClause,
    StartModel,
    StartRecall,
    Store,
    TellHeard,
    TellSaid,
    Withdraw,
    Work,
)
from daemons.dialog.manner import Manner
from daemons.dialog.patience import patience_s
from daemons.dialog.prompt import Prompter
from daemons.dialog.stages import Timeline
from daemons.dialog.turn import Phase, Turn
from ipc.limits import TEXT_MAX_CHARS
from ipc.messages import Generated, Memory, TurnCandidate, TurnFinal

MUTE_LEASE_MS = 3000
"""The microphone hears again this long after dialog's death; renewed every third of it."""

REST_MS = 300
"""The voice needs a tenth of a second for a first clause, and half as long again beside a model that writes on. What
takes longer than this is not the model's fault."""

REST_ON_MS = 100
"""From its first sound on the voice has 190 ms for the next piece of a first clause, and a model that writes on beside
it takes half of the processor. So much the pieces of four words need on two cores."""

FORESEE_WORDS = 3
"""Fewer words of a question call up nothing yet."""

USUAL = Manner()

APOLOGY = "Sorry, I could not answer that."
APOLOGY_BROKEN_OFF = "Sorry, I lost my train of thought."
APOLOGY_NOT_HEARD = "Sorry, I did not catch that. Please say it again."


class Conversation:
    """One conversation: its turn in hand and its history."""

    def __init__(self, name: str, prompter: Prompter, manner: Manner = USUAL) -> None:
        self.name = name
        self.prompter = prompter
        self.adopt(manner)
        self._turn: Turn | None = None
        self._mute_renewal_ns = 0
        self._stable_tokens = 0

    def adopt(self, manner: Manner) -> None:
        """How eager it is from now on."""
        self._manner = manner

    @property
    def phase(self) -> Phase:
        return self._turn.phase if self._turn else Phase.IDLE

    @property
    def in_hand(self) -> bytes:
        """The turn in hand; empty when there is none."""
        return self._turn.work.turn if self._turn else b""

    # --- what is heard ---

    def speech_started(self, turn: bytes, t_ns: int, now_ns: int, revision: int = 0) -> list[Effect]:
        """Somebody begins to speak. An answer that he could not hear yet is revoked; its words join this turn."""
        held = self._turn
        if held is not None and held.phase is Phase.SOUNDING and held.line.first_sample <= t_ns:
            return []
        before = held.words if held else ""
        effects = [*self._abandon("the speaker went on", now_ns), *self._withdraw(held)]
        self._turn = Turn(Work(turn, revision), Phase.HEARING, aloud=True, heard_before=before)
        return effects

    def partial(self, turn: bytes, text: str) -> list[Effect]:
        """A part of what is being said: what it calls for can be read while the rest is spoken."""
        if not self._hears(turn):
            return []
        assert self._turn is not None
        effects: list[Effect] = [TellHeard(turn, text, False)]
        words = _joined(self._turn.heard_before, text)
        if (
            not self._manner.foresight
            or self._turn.foreseeing
            or words == self._turn.foreseen
            or len(words.split()) < FORESEE_WORDS
        ):
            return effects
        self._turn.foreseeing, self._turn.foreseen = True, words
        return [*effects, Foresee(self._turn.work, words)]

    def candidate(self, event: TurnCandidate, now_ns: int) -> list[Effect]:
        """A silence that may be the end: recall, model and voice begin, and what comes of it is held."""
        effects = self._learn_of(event, now_ns)
        if not self._hears(event.turn):
            return []
        if not self._manner.early_work:
            return [*effects, TellHeard(event.turn, event.text, False)]
        return [*effects, *self._hear(event, Timeline(), held=True, now_ns=now_ns)]

    def resumed(self, turn: bytes, revision: int, t_ns: int, now_ns: int) -> list[Effect]:
        """The speaker goes on: the revision is void, unless its answer could be heard before he did."""
        held = self._turn
        if held is None or held.work.turn != turn:
            return self.speech_started(turn, t_ns, now_ns, revision + 1)
        sounded_before = held.phase is Phase.SOUNDING and held.line.first_sample <= t_ns
        if held.work.revision > revision or sounded_before:
            return []
        self._turn = held.listening(Work(turn, revision + 1))
        if held.phase is Phase.HEARING:
            return []
        return [CancelWork(held.work), *self._unmute(held, now_ns), *self._withdraw(held)]

    def final(self, event: TurnFinal, now_ns: int) -> list[Effect]:
        """The end of the turn is confirmed: what was done on its candidate may be heard, else it is done now."""
        cancelled = self._learn_of(event, now_ns)
        turn = self._turn
        if turn is not None and turn.held and turn.work.turn == event.turn:
            if (turn.work.revision, turn.heard) == (event.revision, _joined(turn.heard_before, event.text)):
                turn.line.confirmed(event, now_ns)
                return self._release(turn)
            cancelled = self._put_off(turn)
        elif not self._hears(event.turn):
            return []
        line = Timeline()
        line.confirmed(event, now_ns)
        return [*cancelled, *self._hear(event, line, held=False, now_ns=now_ns)]

    def dropped(self, turn: bytes, reason: str, now_ns: int) -> list[Effect]:
        """No words in it. Words of a revision given up for it still want their answer."""
        if not self._hears(turn):
            return []
        assert self._turn is not None
        if not self._turn.words:
            return self._over("dropped", reason)
        held = Turn(self._turn.work, Phase.RECALLING, aloud=True, heard=self._turn.words)
        return self._begin(held, now_ns)

    # --- what is typed ---

    def ask(self, turn: bytes, text: str, aloud: bool, now_ns: int) -> list[Effect]:
        """A typed question. The caller checks `phase` first: one turn at a time."""
        return self._begin(Turn(Work(turn, 0), Phase.RECALLING, aloud=aloud, heard=text, typed=True), now_ns)

    def say(self, turn: bytes, text: str, now_ns: int) -> list[Effect]:
        """Speaks `text` as it is, with the microphone muted as for any answer."""
        self._turn = Turn(Work(turn, 0), Phase.SPEAKING, aloud=True, typed=True, model_over=True, progress_ns=now_ns)
        self._turn.cutter = ClauseCutter(self._manner.first_clause_words)
        clauses = self._turn.cutter.feed(text) + self._turn.cutter.flush()
        if not clauses:
            return self._over("dropped", "there is nothing to say in it")
        return [*self._speak(clauses, now_ns), EndSpeech(self._turn.work)]

    # --- what the work brings ---

    def recalled(self, work: Work, memories: Sequence[Memory], times: tuple[int, int], now_ns: int) -> list[Effect]:
        """`times`: when memory received the question and finished; (0, 0) when it could not be asked."""
        turn = self._current(work, Phase.RECALLING)
        if turn is None:
            return []
        line = turn.line
        line.recall_received, line.recall_finished = times
        line.recall_back = line.model_sent = turn.progress_ns = now_ns
        turn.note(memories)
        turn.phase, turn.stable_tokens = Phase.THINKING, self._stable_tokens
        return [StartModel(work, self.prompter.question(turn.heard, [m.text for m in turn.notes]), turn.stable_tokens)]

    def foreseen(self, work: Work, memories: Sequence[Memory]) -> list[Effect]:
        """Memories that matter to what had been said by then; none when memory could not be asked."""
        turn = self._current(work, Phase.HEARING)
        if turn is None:
            return []
        turn.foreseeing = False
        turn.note(memories)
        prompt = self.prompter.question(turn.foreseen, [m.text for m in turn.notes])
        return [ReadPrompt(prompt, stable=False)]

    def prompt_read(self, tokens: int) -> None:
        """The model has read the stable prompt that it was given last."""
        self._stable_tokens = tokens

    def token(self, work: Work, text: str, t_ns: int, now_ns: int) -> list[Effect]:
        turn = self._current(work, Phase.THINKING, Phase.SPEAKING, Phase.SOUNDING)
        if turn is None or turn.model_over:
            return []
        if not turn.line.first_token:
            turn.line.first_token, turn.line.first_token_back = t_ns, now_ns
        turn.progress_ns = now_ns
        return self._speak(turn.cutter.feed(text), now_ns)

    def model_done(self, work: Work, usage: Generated, now_ns: int) -> list[Effect]:
        turn = self._current(work, Phase.THINKING, Phase.SPEAKING, Phase.SOUNDING)
        if turn is None or turn.model_over:
            return []
        turn.model_over, turn.usage, turn.progress_ns = True, usage, now_ns
        turn.line.model_received = usage.received_ns
        effects = self._speak(turn.cutter.flush(), now_ns)
        if not turn.said:
            return self._apologise("the model gave no words", now_ns)
        return [*effects, *self._end_of_words()]

    def model_failed(self, work: Work, detail: str, now_ns: int) -> list[Effect]:
        turn = self._current(work, Phase.THINKING, Phase.SPEAKING, Phase.SOUNDING)
        return [] if turn is None or turn.model_over else self._apologise(detail, now_ns)

    def clause_ready(self, work: Work, received_ns: int, now_ns: int) -> list[Effect]:
        turn = self._current(work, Phase.SPEAKING, Phase.SOUNDING)
        if turn is None:
            return []
        turn.progress_ns = now_ns
        if turn.line.first_clause_received:
            return []
        turn.line.first_clause_received = received_ns
        return [] if turn.model_over else [RestModel(work, REST_ON_MS)]

    def playback_started(self, work: Work, t_ns: int, now_ns: int) -> list[Effect]:
        """The first sample sounds: from that moment on the microphone hears only us, and what was heard is kept."""
        turn = self._current(work, Phase.SPEAKING)
        if turn is None:
            return []
        turn.phase, turn.line.first_sample, turn.progress_ns = Phase.SOUNDING, t_ns, now_ns
        return [self._mute(turn, t_ns, now_ns), *self._promise(turn)]

    def playback_drained(self, work: Work, t_ns: int) -> list[Effect]:
        """The last sample has sounded: the microphone hears again, and the turn is over. Who spoke and was given
        nothing to hear has no answer yet, and may go on."""
        turn = self._current(work, Phase.SPEAKING, Phase.SOUNDING)
        if turn is None:
            return []
        if turn.phase is Phase.SPEAKING and not turn.typed:
            turn.failure = turn.failure or "the voice had no sound for the answer"
        return [Mute(work.turn, t_ns, 0), *self._over("failed" if turn.failure else "answered", turn.failure)]

    def speech_failed(self, work: Work, detail: str, now_ns: int) -> list[Effect]:
        """The voice is gone, and the answer ends here; whoever follows the conversation has read so much of it."""
        turn = self._current(work, Phase.SPEAKING, Phase.SOUNDING)
        if turn is None:
            return []
        if turn.held:
            return self._put_off(turn)
        return [CancelWork(work), *self._unmute(turn, now_ns), *self._over("failed", detail)]

    def hearing_lost(self, now_ns: int) -> list[Effect]:
        """stt went away with half a turn in it. What is held nobody will confirm: after a silence it may be heard."""
        if self._turn is not None and self._turn.held:
            return self._release(self._turn)
        if self.phase is not Phase.HEARING:
            return []
        assert self._turn is not None
        self._turn.phase, self._turn.heard = Phase.THINKING, self._turn.words
        return self._apologise("the words were lost: stt went away while listening", now_ns, APOLOGY_NOT_HEARD)

    def hearing_back(self, now_ns: int) -> list[Effect]:
        """A new stt knows of no lease, and its microphone may have been back before it was listened to."""
        turn = self._turn
        if turn is None or turn.phase is not Phase.SOUNDING:
            return []
        return [self._mute(turn, turn.line.first_sample, now_ns)]

    def cancel(self, turn: bytes, now_ns: int) -> list[Effect]:
        """Whoever asked does not want the answer any more."""
        return self._abandon("cancelled", now_ns) if self._turn and self._turn.work.turn == turn else []

    def read_prompt(self) -> ReadPrompt:
        """What a model that knows nothing yet should read now."""
        self._stable_tokens = 0
        return ReadPrompt(self.prompter.start(), stable=True)

    def tick(self, now_ns: int) -> list[Effect]:
        """Renews the mute, and ends what makes no progress. To be called several times a second."""
        turn = self._turn
        if turn is None:
            return []
        effects: list[Effect] = []
        if turn.phase is Phase.SOUNDING and now_ns >= self._mute_renewal_ns:
            effects.append(self._mute(turn, now_ns, now_ns))
        waited_s = (now_ns - turn.progress_ns) / 1e9
        if waited_s > patience_s(turn):
            effects += self._lost_patience(turn, now_ns)
        return effects

    # --- inside ---

    def _lost_patience(self, turn: Turn, now_ns: int) -> list[Effect]:
        if turn.phase is Phase.RECALLING:
            return self.recalled(turn.work, [], (0, 0), now_ns)
        if turn.phase is Phase.THINKING:
            return self._apologise("the model does not answer", now_ns)
        if turn.phase is Phase.SPEAKING or turn.model_over:
            return self.speech_failed(turn.work, "the voice does not answer", now_ns)
        return self._apologise("the model stopped in the middle", now_ns)

    def _learn_of(self, event: TurnCandidate | TurnFinal, now_ns: int) -> list[Effect]:
        """A turn that was begun before dialog was there to be told of it begins now."""
        if self._turn is not None and self._turn.work.turn == event.turn:
            return []
        return self.speech_started(event.turn, event.last_voiced_ns, now_ns, event.revision)

    def _hear(self, event: TurnCandidate | TurnFinal, line: Timeline, *, held: bool, now_ns: int) -> list[Effect]:
        """Begins the work on what was understood."""
        before = self._turn
        work = Work(event.turn, event.revision)
        if before is not None and before.work[:2] == work[:2]:
            work = before.work
        words = before.heard_before if before else ""
        heard = _joined(words, event.text)
        notes = before.notes if before else []
        turn = Turn(work, Phase.RECALLING, True, held, heard, words, line=line, notes=notes)
        return self._begin(turn, now_ns)

    def _begin(self, turn: Turn, now_ns: int) -> list[Effect]:
        self._turn = turn
        turn.cutter = ClauseCutter(self._manner.first_clause_words)
        turn.line.recall_sent = turn.progress_ns = now_ns
        return [TellHeard(turn.work.turn, turn.heard, not turn.held), StartRecall(turn.work, turn.heard)]

    def _release(self, turn: Turn) -> list[Effect]:
        """From now on the turn is as any that was confirmed before its work began."""
        turn.held = False
        effects: list[Effect] = [TellHeard(turn.work.turn, turn.heard, True)]
        effects += [TellSaid(turn.work.turn, clause) for clause in turn.said]
        if turn.said:
            effects.append(Release(turn.work))
        return effects + (self._end_of_words() if turn.model_over else [])

    def _put_off(self, turn: Turn) -> list[Effect]:
        """Work that was begun early has failed. It is tried again when the turn is confirmed; nobody hears of this."""
        self._turn = turn.listening(turn.work._replace(attempt=turn.work.attempt + 1))
        return [CancelWork(turn.work)]

    def _speak(self, clauses: list[str], now_ns: int) -> list[Effect]:
        turn = self._turn
        assert turn is not None
        effects: list[Effect] = []
        for clause in clauses:
            turn.said.append(clause)
            if not turn.held:
                effects.append(TellSaid(turn.work.turn, clause))
            if turn.aloud:
                effects.append(SpeakClause(turn.work, clause, turn.held))
                if not turn.line.first_clause_sent:
                    turn.line.first_clause_sent = now_ns
                    effects += [] if turn.model_over else [RestModel(turn.work, REST_MS)]
                turn.phase = Phase.SPEAKING if turn.phase is Phase.THINKING else turn.phase
        return effects

    def _end_of_words(self) -> list[Effect]:
        turn = self._turn
        assert turn is not None
        if turn.held:
            return []
        if turn.aloud:
            return [EndSpeech(turn.work)]
        return self._over("failed" if turn.failure else "answered", turn.failure)

    def _apologise(self, detail: str, now_ns: int, words: str = APOLOGY) -> list[Effect]:
        """The model is given up; what was said stays, and a sentence says that it ends here."""
        turn = self._turn
        assert turn is not None
        if turn.held:
            return self._put_off(turn)
        turn.model_over, turn.failure, turn.progress_ns = True, detail, now_ns
        words = APOLOGY_BROKEN_OFF if turn.said else words
        return [CancelModel(turn.work), *self._speak([words], now_ns), *self._end_of_words()]

    def _abandon(self, reason: str, now_ns: int) -> list[Effect]:
        """Gives up the turn in hand, whatever it is doing."""
        turn = self._turn
        if turn is None:
            return []
        return [CancelWork(turn.work), *self._unmute(turn, now_ns), *self._over("cancelled", reason)]

    def _unmute(self, turn: Turn, now_ns: int) -> list[Effect]:
        return [Mute(turn.work.turn, now_ns, 0)] if turn.phase is Phase.SOUNDING else []

    def _over(self, outcome: str, detail: str) -> list[Effect]:
        """The one end of a turn. Only an answered one enters the history; what was heard is to be remembered even if
        the answer failed."""
        turn, self._turn = self._turn, None
        assert turn is not None
        said = " ".join(turn.said)[:TEXT_MAX_CHARS]
        effects: list[Effect] = [Report(turn.report(self.name, said, outcome, detail))]
        if outcome in ("answered", "failed"):
            effects += self._promise(turn)
        if turn.heard and outcome == "answered":
            self.prompter.append(turn.heard, said)
            effects.append(self.read_prompt())
        return effects

    def _promise(self, turn: Turn) -> list[Effect]:
        """Once for a turn, and only when its end is confirmed."""
        if not turn.heard or turn.held or turn.promised:
            return []
        turn.promised = Store(turn.work.turn, turn.heard)
        return [turn.promised]

    def _withdraw(self, turn: Turn | None) -> list[Effect]:
        return [Withdraw(turn.promised)] if turn and turn.promised else []

    def _mute(self, turn: Turn, from_ns: int, now_ns: int) -> Mute:
        self._mute_renewal_ns = now_ns + MUTE_LEASE_MS * 1_000_000 // 3
        return Mute(turn.work.turn, from_ns, MUTE_LEASE_MS)

    def _hears(self, turn: bytes) -> bool:
        return self._turn is not None and self._turn.work.turn == turn and self._turn.phase is Phase.HEARING

    def _current(self, work: Work, *phases: Phase) -> Turn | None:
        turn = self._turn
        return turn if turn is not None and turn.work == work and turn.phase in phases else None


def _joined(before: str, text: str) -> str:
    return f"{before} {text}".strip()[-TEXT_MAX_CHARS:]
