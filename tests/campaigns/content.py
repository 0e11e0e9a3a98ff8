"""Campaign 5: callers that shake hands as they should, and then send what nobody should."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache

import msgspec

from ipc import codec, limits, zmtp
from ipc.codec import Message
from ipc.endpoints import observer_path
from ipc.ids import new_rid
from ipc.messages import Body, Cancel, ChatMessage, Clause, CreditGrant, End, Generate, Ping, Rest
from tests.campaigns.caller import Caller
from tests.campaigns.handmade import HANG_S, Gone, Peer
from tests.campaigns.subject import Subject, subject
from tests.campaigns.watch import Watch

SUBSCRIPTIONS = 1_000_000
FLOODS = 1000
"""Of 1 to 3 MB: more than a second of it."""

FLOOD_PEAK_BYTES = 100_000_000
"""What one peer may have waiting is 16 MiB. On a machine that gives the loop no core libzmq reads on meanwhile."""

LARGE_BYTES = 130_000_000
LARGE_PEAK_BYTES = 200_000_000
"""libzmq collects a message before it hands it over (see *Security* in ipc/PROTOCOL.md): while such a message comes,
the daemon holds it, one at a time."""

Act = Callable[[Subject, random.Random], None]


def _long_answer() -> Generate:
    """One that is not over before its caller grants more credit."""
    return Generate(messages=[ChatMessage(role="user", content="Well?")], max_tokens=4096)


def _call(daemon: Subject) -> Caller:
    """Somebody new. What this process did before costs that connection, too, if the daemon sees it only now."""
    until = time.monotonic() + HANG_S
    while True:
        try:
            return Caller(daemon.name, daemon.folder)
        except Gone:
            if time.monotonic() > until:
                raise


def _with_more(request: tuple[bytes, int], more: int) -> bytes:
    """A header that asks for a pong, with a field of `more` bytes that no reader knows."""
    header = {"v": 1, "type": "ping", "rid": request[0], "seq": 0, "epoch": request[1], "ttl_ms": 0, "body": {}}
    return msgspec.msgpack.encode({**header, "more": bytes(more)})


def huge_header(daemon: Subject, chance: random.Random) -> None:
    """As large as is allowed, with a field that nobody knows; garbage of that size; deep; and larger."""
    with _call(daemon) as caller:
        request = new_rid(), 1000
        caller.expect(request)
        caller.frames(_with_more(request, limits.HEADER_MAX_BYTES - len(_with_more(request, 60_000)) + 60_000))
        assert caller.ended(request).body.type_name() == "pong"
        caller.frames(chance.randbytes(limits.HEADER_MAX_BYTES))
        caller.frames(chance.choice((b"\x91", b"\x81\xa1a")) * 20_000 + b"\xc0")
        caller.frames(b"\xdf" + b"\xff" * 4 + chance.randbytes(60_000))
        caller.still_served()
        try:
            caller.pour(zmtp.frame(bytes(limits.HEADER_MAX_BYTES + chance.choice((1, 1000, 1_000_000)))))
            while True:
                caller.still_served()
        except Gone:
            return  # as it should be


def no_frame(daemon: Subject, chance: random.Random) -> None:
    """Nothing at all, and nothing before the message, as a REQ socket has it."""
    with _call(daemon) as caller:
        for _ in range(chance.randrange(1, 20)):
            caller.frames(b"")
            caller.frames(b"", *codec.encode(Message(new_rid(), 0, 9, 0, Ping())))
        caller.still_served()


def one_frame(daemon: Subject, chance: random.Random) -> None:
    """Garbage, and items that need a payload or a request and have none."""
    with _call(daemon) as caller:
        for _ in range(chance.randrange(1, 20)):
            caller.frames(chance.randbytes(chance.randrange(1, 200)))
            caller.say((new_rid(), 1), chance.choice((Clause(text="x"), Rest(ms=1), End())), chance.randrange(3))
        caller.still_served()


def three_frames(daemon: Subject, chance: random.Random) -> None:
    """A good request with too much behind it is none."""
    with _call(daemon) as caller:
        for _ in range(chance.randrange(1, 20)):
            request = codec.encode(Message(new_rid(), 0, 9, 0, Ping()))
            caller.frames(*request, *[chance.randbytes(chance.choice((0, 5, 65_536)))] * 2)
        caller.still_served()


def ten_thousand_frames(daemon: Subject, chance: random.Random) -> None:
    with _call(daemon) as caller:
        caller.pour(b"\x01\x01x" * 9_999 + b"\x00\x01x")
        caller.still_served()


def duplicate_ids(daemon: Subject, chance: random.Random) -> None:
    """A request twice, an older one again, and a newer one in its place: each ends once, or is none."""
    with _call(daemon) as caller:
        first = caller.ask(_long_answer())
        caller.hear()
        caller.say(first, _long_answer(), 0)
        second = caller.ask(_long_answer(), first[0])
        assert caller.ended(first).body.type_name() == "cancelled"
        for _ in range(chance.randrange(1, 20)):
            caller.say(chance.choice((first, second)), chance.choice((_long_answer(), Ping())), 0)
        caller.cancel(second)
        caller.say(second, Ping(), 0)
        caller.still_served()


def foreign_ids(daemon: Subject, chance: random.Random) -> None:
    """What somebody else has asked is none of this caller's business."""
    with _call(daemon) as honest, _call(daemon) as caller:
        theirs = honest.ask(_long_answer())
        honest.hear()
        for _ in range(chance.randrange(1, 20)):
            body: Body = chance.choice((Cancel(reason="mine"), CreditGrant(n=4096), End(), Rest(ms=2000)))
            caller.say(theirs, body, chance.randrange(3))
        caller.still_served()
        while honest.ledger.items < limits.CREDIT_EVENTS:
            honest.hear()
        honest.say(theirs, CreditGrant(n=limits.CREDIT_MAX - limits.CREDIT_EVENTS), 1)
        assert honest.ended(theirs).body.type_name() == "generated"
        honest.still_served()


