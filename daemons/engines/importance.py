"""The importance classifier: ridge regression on the meaning (embedding) and the wording of what was said.

importance.tsv holds the graded examples, importance.json the weights fitted to the training part of them for the
embedder "minilm"; `python -m daemons.engines.importance` writes them. Any other embedder is fitted when it loads.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from daemons.engines.base import Embedder, EngineInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLES = Path(__file__).with_suffix(".tsv")
WEIGHTS = Path(__file__).with_suffix(".json")
GRADES = (0, 5)
_RIDGE = 1.0
"""Strength of the regularisation, by cross-validation on the training examples (0.3 to 3 differ little)."""

_LEAD = r"^(?:(?:and|so|but|hey|well|please|timmy) )*"
_WH = r"(?:what|when|where|who|whose|whom|which|why|how)(?:'s|'re|'d)?"
_MODAL = r"(?:do|does|did|is|are|was|were|am|can|could|will|would|should|shall|may|has|have|had)(?:n't)?"
_ORDER = (
    r"(?:tell|show|give|read|play|sing|turn|switch|set|open|close|stop|call|say|explain|wake|count|translate|remind me)"
)
_ASKS = re.compile(
    rf"{_LEAD}(?:{_WH} |{_MODAL} (?!not )\w+|{_ORDER}\b|i (?:want|would like|have) (?:to (?:know|ask)|a question))"
)
_REQUEST = re.compile(
    r"\b(?<!you )(?<!i )(?:remember|keep in mind|make a note|please note)\b(?! (?:where|when|what|how|who))"
    r"|\b(?:can|could|will|would) you (?:please )?remember (?:that|my|our)\b|\b(?:don't|do not) forget\b"
)
_SMALL_TALK = re.compile(
    r"^(?:hello|hi|hey|thanks?|good (?:morning|night|evening)|bye|yes|no|okay|ok|oh|well|right|wow|never mind)\b"
)
_CUES = (
    r"\b(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|tomorrow|weekend)s?\b",
    r"\b(?:january|february|march|april|june|july|august|september|october|november|december)\b|\bof may\b",
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|\d+)\b",
    r"\b(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|twelfth|\w+teenth|\w+tieth|\d+th)\b",
    r"\b(?:my|our)\b",
    r"\b(?:i|i'm|i've|we)\b",
    r"\b(?:you|your|that|this|it)\b",
    r"\b(?:again|today|now|just|at last|last night|this morning|tonight|a bit|quite|rather|too)\b",
    r"\b(?:i|we)(?:'d| would)? (?:\w+ )?(?:like|love|prefer|enjoy|want|wish|hope|hate|rather)\b|\bfavou?rite\b",
    r"\b(?:allerg\w+|blood|asthma|diabet\w+|pacemaker|tablets?|pills?|medicine|emergency|operation)\b",
    r"\b(?:passwords?|codes?|pin|combination|number|address|account)\b",
    r"\b(?:appointment|birthday|anniversary|flight|meeting|wedding|due|booked|arrives?|comes?)\b",
    r"\b(?:called|name is|lives?|works?|born|married|moved)\b",
    r"\b(?:mother|father|parents|sister|brother|son|daughter|wife|husband|aunt|uncle|cousin|niece|nephew|friend)\b",
)
_PATTERNS = tuple(re.compile(cue) for cue in _CUES)


class Weights(msgspec.Struct, frozen=True):
    """Of a linear model over `features`; the last one is the constant."""

    embedder: str
    values: list[float]


class Importance:
    """A Classifier on top of an Embedder."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        shipped = msgspec.json.decode(WEIGHTS.read_bytes(), type=Weights)
        self._weights = shipped if shipped.embedder == embedder.info.model else fit(embedder, training())
        self.info = EngineInfo("ridge", f"importance on {embedder.info.model}", "cpu")

    def importance(self, text: str) -> int:
        return self.grade_all([text])[0]

    def grade_all(self, texts: Sequence[str]) -> list[int]:
        import numpy as np

        values = features(self._embedder, texts) @ np.array(self._weights.values)
        return [int(grade) for grade in np.clip(np.rint(values), *GRADES)]


def features(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float64]:
    """One row a text: its vector, what its wording hints at, and 1. In a question names and dates do not count."""
    import numpy as np

    rows = []
    for text, vector in zip(texts, embedder.embed(texts), strict=True):
        plain = re.sub(r"[^\w' ]", "", text.lower()).strip()
        request = bool(_REQUEST.search(plain))
        asks = not request and (text.rstrip().endswith("?") or bool(_ASKS.match(plain)))
        chats = not request and bool(_SMALL_TALK.match(plain))
        hints = [float(bool(pattern.search(plain)) and not asks and not chats) for pattern in _PATTERNS]
        length = min(len(plain.split()), 12) / 12
        rows.append([*vector, *hints, request, asks, chats, 0.0 if asks else length, 1.0])
    return np.array(rows, np.float64)


def fit(embedder: Embedder, examples: Sequence[tuple[int, str]], ridge: float = _RIDGE) -> Weights:
    """The weights with the least squared error, none too large. The constant is free."""
    import numpy as np

    rows = features(embedder, [text for _, text in examples])
    grades = np.array([grade for grade, _ in examples], np.float64)
    penalty = np.eye(rows.shape[1]) * ridge
    penalty[-1, -1] = 0
    values = np.linalg.solve(rows.T @ rows + penalty, rows.T @ grades)
    return Weights(embedder.info.model, [round(float(value), 4) for value in values])


def training() -> list[tuple[int, str]]:
    """The examples to fit: (grade, text)."""
    return [example for example in _examples() if not _is_held_out(example[1])]


def held_out() -> list[tuple[int, str]]:
    """The examples to judge by: never fitted, never used to choose anything."""
    return [example for example in _examples() if _is_held_out(example[1])]


def _is_held_out(text: str) -> bool:
    return zlib.crc32(text.encode()) % 4 == 0


def _examples() -> list[tuple[int, str]]:
    lines = EXAMPLES.read_text("utf-8").splitlines()
    pairs = [line.split("\t") for line in lines if not line.startswith("#")]
    return [(int(grade), text) for grade, text in pairs]


if __name__ == "__main__":
    from daemons.engines.minilm import MiniLm

    WEIGHTS.write_bytes(msgspec.json.encode(fit(MiniLm(), training())) + b"\n")
