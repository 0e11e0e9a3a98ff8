"""When is a turn over? What was said says how long to wait for more. Pure, and the only place that decides.

What speaks for an end and what against it is added up to a score: 1 and more reads as finished, -1 and less breaks
off. The weights were chosen on the tuning sentences of `timmy bench endpoint`; docs/adr/009-endpointing.md tells how,
and what of the sound was tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from daemons.config import Endpointing
from daemons.stt.turn import Heard
from ipc.audio import FRAME_MS


@dataclass(frozen=True, slots=True)
class Delays:
    """The silence that ends a turn, in ms: if it reads as finished, if nobody can tell, and if it breaks off."""

    finished_ms: int
    unsure_ms: int
    broken_ms: int


DELAYS: Mapping[Endpointing, Delays] = {"quick": Delays(350, 700, 1200), "calm": Delays(750, 950, 1200)}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a turn in a pause: its words as the transcriber wrote them, and how far the silence lies below
    the last sound."""

    text: str
    margin_db: float


ConfirmAfter = Callable[[str, Sequence[Heard], int], int]
"""(the words of a turn, its frames, the end of its last voiced one in ns) -> the silence that confirms it, in ms."""


def confirm_after(endpointing: Endpointing, language: str) -> ConfirmAfter:
    """The rule of a configuration."""
    return partial(_confirm_after, DELAYS[endpointing], language)


def _confirm_after(delays: Delays, language: str, text: str, frames: Sequence[Heard], last_voiced_ns: int) -> int:
    return confirm_after_ms(Evidence(text, margin_db(frames, last_voiced_ns)), delays, language)


def confirm_after_ms(evidence: Evidence, delays: Delays, language: str = "en") -> int:
    """The silence that confirms a turn, counted from its last voiced sample: straight lines between the three."""
    score = min(max(finished_score(evidence, language), -1.0), 1.0)
    other_ms = delays.finished_ms if score > 0 else delays.broken_ms
    return round(delays.unsure_ms + abs(score) * (other_ms - delays.unsure_ms))


# --- the score ------------------------------------------------------------------------------------

ENDS = 0.1
"""The transcriber set a full stop, or a question or exclamation mark. It does so in most pauses."""
NO_END = -0.5
"""It set none, which it rarely does after a whole sentence."""
TRAILS_OFF = -1.0
"""It wrote a comma, a dash, dots, or a hesitation ("um")."""
CLOSED_QUESTION = 1.0
"""A question with nothing left open: "What is the capital of France?", not "Who won the game?"."""
CLOSED = 0.1
"""The same of any other sentence: it is more likely to go on ("... on Tuesday", "at nine")."""
FORMULA = 1.0
"""All of it is a set phrase: "Thank you."."""
DANGLES = -1.5
"""The last word wants another: "remind me to"."""
MAY_DANGLE = -0.6
"""It may be an end ("tell her"), or what a small model makes of another word: of "the" "that", of "a" "in"."""
WANTS_MORE = -1.0
"""All of it is a beginning: "if it rains", "on Monday", "do you know", "set a timer"."""
FEW_WORDS = -0.2
"""One or two words."""
CLEAR_DB = 6.0
"""The detector wants so much between voice and background; with less nothing is finished for sure."""


def finished_score(evidence: Evidence, language: str = "en") -> float:
    """-1 and less: breaks off; 0: nobody can tell; 1 and more: finished."""
    said = evidence.text.lower().replace("’", "'")
    words = re.findall(r"\w+(?:'\w+)?", _ASKED_SHORT.sub(r"\1 is", said) if language == "en" else said)
    if not words:
        return 0.0
    score = _punctuation_score(evidence.text) + (_grammar_score(evidence.text, words) if language == "en" else 0.0)
    return score if evidence.margin_db >= CLEAR_DB else min(score, 0.0)


def _punctuation_score(text: str) -> float:
    """What holds in any language."""
    last = text.rstrip("\"')] ")
    if last.endswith((",", "-", "–", "—", "...", "…", ":", ";")):
        return TRAILS_OFF
    return ENDS if last.endswith((".", "!", "?", "。", "？", "！")) else NO_END