def gaps(daemon: Subject, chance: random.Random) -> None:
    """A number is left out, or comes again, or an epoch that never was: that request ends, and only that one."""
    with _call(daemon) as caller:
        for _ in range(chance.randrange(1, 6)):
            request = caller.ask(_long_answer())
            caller.hear()
            later = request[0], request[1] + chance.choice((0, 0, 1, 2**40))
            wrong = chance.choice((0, 2, 3, limits.SEQ_MAX)) if later == request else 1
            caller.say(later, CreditGrant(n=1), wrong)
            if later != request:
                caller.expect(later)  # it is answered under the epoch that it bore
                assert caller.error(later) == "bad_message"
                caller.cancel(request)
            else:
                assert caller.error(request) == "bad_message"
        caller.still_served()


def subscriptions(daemon: Subject, chance: random.Random) -> None:
    """A million topics, or long ones. Whoever does that may be cut off; observation goes on."""
    _observe(daemon, _topics() if chance.random() < 0.9 else zmtp.frame(b"\x01" + bytes(60_000)) * 1000)


def observers(daemon: Subject, chance: random.Random) -> None:
    """Heartbeats by hand behind subscriptions, or alone; their answers are not read; some end within a frame. All hang
    up at once."""
    ping = zmtp.command(b"PING", b"\0\0" + chance.randbytes(chance.randrange(17)))
    said = b"".join(zmtp.frame(b"\x01%d" % number) for number in range(chance.randrange(40)))
    words = (said + ping) * chance.choice((1, 10, 1000))
    _observe(daemon, words[: chance.randrange(len(words))] if chance.random() < 0.3 else words)


def _observe(daemon: Subject, words: bytes) -> None:
    """Says that at the socket for observation. Another one can observe then, in the end."""
    with suppress(Gone), Peer(observer_path(daemon.name, daemon.folder), b"SUB") as observer:
        observer.pour(words)
    with _call(daemon) as caller:
        caller.still_served()
    until = time.monotonic() + HANG_S
    while not _observed(daemon):
        assert time.monotonic() < until, "nobody can observe any more"


@cache
def _topics() -> bytes:
    return b"".join(b"\x00\x08\x01%07d" % number for number in range(SUBSCRIPTIONS))


def _observed(daemon: Subject) -> bool:
    """Whether a new observer sees a ping."""
    try:
        with Peer(observer_path(daemon.name, daemon.folder), b"SUB") as observer, _call(daemon) as caller:
            observer.pour(zmtp.frame(b"\x01%s.pong" % daemon.name.encode()))
            observer.settle()
            caller.still_served()
            return observer.receive()[0] == b"%s.pong" % daemon.name.encode()
    except (Gone, OSError):
        return False


