"""Campaign 3: peers of other releases, with every message there is. What an older or a newer one of this version says
means what it means from one of today; an unknown type or another version ends its request with that error, no other.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from ipc import codec
from ipc.codec import Message
from ipc.errors import CallCancelled, CallError, Code
from ipc.ids import new_rid
from ipc.messages import (
    REGISTRY,
    Ask,
    Attach,
    Audio,
    Body,
    Cancel,
    ChatMessage,
    Clause,
    Done,
    End,
    Error,
    Feed,
    Follow,
    Generate,
    Hello,
    Kind,
    Listen,
    Ping,
    Record,
    Release,
    Rest,
    Result,
    Say,
    Speak,
    Welcome,
)
from tests.campaigns import eras
from tests.campaigns.caller import Caller
from tests.campaigns.eras import REFUSED, UNDERSTOOD, Era
from tests.campaigns.subject import MAKE, subject
from tests.campaigns.watch import Watch
from tests.socket.rig import RawServer, Wire, hello

ROOM = "kitchen"
_MINE: Mapping[type[Body], Body] = {
    Attach: Attach(conversation=ROOM),
    Clause: Clause(text="a"),
    Feed: Feed(conversation="hall"),
    Generate: Generate(messages=[ChatMessage(role="user", content="Well?")], max_tokens=3),
    Hello: hello(),
    Rest: Rest(ms=0),
    Speak: Speak(conversation=ROOM),
}
"""Where the usual sample would take long, or be refused for what it says."""

_TTL_MS: Mapping[type[Body], int] = {Ask: 300, Say: 300}
"""A dialog that is alone waits for a model or a voice for longer than a caller may be silent."""
_ENDLESS = (Attach, Follow, Listen)
_STREAMS: Mapping[str, Sequence[tuple[Body, Sequence[Body]]]] = {
    "stt": [(Feed(conversation="hall"), [Audio(t_ns=0)])],
    "llm": [(_MINE[Generate], [Rest(ms=0)])],
    "tts": [
        (Speak(conversation=ROOM), [Clause(text="a")]),
        (Speak(conversation=ROOM, hold=True), [Clause(text="a"), Release()]),
    ],
}
"""Requests with items that follow them, by the daemon that serves them."""

_PCM = bytes(640)
Told = tuple[str, object]
"""What a request came to: the type of its end, and what it says that does not depend on the clock."""


def run(count: int, seed: int, fault: str = "", daemons: Sequence[str] = tuple(MAKE)) -> dict[str, int]:
    """Every message, `count` times, from each kind of peer to each daemon, and from each kind of daemon to a caller.
    Raises AssertionError. `fault`: planted, for the daemons."""
    chance, tried = random.Random(seed), Counter[str]()
    for name in daemons:
        with subject(name, fault) as daemon, Watch(daemon.folder, name, calm_s=0.2) as watch:
            for _ in range(count):
                tried["messages"] += _Visitor(name, daemon.folder, chance).tries()
            tried["pings"] += watch.verdict()["pings"]
            daemon.check_log()
    tried["answers"] = asyncio.run(_answered(count, chance))
    return {"rounds": count, **tried}


class _Visitor:
    """Who speaks to one daemon as peers of all kinds do."""

    def __init__(self, name: str, folder: Path, chance: random.Random) -> None:
        self._name, self._folder, self._chance = name, folder, chance
        self._tried = 0

    def tries(self) -> int:
        """How many messages there were."""
        self._greetings()
        for cls in REGISTRY.values():
            # Anew for each, as so many bad messages of one peer in so short a time are more than it is forgiven.
            with Caller(self._name, self._folder) as self._caller:
                self._message(_MINE.get(cls) or eras.usual(cls))
                self._caller.still_served()
        with Caller(self._name, self._folder) as self._caller:
            for request, items in _STREAMS.get(self._name, ()):
                what = f"{request.type_name()} with {items[-1].type_name()}"
                self._alike(what, lambda era, request=request, items=items: self._stream(request, items, era))
            self._caller.still_served()
        return self._tried

    def _message(self, body: Body) -> None:
        if not isinstance(body, Hello):
            self._alike(f"a {body.type_name()} of its own", lambda era: self._alone(body, era))
            self._alike(f"a {body.type_name()} in a request", lambda era: self._inside(body, era))
        for era, code in REFUSED.items():
            self._refused(body, era, code)

    def _alike(self, what: str, told: Any) -> None:
        ends: dict[str, Told] = {era.__name__: told(era) for era in UNDERSTOOD}
        assert len(set(ends.values())) == 1, f"{self._name}: {what} is not the same from all peers: {ends}"

    def _say(self, request: tuple[bytes, int], seq: int, body: Body, era: Era, ttl_ms: int = 0) -> None:
        payload = _PCM if isinstance(body, Audio) else b""
        message = Message(request[0], seq, request[1], ttl_ms, body, payload)
        self._caller.frames(*eras.frames(message, era, self._chance))
        self._tried += 1

    def _alone(self, body: Body, era: Era) -> Told:
        """As the first message of a request."""
        if body.KIND is not Kind.REQUEST:
            self._say((new_rid(), 1), 1, body, era)
            self._caller.still_served()
            return "late", None
        request = self._caller.new()
        self._say(request, 0, body, era, ttl_ms=_TTL_MS.get(type(body), 10_000))
        self._caller.say(request, Cancel(reason="enough") if isinstance(body, _ENDLESS) else End(), 1)
        return _told(self._caller.ended(request).body)

    def _inside(self, body: Body, era: Era) -> Told:
        """Under a request that is open."""
        request = self._caller.ask(Record())
        self._say(request, 1, body, era)
        self._caller.ended(self._caller.ask(Ping()))
        if self._caller.open(request) and not isinstance(body, End):  # of which it ends by itself
            self._caller.cancel(request, 2)
        return _told(self._caller.ended(request).body)

    def _refused(self, body: Body, era: Era, code: str) -> None:
        for request, seq in ((self._caller.new(), 0), (self._caller.ask(Record()), 1)):
            self._say(request, seq, body, era)
            got = self._caller.error(request)
            assert got == code, f"{self._name}: {body.type_name()}, {era.__name__}: {got} instead of {code}"

    def _stream(self, body: Body, items: Sequence[Body], era: Era) -> Told:
        listening = self._caller.ask(Attach(conversation=ROOM)) if self._name == "tts" else None
        request = self._caller.new()
        self._say(request, 0, body, era if items[-1] != Release() else eras.same, ttl_ms=20_000)
        for seq, item in enumerate([*items, End()], 1):
            self._say(request, seq, Audio(t_ns=time.monotonic_ns()) if isinstance(item, Audio) else item, era)
        end = self._caller.ended(request).body
        assert isinstance(end, Result), f"{self._name}: {body.type_name()}, {era.__name__}: {end}"
        if listening:
            self._caller.cancel(listening)
        return _told(end)

    def _greetings(self) -> None:
        """Who speaks another version is told so, and is not let in; who speaks this one as well is."""
        for least, most, version in ((2, 3, 1), (2, 2, 2), (255, 255, 255)):
            with Caller(self._name, self._folder, greet=False) as caller:
                request = caller.new()
                caller.frames(*eras.frames(Message(*_first(request), hello(least, most)), _of(version), self._chance))
                assert caller.error(request) == Code.UNSUPPORTED_VERSION, f"{self._name}: versions {least} to {most}"
                assert caller.error(caller.ask(Ping())) == Code.PEER_GONE, f"{self._name} serves version {least}"
        for era in UNDERSTOOD:
            with Caller(self._name, self._folder, greet=False) as caller:
                request = caller.new()
                caller.frames(*eras.frames(Message(*_first(request), hello(1, 255)), era, self._chance))
                welcome = caller.ended(request).body
                assert isinstance(welcome, Welcome), f"{self._name}: {era.__name__}: {welcome}"
                assert welcome.proto == 1, f"{self._name} chose version {welcome.proto}"
                caller.still_served()


def _of(version: int) -> Era:
    """A header of that version."""
    return lambda header, chance: {**header, "v": version}


def _first(request: tuple[bytes, int]) -> tuple[bytes, int, int, int]:
    return request[0], 0, request[1], 0


def _told(body: Body) -> Told:
    """A result by its type and what of it is no clock's and no counter's."""
    says = {name: getattr(body, name, None) for name in ("code", "clauses", "frames", "completion_tokens", "reason")}
    return body.type_name(), tuple(says.values())


# --- the other way round: daemons of other releases, and a caller of today ---


async def _answered(count: int, chance: random.Random) -> int:
    tried = 0
    logging.getLogger("ipc").addHandler(logging.NullHandler())  # the caller tells of each broken answer
    with tempfile.TemporaryDirectory(prefix="timmy-") as folder:
        wire = Wire(Path(folder))
        async with RawServer(wire) as server, wire.client() as client:
            await client.wait_connected(30)
            for _ in range(count):
                for cls in REGISTRY.values():
                    body = eras.usual(cls)
                    if isinstance(body, Error) and body.code is Code.PEER_GONE:
                        body = structs.replace(body, code=Code.BUSY)  # or it connects anew
                    ends = {era.__name__: await _answer(server, client, body, era, chance) for era in UNDERSTOOD}
                    assert len(set(ends.values())) == 1, f"a caller: {body.type_name()} is not the same: {ends}"
                    for era in REFUSED:
                        end = await _answer(server, client, body, era, chance)
                        assert end[0] == "CallError", f"a caller: {body.type_name()}, {era.__name__}: {end}"
                        assert "broke the protocol" in end[1], end
                    tried += len(UNDERSTOOD) + len(REFUSED)
    return tried


async def _answer(server: RawServer, client: Any, body: Body, era: Era, chance: random.Random) -> tuple[str, str]:
    """What a caller hears when a daemon answers with it."""
    server.forget()
    stream = client.open(_MINE[Generate], ttl_ms=20_000)
    asked = await server.heard(Kind.REQUEST)
    server.frames(*eras.frames(Message(asked.rid, 0, asked.epoch, 0, body), era, chance))
    if body.KIND in (Kind.DOWN, Kind.CREDIT) and era in UNDERSTOOD:
        server.frames(*codec.encode(Message(asked.rid, 1, asked.epoch, 0, Done())))
    heard = []
    try:
        async for item, _ in stream:
            heard.append(item)
        result: Result = await stream.result()
    except (CallError, CallCancelled) as error:
        return type(error).__name__, str(error)
    return result.type_name(), repr((heard, result))
