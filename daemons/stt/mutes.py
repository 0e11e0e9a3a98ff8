"""What conversations are not to hear, whether they have a microphone or not."""

from __future__ import annotations

from ipc.call import Caller

Span = tuple[int, int]
"""From, until: capture times in ns."""

CONVERSATIONS_MAX = 64
"""So many are remembered, the newest: dialog holds no more."""


class Mutes:
    """The newest mute of each conversation, for microphones that come after it was told: after a restart a room's
    microphone and dialog come back in any order, and a microphone whose link was cut comes back while an answer
    sounds. And who told it: nobody else lifts the mute of one that is gone."""

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}
        self._callers: dict[str, Caller] = {}

    def mute(self, conversation: str, from_ns: int, lease_ms: int, now_ns: int, caller: Caller) -> None:
        """See the message Mute."""
        before = self._spans.pop(conversation, None)
        if lease_ms:
            begin_ns = min(from_ns, before[0]) if before and now_ns < before[1] else from_ns
            self._spans[conversation] = begin_ns, now_ns + lease_ms * 1_000_000
            self._callers[conversation] = caller
        elif before:
            self._spans[conversation] = before[0], min(before[1], from_ns)
        while len(self._spans) > CONVERSATIONS_MAX:
            oldest = next(iter(self._spans))
            del self._spans[oldest], self._callers[oldest]

    def told_by(self, caller: Caller, now_ns: int) -> list[str]:
        """The conversations that it keeps muted."""
        ends = ((conversation, until_ns) for conversation, (_, until_ns) in self._spans.items())
        return [name for name, until_ns in ends if until_ns > now_ns and self._callers[name] is caller]

    def span(self, conversation: str) -> Span | None:
        """What a new microphone must not hear of what it captures, or has captured; it may be over."""
        return self._spans.get(conversation)