# --- English --------------------------------------------------------------------------------------


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_HESITATIONS = _set("um uh er erm hmm mm ah eh")
_BE = _set("is are was were am be been being isn't aren't wasn't weren't")
_DO = _set("do does did don't doesn't didn't")
_MODALS = _set("can could will would shall should may might must have has had can't couldn't won't wouldn't haven't")
_VERBS = _BE | _DO | _MODALS
_ARTICLES = _set("a an the")
_POSSESSIVES = _set("my your his her its our their")
_SUBJECTS = _set("i we he she they you it there")
_PREPOSITIONS = _set(
    "about above across after against along among around at before behind below beside besides between by during "
    "except for from in inside into near of off on onto out over past per since than through till to toward towards "
    "under until up upon via with within without"
)
_CONJUNCTIONS = _set("and or but nor because so if when whenever while although though unless whether as that")
_WH = _set("what who where when why how which whose whom")
_ASKED_SHORT = re.compile(r"\b(what|who|where|when|why|how)'(s|re)\b")
"""Whisper writes "Where's" for a spoken "Where is" now and then, and they mean the same."""
_DANGLING = _HESITATIONS | _VERBS | _ARTICLES | _POSSESSIVES | _PREPOSITIONS | _CONJUNCTIONS | _WH
_DANGLING |= _set("i we he she they i'm i'll i'd i've we're we'll we've you're you'll they're they'll he's she's it's")
_DANGLING |= _set(
    "that's there's let's please every each another next nearest closest very too quite really going want"
)
_MAY_DANGLE = _set(
    "that it in a tube so her this these those any some old new best worst biggest largest longest tallest"
)
_PARTICLES = _set("on off up down in out over")
_TAKE_PARTICLES = _set("turn switch put shut come go wake get sit stand hold hang")
_TIMES = _set(
    "today tomorrow tonight yesterday now later morning afternoon evening night noon midnight week weekend month year "
    "monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays saturdays "
    "sundays january february march april june july august september october november december"
)
_NUMBERS = _set("one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred")
_HAPPENS = _set(
    "come arrive leave start begin open close end finish stop happen return land live work sleep die rise set expire"
)
"""Verbs that want no object: "when does the shop close"."""
_SUBORDINATE = _set("if because after before while although though since once until unless as when whenever whether")
_FORMULA = re.compile(
    r"(thanks|thank you( very much)?|stop( it)?|cancel|never mind|goodbye|good night|be quiet|that's all)( timmy)?"
)
_UNTOLD = re.compile(
    r"\b(know|think|guess|believe|wonder|hope|mean|said|says|say|tell (me|us|him|her|them)|asked|heard|remember|check|"
    r"find out|wake me( up)?|remind me|set (a|an|the|another) (timer|alarm|reminder)|let me (see|think))$"
)
"""What somebody knows, says or wants comes after these."""
_LONE_ADVERBIAL = re.compile(
    r"first|second|then|next|now|well|so|okay|ok|yesterday|today|tomorrow|anyway|actually|also|finally|"
    r"(last|next|this|every) \w+|(on|in|at|after|before|during|since|by|for) (\w+ ){0,2}\w+"
)


def _grammar_score(text: str, words: list[str]) -> float:
    said = " ".join(words)
    if _FORMULA.fullmatch(said):
        return FORMULA
    score = FEW_WORDS if len(words) < 3 else 0.0
    if words[-1] == "please" and len(words) > 1 and words[-2] not in _SUBJECTS:
        words = words[:-1]
    asks = _asks(words)
    if words[-1] in _HESITATIONS:
        return score + TRAILS_OFF
    if _LONE_ADVERBIAL.fullmatch(said) or _UNTOLD.search(said):
        return score + WANTS_MORE
    if dangling := _dangling_score(words):
        return score + dangling
    if not asks and words[0] in _SUBORDINATE and "," not in text:
        return score + WANTS_MORE
    if asks:
        return score + (CLOSED_QUESTION if _closed_question(text, words) else 0.0)
    return score + (CLOSED if _closed(text, words) else 0.0)


