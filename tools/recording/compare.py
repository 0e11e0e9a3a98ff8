"""What came back then, and what comes back now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from statistics import median

import msgspec

from ipc.errors import EXIT_NO_INPUT, TimmyError
from ipc.messages import Cancelled, Error
from tools.recording.again import ENDLESS, times_of
from tools.recording.asked import Asked

SOUND_SHARE = 0.25
"""Two sounds whose lengths differ by more than this share of the longer are not the same. Piper draws the length of
each sound of a text at random: the same answer was seen to differ by a tenth."""

SOUND_MS = 100.0
"""So much may always be between them: the end of what a listener got in time."""

Pair = tuple[Asked, Asked]


class NoCounterpart(TimmyError):
    """A recording that does not have what it is to be compared with."""

    exit_status = EXIT_NO_INPUT


@dataclass(frozen=True)
class Stage:
    """How long one thing took: how often it was seen, median and longest, then and now, ms."""

    name: str
    then: list[float]
    now: list[float]

    def cells(self) -> list[str]:
        """A row for a person: the name, how often, then the median and the longest of each, and the medians' change."""
        change = f"{median(self.now) - median(self.then):+.1f}" if self.then and self.now else ""
        return [self.name, f"{len(self.then)}, {len(self.now)}", *_two(self.then), *_two(self.now), change]


def _two(values: Sequence[float]) -> list[str]:
    return [f"{median(values):.1f}", f"{max(values):.1f}"] if values else ["-", "-"]


def matched(asked: Sequence[Asked], others: Iterable[Asked], path: Path) -> list[Asked]:
    """Of `others`, which come from `path`, the counterpart of each: the same question to the same daemon, the n-th
    time. Raises NoCounterpart."""
    there: dict[bytes, list[Asked]] = defaultdict(list)
    for other in reversed(list(others)):
        there[_question(other)].append(other)
    found = []
    for each in asked:
        if not (same := there[_question(each)]):
            raise NoCounterpart(f"{path} has no such {each.name} of {each.daemon}: not the same requests are in it")
        found.append(same.pop())
    return found


def _question(asked: Asked) -> bytes:
    """What was asked of whom, apart from when and in which conversation."""
    fields = msgspec.to_builtins(asked.body, builtin_types=(bytes,))
    left_out = {"conversation", *times_of(asked.body)}
    plain = {name: value for name, value in fields.items() if name not in left_out}
    return msgspec.msgpack.encode([asked.daemon, asked.name, plain])


def outcome(asked: Asked) -> str:
    """How it ended, in words."""
    if isinstance(asked.end, Error):
        return f"error {asked.end.code}"
    if isinstance(asked.end, Cancelled):
        return "cancelled"
    return "no end" if asked.end is None else asked.end.type_name()


def differences(then: Asked, now: Asked) -> list[str]:
    """What is not the same, in words; of a request whose end was not recorded only what can be told."""
    found = []
    known = then.end is not None and not then.broken
    if outcome(then) != outcome(now) and (known or isinstance(now.end, Error) or now.end is None):
        detail = f" ({now.end.detail})" if isinstance(now.end, Error) else ""
        found.append(f"{outcome(then) if known else 'went on'}, now {outcome(now)}{detail}")
    if known or isinstance(then.body, ENDLESS):
        found += _other_texts(then.texts, now.texts)
        longest = max(then.sound_ms, now.sound_ms)
        if abs(then.sound_ms - now.sound_ms) > max(SOUND_SHARE * longest, SOUND_MS):
            found.append(f"{then.sound_ms / 1000:.2f} s of sound, now {now.sound_ms / 1000:.2f} s")
    return found


def _other_texts(then: list[str], now: list[str]) -> list[str]:
    """What became another text, is missing, or is new; a missing one does not shift those after it."""
    found = []
    for kind, a, b, c, d in SequenceMatcher(None, then, now, autojunk=False).get_opcodes():
        if kind != "equal":
            pairs = zip_longest(then[a:b], now[c:d], fillvalue=None)
            found += [f"{_quoted(old)}, now {_quoted(new)}" for old, new in pairs]
    return found


def _quoted(text: str | None) -> str:
    return "nothing" if text is None else f"'{text}'"


def stages(pairs: Sequence[Pair]) -> list[Stage]:
    """How long everything took, in the order in which it was first seen."""
    then, now = (_waits([pair[side] for pair in pairs]) for side in (0, 1))
    return [Stage(name, then.get(name, []), now.get(name, [])) for name in dict.fromkeys([*then, *now])]


def _waits(asked: Sequence[Asked]) -> dict[str, list[float]]:
    waits: dict[str, list[float]] = defaultdict(list)
    for each in asked:
        for name, values in each.waits_ms.items():
            waits[name] += values
    return waits
