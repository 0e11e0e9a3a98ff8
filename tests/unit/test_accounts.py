"""What a peer's account says of it, and when it is over a quota."""

from __future__ import annotations

import pytest

from ipc import limits
from ipc.accounts import Account, Recent, wait_together, waits

S = 1_000_000_000


def test_what_happens_lately_is_counted_in_stretches() -> None:
    recent = Recent(2.0)
    assert [recent.add(1, at) for at in (5 * S, 5 * S, 7 * S - 1, 7 * S, 20 * S)] == [1, 2, 3, 1, 1]


@pytest.mark.parametrize(
    ("way", "quota", "words"),
    [
        ("came", limits.BYTES_IN_MAX_PER_S, "bytes sent within a second"),
        ("left", limits.BYTES_OUT_MAX_PER_S, "bytes asked for within a second"),
    ],
)
def test_bytes_are_counted_for_ever_and_within_a_second(way: str, quota: int, words: str) -> None:
    account = Account()
    book = getattr(account, way)
    assert book(quota, 10 * S) == ""
    assert book(1, 11 * S - 1) == f"{quota + 1:,} {words}, at most {quota:,} are allowed"
    assert book(quota, 11 * S) == ""
    assert f" {2 * quota + 1:,} " in f" {account.summary}"


def test_bad_messages_are_forgiven_in_time() -> None:
    account, now_ns = Account(), 1
    for _ in range(1000):
        now_ns += S
        assert account.broke(now_ns) == ""
    for _ in range(limits.BAD_MESSAGES_MAX):
        account.broke(now_ns)
    assert account.broke(now_ns).startswith("10")
    assert account.summary == "0 bytes of it read, 0 sent to it, 1,101 messages refused"


def test_credit_has_an_end() -> None:
    assert Account.granted(limits.CREDIT_MAX_PER_PEER) == ""
    assert "65,537 credit granted" in Account.granted(limits.CREDIT_MAX_PER_PEER + 1)


def test_what_waits_has_an_end() -> None:
    assert waits(limits.BACKLOG_MAX_MESSAGES, limits.BACKLOG_MAX_BYTES) == ""
    assert "1,025 messages waiting" in waits(limits.BACKLOG_MAX_MESSAGES + 1, 0)
    assert "16,777,217 bytes waiting" in waits(1, limits.BACKLOG_MAX_BYTES + 1)
    assert wait_together(limits.BACKLOG_MAX_MESSAGES_OF_ALL, limits.BACKLOG_MAX_BYTES_OF_ALL) == ""
    assert "4,097 messages of all" in wait_together(limits.BACKLOG_MAX_MESSAGES_OF_ALL + 1, 0)
    assert "67,108,865 bytes of all" in wait_together(1, limits.BACKLOG_MAX_BYTES_OF_ALL + 1)
