"""Faults that a campaign must find, planted into a subject's process before it serves."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import zmq

from ipc import codec, limits, sockets, transport
from ipc.codec import Message
from ipc.errors import Code, RemoteProtocolError
from ipc.messages import REGISTRY, Done
from ipc.server import Server
from tests.support.observed_by_libzmq import ObservedByLibzmq

_hoard: list[bytes] = []


def _on_refusal(act: Callable[[], None]) -> None:
    """Does something bad whenever a peer breaks the protocol."""
    refuse = Server._refuse

    def altered(self: Server, *args: Any) -> None:
        act()
        refuse(self, *args)

    Server._refuse = altered  # type: ignore[method-assign, assignment]


def dies() -> None:
    _on_refusal(lambda: os._exit(1))


def blocks() -> None:
    _on_refusal(lambda: time.sleep(1.2))


def hoards() -> None:
    _on_refusal(lambda: _hoard.append(bytes(range(256)) * 240_000))


def keeps() -> None:
    """Forgets to end what a peer that left had asked for."""

    def drop(self: Server, route: bytes) -> None:
        """Nothing."""

    Server._drop = drop  # type: ignore[method-assign]


def lets_in() -> None:
    """Asks nobody who he is: libzmq then takes raw bytes for peers of an old version."""

    def router(context: Any, path: Any, fd: Any = None) -> Any:
        socket = sockets._new(context, zmq.ROUTER, {})
        socket.bind(f"ipc://{path}")
        return socket

    transport.router = router  # type: ignore[attr-defined]


def waits() -> None:
    """Gives a handshake all the time that it wants."""
    sockets._EVERY[zmq.HANDSHAKE_IVL] = 0


def keeps_subscriptions() -> None:
    """Lets observers subscribe without measure."""
    limits.SUBSCRIPTIONS_MAX = limits.SUBSCRIPTIONS_MAX_OF_ALL = 10**9


def queues_what_comes() -> None:
    """Lets a caller's queue be full."""
    sockets._SERVER[zmq.RCVHWM] = 2000


def bears_all() -> None:
    """Has no quota for what waits."""
    limits.BACKLOG_MAX_BYTES = limits.BACKLOG_MAX_BYTES_OF_ALL = 10**12


def ends_twice() -> None:
    """Answers a request that it has ended once more when its caller breaks a rule."""
    refuse = Server._refuse

    def altered(self: Server, route: bytes, peer: Any, error: RemoteProtocolError) -> None:
        refuse(self, route, peer, error)
        if error.rid:
            self._send(route, peer, Message(error.rid, 1, error.epoch, 0, Done()))

    Server._refuse = altered  # type: ignore[method-assign]


def queues_without_limit() -> None:
    """Keeps for an observer all that it has not read."""
    limits.OBSERVATION_BACKLOG_MAX = limits.OBSERVATION_BACKLOG_MAX_BYTES = 10**12


def observed_by_libzmq() -> None:
    """Publishes through a socket that an observer can abort."""
    transport.Observation = ObservedByLibzmq  # type: ignore[attr-defined, assignment]


def overlooks() -> None:
    """Publishes every twentieth header not, and does not number it."""
    observe, turns = Server._observe, itertools.cycle(range(20))

    def altered(self: Server, *args: Any, **kwargs: Any) -> None:
        if next(turns):
            observe(self, *args, **kwargs)

    Server._observe = altered  # type: ignore[method-assign]


def _on_reading(prepare: Callable[[dict[str, Any]], None]) -> None:
    """Sees every header before it is read."""
    real = codec.decode

    def decode(frames: Sequence[bytes]) -> Message:
        plain = msgspec.msgpack.decode(frames[0])
        prepare(plain)
        return real([msgspec.msgpack.encode(plain), *frames[1:]])

    codec.decode = decode


def _refuse_unless(known: Callable[[set[str], set[str]], bool]) -> None:
    def check(plain: dict[str, Any]) -> None:
        cls = REGISTRY.get(plain["type"]) if plain["v"] == limits.PROTOCOL_VERSION else None
        if cls and isinstance(plain["body"], dict) and not known(set(plain["body"]), set(cls.__struct_fields__)):
            raise RemoteProtocolError("other fields", Code.BAD_MESSAGE, plain["rid"], plain["epoch"])

    _on_reading(check)


def forbids() -> None:
    """Reads no field that it does not know."""
    _refuse_unless(lambda there, fields: there <= fields)


def wants_all() -> None:
    """Reads no message in which a later field is missing."""
    _refuse_unless(lambda there, fields: there >= fields)


def any_version() -> None:
    """Takes each version for its own."""

    def check(plain: dict[str, Any]) -> None:
        plain["v"] = limits.PROTOCOL_VERSION

    _on_reading(check)


FAULTS: Mapping[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        dies,
        blocks,
        hoards,
        keeps,
        lets_in,
        waits,
        keeps_subscriptions,
        queues_what_comes,
        bears_all,
        ends_twice,
        queues_without_limit,
        observed_by_libzmq,
        overlooks,
        forbids,
        wants_all,
        any_version,
    )
}