def _dangling_score(words: Sequence[str]) -> float:
    """What the last word says of itself; 0 if it may well be the last."""
    first, last = words[0], words[-1]
    before = words[-2] if len(words) > 1 else ""
    if last in _PARTICLES and first in _TAKE_PARTICLES and (len(words) > 2 or first not in ("turn", "switch", "put")):
        return 0.0  # "come in", "turn it off"
    if last in _MAY_DANGLE and not (before in _BE and last not in ("a", "in")):  # but "what time is it"
        return MAY_DANGLE
    if last not in _DANGLING or last in _MAY_DANGLE or (last in _WH and not before):
        return 0.0
    if last in _SUBJECTS and before in _BE:  # "how old is he"
        return 0.0
    at_end = (last in _VERBS and before in _SUBJECTS) or (last in _PREPOSITIONS and first in _WH)
    return MAY_DANGLE if at_end else DANGLES  # "yes, you can", "where is he from"


def _asks(words: Sequence[str]) -> bool:
    """A question word or an inverted verb comes first; "when I come home" is none."""
    if words[0] in ("when", "whenever"):
        return len(words) > 1 and words[1] in _VERBS
    return words[0] in _WH | _VERBS


def _closed(text: str, words: Sequence[str]) -> bool:
    """It ends in what seldom has more behind it: a name, a time, a number, or a phrase such as "in the kitchen"."""
    if words[-1] in _TIMES | _NUMBERS or words[-1].isdigit():
        return True
    named = re.search(r"\s[A-Z]\w*(['’]s)?[.?!]*$", text) is not None
    return named or any(word in _PREPOSITIONS for word in words[-4:-1])


def _closed_question(text: str, words: Sequence[str]) -> bool:
    """Also if it asks for something of somebody ("my glasses"), or where, when or how something is or happens."""
    at = next((n for n, word in enumerate(words[:5]) if word in _VERBS), 0)
    rest = words[at + 1 :]
    if words[at] in _DO | _MODALS and not _has_verb(rest):
        return False
    if rest[:1] == ["there"] and words[-1] not in _TIMES:  # "is there anything in the fridge", "for dinner"
        return False
    if _closed(text, words) or any(word in _POSSESSIVES for word in words[-3:-1]):
        return True
    if words[at] in _DO and words[0] in ("where", "when", "how", "why") and words[-1] in _HAPPENS:
        return True
    copular = words[at] in _BE and words[0] in ("where", "when", "how", "who") and len(rest) > 1
    return copular or words[-2:] == ["is", "it"]


def _has_verb(words: Sequence[str]) -> bool:
    """Whether there is room for one between the subject and the first preposition: not in "does the bus to Rome"."""
    till = next((n for n, word in enumerate(words) if word in _PREPOSITIONS), len(words))
    return till > (2 if till and words[0] in _ARTICLES | _POSSESSIVES else 1)


# --- the sound ------------------------------------------------------------------------------------

_LAST_SOUND_FRAMES = 160 // FRAME_MS


def margin_db(frames: Sequence[Heard], last_voiced_ns: int) -> float:
    """How far the frames after `last_voiced_ns` lie below the last ones before it; 0 where either is missing."""
    end = next((n for n in range(len(frames), 0, -1) if frames[n - 1].end_ns <= last_voiced_ns), 0)
    spoken, silent = frames[max(0, end - _LAST_SOUND_FRAMES) : end], frames[end:]
    return _level_db(spoken) - _level_db(silent) if spoken and silent else 0.0


def _level_db(frames: Sequence[Heard]) -> float:
    """Mean over the frames of their power in dB below full scale; nothing counts as less than -100."""
    import numpy as np

    samples = np.array([np.frombuffer(heard.pcm, "<i2") for heard in frames]) / 32768
    power = np.mean(np.square(samples), axis=1)
    return float(np.mean(10 * np.log10(np.maximum(power, 1e-10))))