def heartbeats(daemon: Subject, chance: random.Random) -> None:
    """By hand, behind as many messages as fill a queue, from somebody who leaves at once. More than a peer may have
    waiting cost its process all connections, the next one, too, if that is there before the daemon has seen it."""
    ping = zmtp.command(b"PING", b"\0\0" + chance.randbytes(chance.randrange(17)))
    with suppress(Gone), _call(daemon) as caller:
        caller.pour((zmtp.frame(b"x") * chance.randrange(1, 20) + ping) * chance.randrange(3000))
    _until_served(daemon)


def _until_served(daemon: Subject) -> None:
    """Who pours costs all connections of this process, and nobody new is let in until that is out of the way."""
    until = time.monotonic() + HANG_S
    while not _served(daemon):
        assert time.monotonic() < until, "this process is not served any more"


def _served(daemon: Subject) -> bool:
    try:
        with _call(daemon) as caller:
            caller.still_served()
    except Gone:
        return False
    return True


def flood(daemon: Subject, chance: random.Random) -> None:
    """Faster than anybody can be heard: it costs all connections of this process. The watcher is another one."""
    with _call(daemon) as other, _call(daemon) as caller:
        other.ask(_long_answer())
        for _ in range(FLOODS):
            try:
                caller.pour(_pings() if chance.random() < 0.5 else zmtp.frame(chance.randbytes(60_000)) * 50)
            except Gone:
                break
        else:
            raise AssertionError("who pours without end is not cut off")
        with suppress(Gone):
            while True:
                other.hear()
    _until_served(daemon)


@cache
def _pings() -> bytes:
    frames = (codec.encode(Message(new_rid(), 0, number, 0, Ping())) for number in range(2, 10_002))
    return b"".join(zmtp.multipart(each) for each in frames)


def large(daemon: Subject, chance: random.Random) -> None:
    """It is more than a peer may have waiting, and costs the connection."""
    with suppress(Gone), _call(daemon) as caller:
        caller.pour(_much())
        answer = caller.ended(caller.ask(Ping())).body
        raise AssertionError(f"who sends {LARGE_BYTES} bytes is not cut off, but gets a {answer.type_name()}")


@cache
def _much() -> bytes:
    return zmtp.multipart([bytes(65_000)] * (LARGE_BYTES // 65_000))


ACTS: Mapping[str, Act] = {
    act.__name__: act
    for act in (
        huge_header,
        no_frame,
        one_frame,
        three_frames,
        ten_thousand_frames,
        duplicate_ids,
        foreign_ids,
        gaps,
        subscriptions,
        observers,
        heartbeats,
    )
}


def run(count: int, seed: int, fault: str = "", acts: Mapping[str, Act] = ACTS) -> dict[str, int]:
    """How often each was tried, and floods and messages of 130 MB, which are tried apart: they may take memory while
    they come. Raises AssertionError. `fault`: planted, for the daemon."""
    with subject("llm", fault) as daemon:
        with Watch(daemon.folder, daemon.name) as watch:
            for name, act in acts.items():
                _try(name, act, daemon, count, seed)
            figures = watch.verdict()
        with Watch(daemon.folder, daemon.name) as watch:
            _try("flood", flood, daemon, count, seed)
            flood_figures = watch.verdict(peak_max_bytes=FLOOD_PEAK_BYTES)
        with Watch(daemon.folder, daemon.name) as watch:
            _try("large", large, daemon, count, seed)
            large_figures = watch.verdict(peak_max_bytes=LARGE_PEAK_BYTES)
        daemon.check_log()
    return {
        "of each": count,
        **figures,
        "MB at most in floods": flood_figures["MB at most"],
        "MB at most while 130 MB came": large_figures["MB at most"],
        "MB kept of them": large_figures["MB grown"],
    }


def _try(name: str, act: Act, daemon: Subject, count: int, seed: int) -> None:
    for number in range(count):
        try:
            act(daemon, random.Random(f"{seed}:{name}:{number}"))
        except Exception as error:
            raise AssertionError(f"{name} {number}: {type(error).__name__} {error}") from error
