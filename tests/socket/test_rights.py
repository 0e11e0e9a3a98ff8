"""What a key may do at the door to a network, and that a revoked one may do nothing any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipc import codec
from ipc.access import Guest, Role
from ipc.call import Call, Handler
from ipc.client import Client
from ipc.errors import CallError, Code, PeerGone
from ipc.ids import new_rid
from ipc.keys import allow, revoke
from ipc.messages import Audio, Body, Done, Fed, Feed, Kind, Ping, Pong, Result
from ipc.observer import Observer
from ipc.security import public_of
from tests.protocol.test_vectors import VECTORS
from tests.socket.far_rig import DAEMON, FarWire, far_client, serving
from tests.socket.rig import HANG_S, RawClient, hello, refusals, run, until
from tests.support.far import FarHouse


@pytest.fixture
def house(tmp_path: Path) -> FarHouse:
    return FarHouse(tmp_path / "keys")


# --- what a key may do ---------------------------------------------------------------------------------------


REQUESTS = {
    vector["type"]: [bytes.fromhex(frame) for frame in vector["frames"]]
    for vector in VECTORS
    if codec.decode([bytes.fromhex(frame) for frame in vector["frames"]]).body.KIND is Kind.REQUEST
}
MAY_AT_STT = {Role.SATELLITE: {"hello", "ping", "feed"}, Role.VIEWER: {"hello", "ping", "status"}}


@pytest.mark.parametrize("role", list(Role))
def test_everything_that_a_role_may_not_ask_is_refused_and_not_done(
    house: FarHouse, tmp_path: Path, role: Role
) -> None:
    """Every request there is, one after the other on one connection that stays."""
    done: list[str] = []

    def note(call: Call) -> Result:
        done.append(call.body.type_name())
        return Done()

    kinds = [type(codec.decode(frames).body) for frames in REQUESTS.values()]
    upkeep = {"hello", "ping", "status", "record"}
    handlers: dict[type[Body], Handler] = {kind: note for kind in kinds if kind.type_name() not in upkeep}

    async def test() -> None:
        async with (
            serving(house, tmp_path, handlers),
            RawClient(FarWire(house.admit(_conversation(), role))) as peer,
        ):
            await peer.hello()
            for name, frames in REQUESTS.items():
                body = hello() if name == "hello" else codec.decode(frames).body
                rid = new_rid()
                peer.say(rid, body, epoch=100 + len(peer.got))
                answer = (await peer.answers(rid))[0]
                refused = refusals([answer]) == [Code.NOT_ALLOWED]
                assert refused == (name not in MAY_AT_STT[role]), name
        assert set(done) == MAY_AT_STT[role] - upkeep

    run(test())


def _conversation() -> str:
    """The one that the protocol's example of a feed names."""
    name = getattr(codec.decode(REQUESTS["feed"]).body, "conversation", "")
    assert name
    return str(name)


def test_another_conversation_than_its_own_is_refused(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(house, tmp_path), far_client(house.admit("kitchen")) as client:
            await client.wait_connected(HANG_S)
            for other in ("home", "bath"):
                with pytest.raises(CallError, match="has one conversation") as refused:
                    await client.request(Feed(conversation=other))
                assert refused.value.code is Code.NOT_ALLOWED

    run(test())


def test_a_viewer_observes_and_a_satellite_does_not(house: FarHouse, tmp_path: Path) -> None:
    desk, kitchen = house.admit("desk", Role.VIEWER), house.admit("kitchen")

    async def test() -> None:
        async with (
            serving(house, tmp_path) as server,
            Client(DAEMON, "here", folder=tmp_path / "run") as client,
            Observer([DAEMON], house=kitchen) as excluded,
        ):
            await client.wait_connected(HANG_S)
            async with Observer([DAEMON], house=desk) as observer:
                await until(lambda: server._transport.observers)
                await client.request(Ping())
                assert (await anext(observer)).message.body == Ping()
            assert excluded._queue.empty()

    run(test())


# --- a key that is revoked -------------------------------------------------------------------------------------


def test_a_revoked_key_is_cut_off_with_its_next_message_and_nobody_else(house: FarHouse, tmp_path: Path) -> None:
    kitchen, bath = house.admit("kitchen"), house.admit("bath")

    async def test() -> None:
        async with serving(house, tmp_path) as server, far_client(kitchen) as gone, far_client(bath) as stays:
            await gone.wait_connected(HANG_S)
            await stays.wait_connected(HANG_S)
            feeds = [gone.open(Feed(conversation="kitchen")), stays.open(Feed(conversation="bath"))]
            for feed in feeds:
                await feed.send(Audio(t_ns=0), b"\0" * 640)
            await until(lambda: server.requests_open == 2)
            revoke(house.folder, "kitchen")
            await feeds[0].send(Audio(t_ns=0), b"\0" * 640)
            with pytest.raises(CallError) as ended:
                await feeds[0].result()
            assert ended.value.code is Code.NOT_ALLOWED
            assert server.requests_open == 1
            with pytest.raises(CallError) as refused:
                await gone.request(Ping())
            assert refused.value.code is Code.NOT_ALLOWED
            feeds[1].end()
            assert await feeds[1].result() == Fed(frames=1, dropped_ms=640)
        async with serving(house, tmp_path), far_client(kitchen) as again:
            await until(lambda: again._transport.trouble)
            assert not again.connected

    run(test())


def test_a_revoked_key_that_is_silent_is_found(house: FarHouse, tmp_path: Path) -> None:
    kitchen = house.admit("kitchen")

    async def test() -> None:
        async with serving(house, tmp_path) as server, RawClient(FarWire(kitchen)) as silent:
            await silent.hello()
            rid = new_rid()
            silent.say(rid, Feed(conversation="kitchen"), epoch=2)
            await until(lambda: server.requests_open == 1)
            revoke(house.folder, "kitchen")
            assert refusals(await silent.answers(rid)) == [Code.NOT_ALLOWED]
            assert server.requests_open == 0

    run(test())


def test_a_key_that_is_allowed_again_is_greeted_again(house: FarHouse, tmp_path: Path) -> None:
    kitchen = house.admit("kitchen")

    async def test() -> None:
        async with serving(house, tmp_path), far_client(kitchen) as client:
            await client.wait_connected(HANG_S)
            revoke(house.folder, "kitchen")
            with pytest.raises(CallError):
                await client.request(Ping())
            allow(house.folder, Guest(public_of(kitchen.secret), Role.SATELLITE, "kitchen"))
            with pytest.raises(PeerGone):  # it has forgotten the connection, which says hello again
                await client.request(Ping())
            assert isinstance(await client.request(Ping()), Pong)

    run(test())


def test_a_revoked_viewer_sees_no_more_and_another_goes_on(house: FarHouse, tmp_path: Path) -> None:
    desk, lab = house.admit("desk", Role.VIEWER), house.admit("lab", Role.VIEWER)

    async def test() -> None:
        async with (
            serving(house, tmp_path) as server,
            Client(DAEMON, "here", folder=tmp_path / "run") as client,
            Observer([DAEMON], house=desk) as revoked,
            Observer([DAEMON], house=lab) as stays,
        ):
            await client.wait_connected(HANG_S)

            async def both_see() -> None:
                while revoked._queue.empty() or stays._queue.empty():
                    await client.request(Ping())

            await both_see()
            revoke(house.folder, "desk")
            await until(lambda: server._transport.observers == 0)
            for observer in (revoked, stays):
                while not observer._queue.empty():
                    observer._queue.get_nowait()
            while stays._queue.empty():
                await client.request(Ping())
            assert revoked._queue.empty()

    run(test())
