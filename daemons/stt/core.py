"""Turns out of frames: where speech starts, when it may be over, when it is, and what is to be transcribed.

Pure. Times are capture times (monotonic ns) except `now_ns`, the clock reading at which something arrived.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from daemons.stt.endpointing import ConfirmAfter
from daemons.stt.turn import SEGMENT_FRAMES, START_WINDOW, Heard, MuteLease, Turn, speech_start
from ipc.audio import FRAME_MS
from ipc.messages import (
    Down,
    Muted,
    Partial,
    SpeechStarted,
    TurnCandidate,
    TurnDropped,
    TurnFinal,
    TurnResumed,
)

MS = 1_000_000
PRE_ROLL_FRAMES = 300 // FRAME_MS + START_WINDOW
LULL_NS = 20 * MS
"""A silence this long, one frame, is worth a transcript: what was said until then may be all."""
PAUSE_NS = 60 * MS
"""A silence this long ends a phrase: only real speech ends it again. Words have shorter ones inside."""
DRAFT_EVERY = 5
"""While speech goes on, drafts are begun this many times as long after each other as the last transcript took: a
speaker who stops meanwhile seldom has to wait for one (docs/adr/006-hearing.md)."""
DRAFT_NS = (300 * MS, 900 * MS)
"""But neither more nor less often; the longer one until there was a transcript."""
CLOSE_NS = 10_000 * MS
"""A turn that no mute closes can be joined this long."""


@dataclass(frozen=True, slots=True)
class Transcribe:
    """To be answered by `transcribed`. There is never a second one under way. `superseded` tells, in any thread,
    whether more has been said since."""

    pcm: bytes
    draft: bool
    superseded: Callable[[], bool]


Effect = Transcribe | Down


@dataclass(frozen=True, slots=True)
class _Job:
    frames: list[Heard]
    covers_ns: int
    draft: bool
    asked_ns: int


class Segmenter:
    """The turns of one conversation. Every method returns what is to be done, in order.

    A silence of `candidate_ms` makes a candidate; what silence confirms it, `confirm_after` says once its words are
    there, but never less than the candidate's. `drafts`: what has been said so far is transcribed while speech goes on.
    """

    def __init__(
        self,
        conversation: str,
        new_rid: Callable[[], bytes],
        confirm_after: ConfirmAfter,
        candidate_ms: int = 120,
        drafts: bool = True,
    ) -> None:
        self.conversation = conversation
        self.dropped_ms = 0
        """Speech that mutes have dropped so far."""
        self._new_rid = new_rid
        self._drafts = drafts
        self.adopt(confirm_after, candidate_ms)
        self._recent: deque[Heard] = deque(maxlen=PRE_ROLL_FRAMES)
        self._heard_ns = 0  # everything captured before this has been heard
        self._turn: Turn | None = None
        self._mute: MuteLease | None = None
        self._job: _Job | None = None
        self._asked_ns = 0  # when speech began or the last transcript was asked for
        self._draft_ns = DRAFT_NS[1]  # from then to the next draft
        self._out: list[Effect] = []

    def adopt(self, confirm_after: ConfirmAfter, candidate_ms: int) -> None:
        """What ends a turn from now on."""
        self._confirm_after = confirm_after
        self._candidate_ns = max(candidate_ms * MS, PAUSE_NS)

    @property
    def idle(self) -> bool:
        """No turn is open and no transcript is awaited."""
        return self._turn is None and self._job is None

    def frame(self, heard: Heard, now_ns: int) -> list[Effect]:
        """The next frame of the input."""
        mute = self._mute
        if mute is not None and heard.t_ns >= mute.until_ns:
            self._unmute(mute)
        elif mute is not None and heard.t_ns >= mute.from_ns:
            self._heard_ns = heard.end_ns
            self._cut(mute, now_ns)
            mute.drop([heard])
            return self._effects()
        self._hear(heard, now_ns)
        return self._effects()

    def transcribed(self, text: str | None, now_ns: int) -> list[Effect]:
        """The answer to the last Transcribe; None when the transcriber failed."""
        job, turn = self._job, self._turn
        assert job is not None
        self._job = None
        self._draft_ns = min(max(DRAFT_EVERY * (now_ns - job.asked_ns), DRAFT_NS[0]), DRAFT_NS[1])
        if turn is not None and job.frames is turn.frames:
            if text is None:
                self._drop(turn, "the transcriber failed", now_ns)
            else:
                self._take(turn, job, text, now_ns)
        self._progress(self._heard_ns, now_ns)
        return self._effects()

    def mute(self, from_ns: int, lease_ms: int, now_ns: int) -> list[Effect]:
        """See the message Mute."""
        mute = self._mute
        if lease_ms:
            if mute is None:
                mute = self._mute = MuteLease(from_ns, 0)
            mute.from_ns = min(mute.from_ns, from_ns)
            mute.until_ns = now_ns + lease_ms * MS
            if mute.from_ns <= self._heard_ns:
                self._cut(mute, now_ns)
        elif mute is not None:
            if self._turn is not None and self._turn.final:
                self._turn = None  # its answer sounded, if only for less than a frame
            again = mute.end(from_ns)
            if mute.until_ns <= self._heard_ns:
                self._unmute(mute)
                self._hear_all(again, now_ns)
        return self._effects()

    def silence(self, now_ns: int) -> list[Effect]:
        """No audio comes any more, or for a while: what was said is complete."""
        self._recent.clear()
        turn = self._turn
        if turn is not None and turn.final:
            self._turn = None
        elif turn is not None:
            turn.complete(now_ns)
            self._progress(self._heard_ns, now_ns)
        return self._effects()

    def _effects(self) -> list[Effect]:
        out, self._out = self._out, []
        return out

    # --- speech ---

    def _hear_all(self, frames: Iterable[Heard], now_ns: int) -> None:
        for heard in frames:
            self._hear(heard, now_ns)

    def _hear(self, heard: Heard, now_ns: int) -> None:
        turn = self._turn
        if turn is None or turn.final:
            self._await_speech(turn, heard, now_ns)
        elif turn.rest is not None:
            turn.rest.append(heard)
        else:
            self._extend(turn, heard, now_ns)
        self._progress(heard.end_ns, now_ns)

    def _await_speech(self, turn: Turn | None, heard: Heard, now_ns: int) -> None:
        self._recent.append(heard)
        if not heard.voiced:
            return
        first_ns = speech_start(list(self._recent))
        if first_ns is None:
            return
        if turn is None:
            turn = self._turn = Turn(self._new_rid())
            self._out.append(SpeechStarted(conversation=self.conversation, turn=turn.rid, t_ns=first_ns))
        else:
            self._resume(turn, first_ns)
        turn.begin(list(self._recent))
        self._recent.clear()
        self._asked_ns = now_ns

    def _extend(self, turn: Turn, heard: Heard, now_ns: int) -> None:
        turn.frames.append(heard)
        if heard.voiced:
            first_ns = speech_start(turn.frames)
            if first_ns is not None or heard.t_ns - turn.last_voiced_ns < PAUSE_NS:
                if turn.told:
                    self._resume(turn, heard.t_ns if first_ns is None else first_ns)
                turn.extend_to(heard.end_ns)
        if len(turn.frames) >= SEGMENT_FRAMES:
            turn.split(now_ns)

    def _resume(self, turn: Turn, t_ns: int) -> None:
        self._out.append(TurnResumed(conversation=self.conversation, turn=turn.rid, revision=turn.revision, t_ns=t_ns))
        turn.revision += 1
        turn.told = False

    # --- silence ---

    def _progress(self, heard_ns: int, now_ns: int) -> None:
        """What follows from having heard everything up to `heard_ns`."""
        self._heard_ns = heard_ns
        turn = self._turn
        if turn is None:
            return
        silent_ns = heard_ns - turn.last_voiced_ns
        if turn.final:
            if silent_ns >= CLOSE_NS:
                self._turn = None
            return
        if silent_ns >= self._candidate_ns:
            turn.endpoint_ns = turn.endpoint_ns or now_ns
        if turn.settled:
            self._confirm(turn, silent_ns, now_ns)
            self._announce(turn, now_ns)
        elif self._job is None:
            paused = silent_ns >= LULL_NS or turn.endpoint_ns > 0
            if paused or (self._drafts and now_ns - self._asked_ns >= self._draft_ns):
                self._ask(turn, not paused, now_ns)

    def _confirm(self, turn: Turn, silent_ns: int, now_ns: int) -> None:
        """Confirms the turn if the silence is long enough for its words."""
        if turn.confirmed_ns or not turn.endpoint_ns:
            return
        confirmed_ns = now_ns
        if not turn.confirm_ns:
            after_ms = self._confirm_after(turn.words(turn.text), turn.frames, turn.last_voiced_ns)
            turn.confirm_ns = max(turn.whole_frames(after_ms * MS), self._candidate_ns)
            # The words may have come late: it was the transcript that took so long then, not the silence.
            confirmed_ns = min(now_ns, turn.endpoint_ns + turn.confirm_ns - self._candidate_ns)
        if silent_ns >= turn.confirm_ns:
            turn.confirmed_ns = confirmed_ns

    def _ask(self, turn: Turn, draft: bool, now_ns: int) -> None:
        covers_ns = turn.last_voiced_ns
        self._job = _Job(turn.frames, covers_ns, draft, now_ns)
        self._asked_ns = now_ns
        pcm = b"".join(heard.pcm for heard in turn.frames)
        self._out.append(Transcribe(pcm, draft, lambda: turn.last_voiced_ns != covers_ns))

    def _take(self, turn: Turn, job: _Job, text: str, now_ns: int) -> None:
        complete = not job.draft and job.covers_ns == turn.last_voiced_ns
        if not job.draft:
            turn.text = text or turn.text  # a cough at the end does not unsay what was said before it
        if complete:
            turn.covers_ns, turn.transcript_ns = job.covers_ns, now_ns
        due = complete and turn.endpoint_ns  # then the candidate follows with the same text
        if text and text != turn.shown and not due:
            turn.shown = text
            self._out.append(
                Partial(
                    conversation=self.conversation,
                    turn=turn.rid,
                    revision=turn.revision,
                    text=turn.words(text),
                )
            )

    def _announce(self, turn: Turn, now_ns: int) -> None:
        """The transcript is complete: tell it as far as the silence allows."""
        text = turn.words(turn.text)
        if text and turn.endpoint_ns and not turn.told:
            turn.told = True
            self._out.append(
                TurnCandidate(
                    conversation=self.conversation,
                    turn=turn.rid,
                    revision=turn.revision,
                    text=text,
                    last_voiced_ns=turn.voice_end_ns,
                    endpoint_ns=turn.endpoint_ns,
                    transcript_ns=turn.transcript_ns,
                )
            )
        if turn.confirmed_ns and text:
            self._finish(turn, text, now_ns)
        elif turn.confirmed_ns:
            self._drop(turn, "no words", now_ns)

    def _finish(self, turn: Turn, text: str, now_ns: int) -> None:
        self._out.append(
            TurnFinal(
                conversation=self.conversation,
                turn=turn.rid,
                revision=turn.revision,
                text=text,
                last_voiced_ns=turn.voice_end_ns,
                endpoint_ns=turn.confirmed_ns,
                transcript_ns=turn.transcript_ns,
                sent_ns=now_ns,
            )
        )
        turn.keep()
        if turn.rest is not None:
            self._leave(turn, now_ns)

    def _drop(self, turn: Turn, reason: str, now_ns: int) -> None:
        self._out.append(TurnDropped(conversation=self.conversation, turn=turn.rid, reason=reason))
        self._leave(turn, now_ns)

    def _leave(self, turn: Turn, now_ns: int) -> None:
        """The turn cannot be joined any more; what came after it is heard now."""
        self._turn = None
        self._hear_all(turn.rest or (), now_ns)

    # --- mute ---

    def _cut(self, mute: MuteLease, now_ns: int) -> None:
        """Takes what the mute covers out of what was heard before the mute was known, and closes the turn."""
        mute.drop([heard for heard in self._recent if heard.t_ns >= mute.from_ns])
        self._recent.clear()
        turn = self._turn
        if turn is None:
            return
        if turn.final:
            self._turn = None
            return
        gone = turn.without(mute.from_ns)
        mute.drop(gone)
        last_ns = turn.last_voice()
        if not last_ns and not turn.kept:
            self._drop(turn, "muted", now_ns)
            return
        if last_ns != turn.last_voiced_ns and turn.told:
            self._resume(turn, mute.from_ns)
        if not last_ns:  # nothing of this segment is left: the words before it stand
            last_ns = turn.covers_ns = turn.kept_ns
        turn.last_voiced_ns = last_ns
        turn.complete(now_ns)
        self._progress(self._heard_ns, now_ns)

    def _unmute(self, mute: MuteLease) -> None:
        self._mute = None
        dropped_ms = mute.dropped * FRAME_MS
        self.dropped_ms += dropped_ms
        self._out.append(Muted(conversation=self.conversation, dropped_ms=dropped_ms))
