"""Credit, waiting and ends, as the two users of a Channel see them: a sender and a reader at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ipc import limits
from ipc.channel import Channel
from ipc.codec import Message
from ipc.errors import CallCancelled, CallError, Code, LocalProtocolError, PeerGone
from ipc.messages import Audio, Body, CreditGrant, Done, Feed
from ipc.session import Exchange, Session, Side

ITEM = Audio(t_ns=0)


class Rig:
    """A Channel of a client whose peer is this test."""

    def __init__(self) -> None:
        body = Feed(conversation="a")
        self.session = Session(Side.CLIENT)
        self.exchange: Exchange = self.session.opened(self.session.new_request(body, bytes(16), 0), 0)
        self.out: list[Message] = []
        self.there = True
        self.channel = Channel(self.session, self.exchange, self._transmit)

    def _transmit(self, message: Message) -> bool:
        if self.there:
            self.out.append(message)
        return self.there

    def grants(self) -> list[int]:
        return [message.body.n for message in self.out if isinstance(message.body, CreditGrant)]

    def from_peer(self, body: Body) -> None:
        self.session.receive(Message(bytes(16), self.exchange.receive_seq, self.exchange.epoch, 0, body), 0)


def _run(test: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(Rig()), 20)

    asyncio.run(main())


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_sender_without_credit_waits_for_it() -> None:
    async def test(rig: Rig) -> None:
        for _ in range(limits.CREDIT_AUDIO):
            await rig.channel.send(ITEM)
        waiting = asyncio.create_task(rig.channel.send(ITEM))
        await _turns()
        assert not waiting.done()
        assert not rig.channel.offer(ITEM)
        assert len(rig.out) == limits.CREDIT_AUDIO
        rig.from_peer(CreditGrant(n=2))
        rig.channel.credited()
        await waiting
        assert rig.channel.offer(ITEM)
        assert not rig.channel.offer(ITEM)
        assert [message.seq for message in rig.out] == list(range(1, limits.CREDIT_AUDIO + 3))

    _run(test)


def test_a_sender_and_a_reader_wait_at_once_and_each_is_woken() -> None:
    async def test(rig: Rig) -> None:
        while rig.channel.offer(ITEM):
            pass
        sending = asyncio.create_task(rig.channel.send(ITEM))
        reading = asyncio.ensure_future(anext(rig.channel))
        await _turns()
        rig.channel.deliver(ITEM, b"pcm")
        assert await reading == (ITEM, b"pcm")
        await _turns()
        assert not sending.done()
        reading = asyncio.ensure_future(anext(rig.channel))
        await _turns()
        rig.from_peer(CreditGrant(n=1))
        rig.channel.credited()
        await sending
        await _turns()
        assert not reading.done()
        rig.channel.complete()
        with pytest.raises(StopAsyncIteration):
            await reading

    _run(test)


def test_two_senders_share_what_is_granted() -> None:
    async def test(rig: Rig) -> None:
        while rig.channel.offer(ITEM):
            pass
        waiting = [asyncio.create_task(rig.channel.send(ITEM)) for _ in range(3)]
        await _turns()
        for granted in (1, 2, 3):
            rig.from_peer(CreditGrant(n=1))
            rig.channel.credited()
            await _turns()
            assert sum(task.done() for task in waiting) == granted

    _run(test)


def test_half_a_window_read_is_half_a_window_granted() -> None:
    async def test(rig: Rig) -> None:
        for _ in range(limits.CREDIT_AUDIO):
            rig.channel.deliver(ITEM, b"")
        assert rig.grants() == []
        for _ in range(limits.CREDIT_AUDIO):
            await anext(rig.channel)
        assert rig.grants() == [limits.CREDIT_AUDIO // 2] * 2

    _run(test)


def test_what_was_delivered_is_read_before_the_end_is_told() -> None:
    async def test(rig: Rig) -> None:
        rig.channel.deliver(ITEM, b"1")
        rig.channel.deliver(ITEM, b"2")
        rig.channel.fail(CallError(Code.INTERNAL, "broken"))
        assert [(await anext(rig.channel))[1] for _ in range(2)] == [b"1", b"2"]
        for _ in range(2):
            with pytest.raises(CallError, match="broken"):
                await anext(rig.channel)

    _run(test)


def test_the_end_wakes_whoever_waits() -> None:
    async def test(rig: Rig) -> None:
        while rig.channel.offer(ITEM):
            pass
        waiting = [asyncio.create_task(rig.channel.send(ITEM)), asyncio.ensure_future(anext(rig.channel))]
        await _turns()
        rig.channel.fail(PeerGone("gone"))
        rig.channel.fail(CallError(Code.INTERNAL, "too late to matter"))
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, PeerGone)
        with pytest.raises(PeerGone):
            rig.channel.offer(ITEM)

    _run(test)


def test_the_peers_result_ends_a_waiting_sender() -> None:
    async def test(rig: Rig) -> None:
        while rig.channel.offer(ITEM):
            pass
        waiting = asyncio.create_task(rig.channel.send(ITEM))
        await _turns()
        rig.from_peer(Done())
        rig.channel.complete()
        with pytest.raises(CallCancelled, match="has ended"):
            await waiting
        with pytest.raises(CallCancelled, match="has ended"):
            rig.channel.offer(ITEM)

    _run(test)


def test_nothing_is_granted_once_the_peers_stream_is_complete() -> None:
    async def test(rig: Rig) -> None:
        for _ in range(limits.CREDIT_AUDIO):
            rig.channel.deliver(ITEM, b"")
        rig.channel.complete()
        assert len([item async for item in rig.channel]) == limits.CREDIT_AUDIO
        assert rig.grants() == []

    _run(test)


def test_a_peer_that_cannot_be_reached_costs_neither_credit_nor_sequence() -> None:
    async def test(rig: Rig) -> None:
        rig.there = False
        with pytest.raises(PeerGone):
            await rig.channel.send(ITEM)
        assert (rig.exchange.send_credit, rig.exchange.send_seq) == (limits.CREDIT_AUDIO, 1)

    _run(test)


def test_an_item_that_is_refused_here_leaves_the_stream_whole() -> None:
    async def test(rig: Rig) -> None:
        def refuse(message: Message) -> bool:
            raise LocalProtocolError("too long")

        rig.channel._transmit = refuse
        with pytest.raises(LocalProtocolError):
            await rig.channel.send(ITEM)
        rig.channel._transmit = rig._transmit
        await rig.channel.send(ITEM)
        assert [message.seq for message in rig.out] == [1]

    _run(test)


def test_a_channel_tells_its_names() -> None:
    async def test(rig: Rig) -> None:
        assert (rig.channel.rid, rig.channel.epoch) == (bytes(16), rig.exchange.epoch)

    _run(test)
