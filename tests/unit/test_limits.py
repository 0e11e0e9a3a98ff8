"""Every limit has a reason, and they agree with each other."""

from __future__ import annotations

import ast
from pathlib import Path

from ipc import limits
from ipc.codec import Message, encode
from ipc.messages import ChatMessage, Generate, Memory, MemoryPage

_TREE = ast.parse(Path(limits.__file__).read_text("utf-8"))


def test_each_limit_is_followed_by_its_reason() -> None:
    for this, following in zip(_TREE.body, [*_TREE.body[1:], None], strict=True):
        if isinstance(this, ast.Assign):
            assert isinstance(following, ast.Expr), ast.unparse(this)
            assert isinstance(following.value, ast.Constant)
            assert len(str(following.value.value)) > 20


def test_the_longest_page_of_memories_fits() -> None:
    """PAGE_MAX_CHARS of the widest text, spread over LIST_MAX_ITEMS memories, is one message."""
    text = "\U0001f327" * (limits.PAGE_MAX_CHARS // limits.LIST_MAX_ITEMS)
    memory = Memory(id=limits.SEQ_MAX, text=text, importance=5, created_s=1e12, score=1.0)
    page = MemoryPage(memories=[memory] * limits.LIST_MAX_ITEMS, total=limits.SEQ_MAX)
    encode(Message(bytes(16), 0, 1, 0, page))


def test_the_longest_conversation_fits() -> None:
    """MESSAGES_MAX messages, and the text of a 4,096-token context at four bytes a token, twice."""
    messages = [ChatMessage(role="assistant", content="word" * 32)] * limits.MESSAGES_MAX
    encode(Message(bytes(16), 0, 1, 0, Generate(messages=messages, max_tokens=4096)))


def test_a_hang_is_noticed_in_time_for_an_apology() -> None:
    assert limits.PEER_SILENCE_S + limits.PING_INTERVAL_S <= 2.0
    assert limits.PING_INTERVAL_S < limits.PEER_SILENCE_S
    assert limits.IDLE_PING_INTERVAL_S + limits.PING_INTERVAL_S + limits.PEER_SILENCE_S < limits.CLIENT_SILENCE_S


def test_credit_stays_within_what_may_be_granted() -> None:
    assert limits.CREDIT_AUDIO < limits.CREDIT_EVENTS < limits.CREDIT_MAX
