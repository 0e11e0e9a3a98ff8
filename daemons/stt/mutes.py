"""What conversations are not to hear, whether they have a microphone or not."""

from __future__ import annotations

Span = tuple[int, int]
"""From, until: capture times in ns."""

CONVERSATIONS_MAX = 64
"""So many are remembered, the newest: dialog holds no more."""


class Mutes:
    """The newest mute of each conversation, for microphones that come after it was told: after a restart a room's
    microphone and dialog come back in any order, and a microphone whose link was cut comes back while an answer
    sounds."""

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}

    def mute(self, conversation: str, from_ns: int, lease_ms: int, now_ns: int) -> None:
        """See the message Mute."""
        before = self._spans.pop(conversation, None)
        if lease_ms:
            begin_ns = min(from_ns, before[0]) if before and now_ns < before[1] else from_ns
            self._spans[conversation] = begin_ns, now_ns + lease_ms * 1_000_000
        elif before:
            self._spans[conversation] = before[0], min(before[1], from_ns)
        while len(self._spans) > CONVERSATIONS_MAX:
            del self._spans[next(iter(self._spans))]

    def span(self, conversation: str) -> Span | None:
        """What a new microphone must not hear of what it captures, or has captured; it may be over."""
        return self._spans.get(conversation)
