"""Bugs that the harness and the campaigns must catch, each a small alteration of a daemon's process."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import structs

from daemons.tts.core import SpeakingCore
from daemons.tts.effects import Effect, Flush
from ipc import marks
from ipc.call import Call
from ipc.codec import Message
from ipc.deadlines import Deadlines
from ipc.marks import Marks
from ipc.messages import Body, CreditGrant, Kind, Token
from ipc.server import Server
from ipc.session import Exchange, Session, Side

_kept: list[Any] = []


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Puts `make(what was there)` in the place of `owner.name`."""
    setattr(owner, name, make(getattr(owner, name)))


def _around(owner: Any, name: str, before: Callable[..., None]) -> None:
    """`before` is called with the same arguments first."""

    def make(real: Any) -> Any:
        def both(*args: Any, **kwargs: Any) -> Any:
            before(*args)
            return real(*args, **kwargs)

        return both

    _replace(owner, name, make)


# --- ends of a request ---


def _work(call: Call) -> bool:
    """Not what keeps a connection: the harness itself would not get on."""
    return not call.body.UPKEEP


def lost_terminal() -> None:
    def make(real: Any) -> Any:
        return lambda self, terminal: real(self, terminal) if not _work(self) else self._session.end(self._exchange)

    _replace(Call, "finish", make)


def second_terminal() -> None:
    def finish(self: Call, terminal: Body) -> None:
        if _work(self):
            self._transmit(Message(self.rid, self._exchange.send_seq, self.epoch, 0, terminal))

    _around(Call, "finish", finish)


def item_after_terminal() -> None:
    def make(real: Any) -> Any:
        def finish(self: Call, terminal: Body) -> None:
            seq = self._exchange.send_seq + 1
            real(self, terminal)
            if _work(self):
                self._transmit(Message(self.rid, seq, self.epoch, 0, Token(text="late", t_ns=0)))

        return finish

    _replace(Call, "finish", make)


def wrong_rid() -> None:
    def make(real: Any) -> Any:
        def finish(self: Call, terminal: Body) -> None:
            if _work(self):
                self._exchange.rid = bytes([self.rid[0] ^ 1]) + self.rid[1:]
            real(self, terminal)

        return finish

    _replace(Call, "finish", make)


def swallowed_cancel() -> None:
    _ignored(lambda message: message.body.KIND is Kind.CANCEL)


def deadline_ignored() -> None:
    Deadlines.add = lambda *_: None  # type: ignore[method-assign]


def peer_gone_not_told() -> None:
    def make(real: Any) -> Any:
        async def close(self: Server) -> None:
            self._send = lambda route, peer, message: True  # type: ignore[method-assign]
            await real(self)

        return close

    _replace(Server, "close", make)


def left_request_kept() -> None:
    Server._drop = lambda self, route: None  # type: ignore[method-assign]


# --- items and credits ---


def _each(number: int, when: Callable[[Body], bool]) -> Callable[[Body], bool]:
    """Every so-manieth of those that `when` is about."""
    seen = itertools.count(1)
    return lambda body: when(body) and next(seen) % number == 0


def _sent(times: int) -> None:
    chosen = _each(5, lambda body: body.KIND is Kind.DOWN)

    def make(real: Any) -> Any:
        async def send(self: Call, item: Body, payload: bytes = b"") -> None:
            for _ in range(times if chosen(item) else 1):
                await real(self, item, payload)

        return send

    _replace(Call, "send", make)


def lost_item() -> None:
    _sent(0)


def duplicated_token() -> None:
    _sent(2)


def _ignored(chosen: Callable[[Message], bool]) -> None:
    def make(real: Any) -> Any:
        def dispatch(self: Server, route: bytes, peer: Any, exchange: Exchange, message: Message) -> None:
            if not chosen(message):
                real(self, route, peer, exchange, message)

        return dispatch

    _replace(Server, "_dispatch", make)


def lost_up_item() -> None:
    third = _each(3, lambda body: body.KIND is Kind.UP)
    _ignored(lambda message: third(message.body))


def _granted_off_by(one: int) -> None:
    def make(real: Any) -> Any:
        def account(self: Session, exchange: Exchange, message: Message, peer: Side) -> None:
            real(self, exchange, message, peer)
            if isinstance(message.body, CreditGrant):
                exchange.send_credit += one

        return account

    _replace(Session, "_account", make)


def credit_too_many() -> None:
    _granted_off_by(1)


def credit_too_few() -> None:
    _granted_off_by(-1)


def old_epoch_heeded() -> None:
    """A message of a superseded request is taken for the newer one's."""

    def make(real: Any) -> Any:
        def receive(self: Session, message: Message, now_ns: int) -> Any:
            newer = self._exchanges.get(message.rid)
            if newer is not None and message.body.KIND is not Kind.REQUEST:
                message = structs.replace(message, epoch=newer.epoch, seq=newer.receive_seq)
            return real(self, message, now_ns)

        return receive

    _replace(Session, "receive", make)


# --- sound ---


def stale_epoch_played() -> None:
    """What was superseded or cancelled is not taken out of the speaker's queue."""

    def make(real: Any) -> Any:
        def drop(self: SpeakingCore, utterance: Any) -> list[Effect]:
            return [effect for effect in real(self, utterance) if not isinstance(effect, Flush)]

        return drop

    _replace(SpeakingCore, "_drop", make)


def held_sound_played() -> None:
    def make(real: Any) -> Any:
        return lambda self, utterance, conversation, hold: real(self, utterance, conversation, False)

    _replace(SpeakingCore, "speak", make)


# --- what a process holds ---


def leaked_descriptor() -> None:
    _around(Server, "_begin", lambda *_: _kept.append(os.dup(2)))


def growing_memory() -> None:
    _around(Server, "_begin", lambda *_: _kept.append(bytearray(b"\x01" * 1_000_000)))


def blocked_loop() -> None:
    at = _each(20, lambda body: not body.UPKEEP)

    def begin(self: Server, route: bytes, peer: Any, exchange: Exchange, message: Message) -> None:
        if at(message.body):
            time.sleep(1.3)

    _around(Server, "_begin", begin)


def mark_dropped() -> None:
    seventh = itertools.count(1)

    def make(real: Any) -> Any:
        return lambda self, *args, **kwargs: real(self, *args, **kwargs) if next(seventh) % 7 else None

    _replace(Marks, "mark", make)


def marks_lost() -> None:
    """There is hardly any room for them."""
    marks.RING_MARKS = 2


BUGS: Mapping[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        lost_terminal,
        second_terminal,
        item_after_terminal,
        wrong_rid,
        swallowed_cancel,
        deadline_ignored,
        peer_gone_not_told,
        left_request_kept,
        lost_item,
        duplicated_token,
        lost_up_item,
        credit_too_many,
        credit_too_few,
        old_epoch_heeded,
        stale_epoch_played,
        held_sound_played,
        leaked_descriptor,
        growing_memory,
        blocked_loop,
        mark_dropped,
        marks_lost,
    )
}
