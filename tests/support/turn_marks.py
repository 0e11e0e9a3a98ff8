"""The marks of one turn whose every stage is given, in the order in which its daemons make them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ipc.marks import OUTCOMES, Stage

DELAYS: Mapping[str, float] = {
    "endpoint": 500.0,
    "stt": 0.0,
    "recall": 9.0,
    "prompt": 1.0,
    "llm_first_token": 250.0,
    "llm_first_clause": 130.0,
    "tts_synthesis": 100.0,
    "tts_playout": 15.0,
    "ipc": 6.0,
    "unaccounted": 0.0,
}
"""Milliseconds of each of tools.latency.stages.NAMES in a turn of which nothing else is said; `unaccounted` lies
between the arrival of the final text and the question to memory."""

UTTERANCE_MS, SPEAKING_MS, STORING_MS, SILENCE_MS = 1_200.0, 2_000.0, 30.0, 200.0
"""The parts of a turn around the way to its first sound; SILENCE_MS is that which makes a candidate."""


class Made(NamedTuple):
    """A mark of a turn."""

    daemon: str
    stage: Stage
    t_ns: int
    arg: int
    written_ns: int


class Way:
    """One turn in the order in which it happens: `at_ns` moves on as marks are made."""

    def __init__(self, delays: Mapping[str, float], at_ns: int, typed: bool, held: bool) -> None:
        assert set(delays) == set(DELAYS), f"no such stage: {set(delays) - set(DELAYS)}"
        self.marks: list[Made] = []
        self._at_ns = at_ns
        self._ns = {name: round(ms * 1e6) for name, ms in delays.items()}
        self._typed = typed
        self._held = held
        self._confirmed_ns = at_ns
        if not typed:
            self._mark("stt", Stage.SPEECH_STARTED)

    def attempt(self, revision: int, words: int, memories: int, tokens: tuple[int, int], last: bool) -> None:
        """From the (further) utterance to the first clause, and on to the first sound of the last attempt."""
        self._hops = _parts(self._ns["ipc"], 5 if self._typed else 8 if self._held else 6)
        if not self._typed:
            self._speech(revision)
        self._mark("dialog", Stage.HEARD, words)
        self._pass("unaccounted")
        self._mark("dialog", Stage.RECALL_START)
        self._request("memory", revision)
        self._pass("recall")
        self._terminal("memory", revision)
        self._mark("dialog", Stage.RECALL_END, memories)
        self._mark("dialog", Stage.PROMPT_BUILT, 3)
        self._pass("prompt")
        self._mark("dialog", Stage.MODEL_SENT)
        self._request("llm", revision)
        self._pass("llm_first_token")
        for stage, count in zip((Stage.PROMPT_TOKENS, Stage.CACHED_TOKENS), tokens, strict=True):
            self._mark("llm", stage, count)
        self._mark("llm", Stage.FIRST_TOKEN)
        self._hop()
        self._mark("dialog", Stage.TOKEN_RECEIVED)
        if not last:
            self._at_ns += 50_000_000
            self._mark("stt", Stage.RESUMED, revision)
            self._mark("dialog", Stage.REVOKED, revision)
            return
        self._pass("llm_first_clause")
        self._mark("dialog", Stage.FIRST_CLAUSE)
        self._request("tts", revision)
        self._mark("tts", Stage.CLAUSE_RECEIVED)
        self._mark("tts", Stage.SYNTHESIS_START)
        self._pass("tts_synthesis")
        self._mark("tts", Stage.FIRST_AUDIO)
        if self._held:
            self._release(revision, words)
        self._pass("tts_playout")
        self._mark("tts", Stage.PLAYBACK_STARTED)

    def after(self) -> None:
        """The answer is spoken, and what was heard is stored meanwhile."""
        started_ns = self._at_ns
        self._mark("stt", Stage.MUTED, 3_000)
        self._at_ns += 1_000_000
        self._mark("llm", Stage.SENT, 8)
        self._mark("dialog", Stage.RECEIVED, 8)
        self._mark("dialog", Stage.SENT, 9)
        self._mark("memory", Stage.RECEIVED, 9)
        self._at_ns += round(STORING_MS * 1e6)
        self._mark("memory", Stage.MEMORY_STORED, 7)
        self._at_ns = started_ns + round(SPEAKING_MS * 1e6)
        self._mark("tts", Stage.PLAYBACK_DRAINED)
        self._mark("stt", Stage.MUTED, 0)

    def stop_after(self, stage: Stage) -> None:
        """What comes after the last such mark never happens."""
        place = max(index for index, made in enumerate(self.marks) if made.stage is stage)
        del self.marks[place + 1 :]
        self._at_ns = self.marks[-1].t_ns

    def end(self, outcome: str) -> None:
        """dialog reports the turn."""
        self._at_ns += 1_000_000
        if outcome == "cancelled":
            self._mark("dialog", Stage.CANCELLED)
        self._mark("dialog", Stage.ENDED, OUTCOMES.index(outcome))

    def _speech(self, revision: int) -> None:
        """Somebody speaks and is silent; `stt` after the confirmation its text is there."""
        self._at_ns += round(UTTERANCE_MS * 1e6)
        voiced_ns = self._at_ns
        candidate_ns = voiced_ns + min(round(SILENCE_MS * 1e6), self._ns["endpoint"])
        confirmed_ns = voiced_ns + self._ns["endpoint"]
        self.marks.append(Made("stt", Stage.LAST_VOICED, voiced_ns, revision, candidate_ns))
        self.marks.append(Made("stt", Stage.ENDPOINT_CANDIDATE, candidate_ns, revision, candidate_ns))
        self.marks.append(Made("stt", Stage.ENDPOINT_CONFIRMED, confirmed_ns, revision, confirmed_ns))
        self._confirmed_ns = confirmed_ns
        self._at_ns = candidate_ns if self._held else confirmed_ns
        self._pass("stt")
        text_ns = self._at_ns if self._ns["stt"] or self._held else (candidate_ns + confirmed_ns) // 2
        self.marks.append(Made("stt", Stage.TRANSCRIPT, text_ns, revision, text_ns))
        self._mark("stt", Stage.TEXT_SENT, revision)
        self._hop()

    def _release(self, revision: int, words: int) -> None:
        """The final text follows the candidate's, and what is made may sound."""
        made_ns = self._at_ns
        self._at_ns = self._confirmed_ns
        self._mark("stt", Stage.TEXT_SENT, revision)
        self._hop()
        self._mark("dialog", Stage.HEARD, words)
        self._hop()
        self._mark("tts", Stage.RELEASED)
        self._at_ns = max(self._at_ns, made_ns)

    def _request(self, daemon: str, epoch: int) -> None:
        self._mark("dialog", Stage.SENT, epoch)
        self._hop()
        self._mark(daemon, Stage.RECEIVED, epoch)

    def _terminal(self, daemon: str, epoch: int) -> None:
        self._mark(daemon, Stage.SENT, epoch)
        self._hop()
        self._mark("dialog", Stage.RECEIVED, epoch)

    def _pass(self, stage: str) -> None:
        self._at_ns += self._ns[stage]

    def _hop(self) -> None:
        self._at_ns += next(self._hops)

    def _mark(self, daemon: str, stage: Stage, arg: int = 0) -> None:
        self.marks.append(Made(daemon, stage, self._at_ns, arg, self._at_ns))


def _parts(whole: int, count: int) -> Iterator[int]:
    """`count` numbers, as equal as they can be, whose sum is `whole`."""
    return (whole * (place + 1) // count - whole * place // count for place in range(count))
