"""Campaigns without a house at the size that a test affords, and proof that those of calculations find something."""

from __future__ import annotations

from typing import Any

import pytest

from ipc.codec import Message, decode
from ipc.messages import Kind
from ipc.session import Exchange, Session
from tests.campaigns import codec, sessions
from tests.campaigns.book import FUZZ, SINGLE, try_out
from tests.campaigns.codec import Broken
from tests.unit.test_session_oracle import Conversation


@pytest.mark.parametrize("name", [*FUZZ, *SINGLE])
def test_nothing_is_found(name: str) -> None:
    try_out(name)


def test_damage_is_seldom_without_effect_and_not_always_fatal() -> None:
    found = codec.run(5000, 1)
    assert 100 < found["still messages"] < 2500


def _careless(frames: list[bytes]) -> object:
    """Trusts that a header is there."""
    return decode(frames) if frames[0] else None


def _forgetful(frames: list[bytes]) -> object:
    """Drops what it does not know how to read."""
    message = decode(frames)
    return Message(message.rid, message.seq, message.epoch, -1, message.body, message.payload)


@pytest.mark.parametrize(("planted", "what"), [(_careless, "IndexError escaped"), (_forgetful, "cannot be sent")])
def test_a_fault_in_the_codec_is_found_and_can_be_kept(
    planted: Any, what: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Broken, match=what) as broken:
        codec.run(5000, 1, planted)
    monkeypatch.setattr(codec, "CORPUS", tmp_path)
    codec.keep(broken.value.frames, "found")
    assert list(codec.corpus()) == [broken.value.frames]
    with pytest.raises(Broken, match=what):
        codec.run(0, 1, planted)


class _Spendthrift(Session):
    """Counts a credit less than it spends."""

    def sent(self, exchange: Exchange, message: Message) -> None:
        super().sent(exchange, message)
        if message.body.KIND is Kind.DOWN and message.seq % 3 == 1:
            exchange.send_credit += 1


class _Chatty(Session):
    """Lets an end be followed by more."""

    def _move(self, exchange: Exchange, state: Any) -> None:
        super()._move(exchange, exchange.state if state.name == "ENDED" else state)


@pytest.mark.parametrize("planted", [_Spendthrift, _Chatty])
def test_a_fault_in_the_rules_is_found(planted: type[Session]) -> None:
    class Altered(Conversation):
        def __init__(self) -> None:
            super().__init__()
            self.client, self.server = planted(self.client.side), planted(self.server.side)

    with pytest.raises(AssertionError, match=r"sequence 1:\d+, step"):
        sessions.run(2000, 1, Altered)
