"""The account of one peer: what it has sent and was sent, and which quota it is over."""

from __future__ import annotations

from ipc import limits

_NS = 1_000_000_000


class Recent:
    """Counts what happens in stretches of `period_s`, one after the other."""

    __slots__ = ("_began_ns", "_period_ns", "amount")

    def __init__(self, period_s: float) -> None:
        self._period_ns = int(period_s * _NS)
        self._began_ns = 0
        self.amount = 0
        """So far in the stretch of the latest `add`."""

    def add(self, amount: int, now_ns: int) -> int:
        """So much in the stretch that is under way."""
        if now_ns - self._began_ns >= self._period_ns:
            self._began_ns, self.amount = now_ns, 0
        self.amount += amount
        return self.amount


class Account:
    """Each method that books something returns the quota that it brings the peer over, as half a sentence with the
    value and what is allowed, or nothing. Clock readings are nanoseconds, monotonic. Sizes are bytes of frames."""

    __slots__ = ("bytes_in", "bytes_out", "lately_bad", "lately_in", "lately_out", "refused")

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = self.refused = 0
        self.lately_in, self.lately_out = Recent(1), Recent(1)
        self.lately_bad = Recent(limits.BAD_MESSAGES_PERIOD_S)

    def came(self, size: int, now_ns: int) -> str:
        self.bytes_in += size
        lately = self.lately_in.add(size, now_ns)
        return _over(lately, limits.BYTES_IN_MAX_PER_S, "bytes sent within a second")

    def left(self, size: int, now_ns: int) -> str:
        self.bytes_out += size
        lately = self.lately_out.add(size, now_ns)
        return _over(lately, limits.BYTES_OUT_MAX_PER_S, "bytes asked for within a second")

    def broke(self, now_ns: int) -> str:
        """A message of the peer was refused."""
        self.refused += 1
        lately = self.lately_bad.add(1, now_ns)
        return _over(lately, limits.BAD_MESSAGES_MAX, f"bad messages within {limits.BAD_MESSAGES_PERIOD_S:.0f} s")

    @property
    def summary(self) -> str:
        """Of all its life."""
        return f"{self.bytes_in:,} bytes of it read, {self.bytes_out:,} sent to it, {self.refused:,} messages refused"

    @staticmethod
    def granted(credit: int) -> str:
        """`credit`: what the peer has granted and was not used yet, in all its requests."""
        return _over(credit, limits.CREDIT_MAX_PER_PEER, "credit granted at once")


def waits(messages: int, size: int) -> str:
    """The quota of what a peer has sent and nobody has looked at yet."""
    return _over(messages, limits.BACKLOG_MAX_MESSAGES, "messages waiting") or _over(
        size, limits.BACKLOG_MAX_BYTES, "bytes waiting"
    )


def wait_together(messages: int, size: int) -> str:
    """The same of all peers together: the one that has the most waiting answers for it."""
    return _over(
        messages, limits.BACKLOG_MAX_MESSAGES_OF_ALL, "messages of all waiting, most of them of this peer"
    ) or _over(size, limits.BACKLOG_MAX_BYTES_OF_ALL, "bytes of all waiting, most of them of this peer")


def _over(value: int, allowed: int, what: str) -> str:
    return f"{value:,} {what}, at most {allowed:,} are allowed" if value > allowed else ""
