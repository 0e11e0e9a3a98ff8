"""A satellite at the door of a house: what it sends, what it plays, and that it comes back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from daemons.config import Config, Satellite
from daemons.engines.base import Frame
from daemons.engines.fakes_stt import FakeDetector, FakeMicrophone, FakeTranscriber
from daemons.engines.fakes_tts import FakeOut, tone
from daemons.satellite.service import SatelliteService
from daemons.stt.service import KNOWN_CLIP, SttService
from ipc.access import Role
from ipc.audio import FRAME_BYTES, FRAME_NS
from ipc.call import Call
from ipc.client import Client
from ipc.errors import EXIT_CONFIG, CallError, Code
from ipc.keys import revoke, write_secret
from ipc.limits import CREDIT_FAR
from ipc.messages import HOME, Attach, Audio, Body, Down, Fed, Feed, Listen, Result, Sound, TurnFinal
from ipc.network import House
from ipc.server import Server
from ipc.transport import ZmqServerTransport
from tests.socket.rig import HANG_S, report, run, until
from tests.support.far import HOST, FarHouse

RATE = 16_000
VOICE = tone(20, RATE)
STILL = bytes(FRAME_BYTES)


class Door:
    """stt and tts of a house, as far as a satellite sees them: what was heard, and a voice that says what it is
    told."""

    def __init__(self, house: FarHouse, folder: Path) -> None:
        self._house, self._folder = house, folder
        self.heard: dict[str, list[tuple[int, bytes]]] = {}
        self.rooms: dict[str, Call] = {}
        self._gone: list[asyncio.Future[None]] = []

    async def _feed(self, call: Call) -> Result:
        call.widen(CREDIT_FAR)
        frames = self.heard.setdefault(call.body.conversation, [])
        async for item, payload in call:
            assert isinstance(item, Audio)
            frames.append((item.t_ns, payload))
        return Fed(frames=len(frames), dropped_ms=0)

    async def _attach(self, call: Call) -> Result:
        self.rooms[call.body.conversation] = call
        await asyncio.Event().wait()
        raise AssertionError

    def server(self, daemon: str) -> Server:
        network = self._house.network()
        handlers: dict[type[Body], Callable[..., object]] = {"stt": {Feed: self._feed}, "tts": {Attach: self._attach}}[
            daemon
        ]  # type: ignore[assignment]
        return Server(daemon, ZmqServerTransport(daemon, self._folder, network=network), handlers, report)  # type: ignore[arg-type]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Door]:
        servers = [self.server(daemon) for daemon in ("stt", "tts")]
        for server in servers:
            server.start()
        try:
            yield self
        finally:
            for server in servers:
                await server.close()

    async def say(self, room: str, *pieces: bytes, rate: int = RATE, due_ns: int = 0, last: bool = True) -> None:
        """The pieces, one after the other, as tts would send them."""
        for number, pcm in enumerate(pieces):
            sound = Sound(
                turn=bytes(16),
                t_ns=due_ns,
                sample_rate=rate,
                last=last and number == len(pieces) - 1,
            )
            await self.rooms[room].send(sound, pcm)
            due_ns += len(pcm) // 2 * 1_000_000_000 // rate


class Room:
    """A satellite with a microphone and a speaker that do as they are told."""

    def __init__(self, guest: House) -> None:
        self.microphone = FakeMicrophone()
        self.speakers: list[FakeOut] = []
        self.service = SatelliteService(Satellite(), guest, lambda: self.microphone, self._speaker)

    def _speaker(self, setting: str, rate: int) -> FakeOut:
        self.speakers.append(FakeOut(rate))
        return self.speakers[-1]

    @property
    def speaker(self) -> FakeOut:
        return self.speakers[-1]

    def say(self, t_ns: int = 0, pcm: bytes = VOICE) -> int:
        """A frame from the microphone; gives its capture time."""
        t_ns = t_ns or time.monotonic_ns()
        self.microphone.push(Frame(t_ns, pcm))
        return t_ns

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Room]:
        stop = asyncio.Event()
        running = asyncio.create_task(self.service.run(stop))
        try:
            yield self
        finally:
            stop.set()
            await running


@pytest.fixture
def house(tmp_path: Path) -> FarHouse:
    return FarHouse(tmp_path / "keys")


async def _connected(door: Door, name: str, room: Room) -> None:
    await until(lambda: name in door.rooms and not room.service.trouble)
    feed = room.service._feed
    assert feed is not None
    await until(lambda: feed._exchange.send_credit == CREDIT_FAR)


def test_what_is_said_in_a_room_is_heard_in_the_house_under_its_name(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with Door(house, tmp_path / "run").open() as door, Room(house.admit("kitchen")).open() as room:
            await _connected(door, "kitchen", room)
            said = [room.say() for _ in range(30)]
            await until(lambda: len(door.heard.get("kitchen", [])) == 30)
            assert {pcm for _, pcm in door.heard["kitchen"]} == {VOICE}
            # One clock here: what is wrong is half a round trip at most.
            off = [there - here for (there, _), here in zip(door.heard["kitchen"], said, strict=True)]
            assert max(map(abs, off)) < 1_000_000_000

    run(test())


def test_what_the_link_cannot_take_is_lost_and_told_and_not_heard_late(
    house: FarHouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with Room(house.admit("kitchen")).open() as room:
            async with Door(house, tmp_path / "run").open() as door:
                await _connected(door, "kitchen", room)
                for _ in range(3 * CREDIT_FAR):  # at once, before any of it can have been read
                    room.service.hear(Frame(time.monotonic_ns(), VOICE))
                await until(lambda: len(door.heard.get("kitchen", [])) >= CREDIT_FAR)
                heard = len(door.heard["kitchen"])
            await until(lambda: "stt" in room.service.trouble)
            assert heard <= CREDIT_FAR + 10
            assert f"{(3 * CREDIT_FAR - heard) * 20} ms of sound were not sent" in caplog.text

    run(test())


def test_the_house_s_clock_is_what_times_are_told_in(
    house: FarHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_ns = 5_000_000_000_000
    real = time.monotonic_ns

    class HouseTime:
        monotonic_ns = staticmethod(lambda: real() + ahead_ns)

    monkeypatch.setattr("ipc.server.time", HouseTime)

    async def test() -> None:
        async with Door(house, tmp_path / "run").open() as door, Room(house.admit("kitchen")).open() as room:
            await _connected(door, "kitchen", room)
            said = room.say()
            await until(lambda: door.heard.get("kitchen"))
            assert abs(door.heard["kitchen"][0][0] - said - ahead_ns) < 10_000_000_000

    run(test())


def test_an_answer_sounds_in_its_room_and_the_room_is_deaf_meanwhile(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        kitchen, bath = Room(house.admit("kitchen")), Room(house.admit("bath"))
        async with Door(house, tmp_path / "run").open() as door, kitchen.open(), bath.open():
            await _connected(door, "kitchen", kitchen)
            await _connected(door, "bath", bath)
            await door.say("kitchen", VOICE, VOICE, VOICE)
            await until(lambda: kitchen.speaker.done == ["write", "write", "write", "end"])
            assert bytes(kitchen.speaker.written) == VOICE * 3
            began = time.monotonic_ns()
            kitchen.speaker.on_started(began)
            await until(lambda: kitchen.service._deafness.covers(began, began + 1))
            for room in (kitchen, bath):
                room.say(began + 1)
            kitchen.speaker.on_drained(began + 2)
            await until(lambda: not kitchen.service._deafness.covers(began + 2, began + 3))
            kitchen.say(began + 2)
            await until(lambda: len(door.heard["kitchen"]) == 2 and len(door.heard["bath"]) == 1)
            assert [pcm for _, pcm in door.heard["kitchen"]] == [STILL, VOICE]
            assert [pcm for _, pcm in door.heard["bath"]] == [VOICE]
            assert bath.speaker.done == []

    run(test())


def test_an_answer_that_is_cut_is_silent_at_once(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with Door(house, tmp_path / "run").open() as door, Room(house.admit("kitchen")).open() as room:
            await _connected(door, "kitchen", room)
            await door.say("kitchen", *[VOICE] * 5, last=False)
            await door.say("kitchen", b"", due_ns=FRAME_NS)
            await until(lambda: "flush" in room.speaker.done)
            assert room.speaker.done == [*["write"] * 5, "flush"]

    run(test())


def test_a_voice_of_another_rate_has_a_speaker_of_that_rate(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with Door(house, tmp_path / "run").open() as door, Room(house.admit("kitchen")).open() as room:
            await _connected(door, "kitchen", room)
            await door.say("kitchen", VOICE, rate=48_000)
            await until(lambda: room.speaker.done == ["write", "end"])
            assert [speaker.sample_rate for speaker in room.speakers] == [22_050, 48_000]
            assert room.speakers[0].done == ["close"]

    run(test())


def test_a_house_that_is_restarted_in_an_answer_finds_its_room_again(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with Room(house.admit("kitchen")).open() as room:
            async with Door(house, tmp_path / "run").open() as door:
                await _connected(door, "kitchen", room)
                await door.say("kitchen", VOICE, last=False)
                await until(lambda: "write" in room.speaker.done)
            await until(lambda: room.speaker.done[-1] == "end")  # what has come sounds to its end
            await until(lambda: "stt" in room.service.trouble)
            async with Door(house, tmp_path / "run").open() as again:
                await _connected(again, "kitchen", room)
                room.say()
                await until(lambda: again.heard.get("kitchen"))
                await again.say("kitchen", VOICE)
                await until(lambda: room.speaker.done[-2:] == ["write", "end"])

    run(test())


def test_a_satellite_may_come_first_and_says_what_it_waits_for(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with Room(house.admit("kitchen")).open() as room:
            await until(lambda: "does not answer at tcp://" in room.service.trouble)
            async with Door(house, tmp_path / "run").open() as door:
                await _connected(door, "kitchen", room)

    run(test())


def test_a_revoked_satellite_says_so_and_nothing_of_its_room_arrives(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with Door(house, tmp_path / "run").open() as door, Room(house.admit("kitchen")).open() as room:
            await _connected(door, "kitchen", room)
            room.say()
            await until(lambda: door.heard.get("kitchen"))
            revoke(house.folder, "kitchen")
            while "not allowed" not in room.service.trouble:
                room.say()
                await asyncio.sleep(0.01)
            heard = len(door.heard["kitchen"])
            assert heard == 1
            room.say()
            await asyncio.sleep(0)
            assert len(door.heard["kitchen"]) == heard

    run(test())


def test_a_viewer_s_key_is_no_satellite(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        desk = house.admit("desk", Role.VIEWER)
        async with Door(house, tmp_path / "run").open() as door, Room(desk).open() as room:
            await until(lambda: "a viewer may not send feed to stt" in room.service.trouble)
            await until(lambda: "a viewer may not send attach to tts" in room.service.trouble)
            assert (door.heard, door.rooms) == ({}, {})

    run(test())


def test_a_speaker_that_goes_away_does_not_leave_the_room_deaf(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with Door(house, tmp_path / "run").open() as door, Room(house.admit("kitchen")).open() as room:
            await _connected(door, "kitchen", room)
            await door.say("kitchen", VOICE, last=False)
            await until(lambda: room.speaker.done == ["write"])
            began = time.monotonic_ns()
            room.speaker.on_started(began)
            await until(lambda: room.service._deafness.covers(began, began + 1))
            room.speaker.lose()
            await until(lambda: not room.service._deafness.covers(time.monotonic_ns(), time.monotonic_ns() + 1))
            assert "went away" in room.service.trouble

    run(test())


# --- the command ---


def _command(tmp_path: Path, **settings: str) -> tuple[list[str], dict[str, str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIMMY_")}
    return [sys.executable, "-m", "tools.cli", "satellite"], {**kept, "XDG_CONFIG_HOME": str(tmp_path), **settings}


def test_the_command_speaks_and_listens_until_it_is_ended(house: FarHouse, tmp_path: Path) -> None:
    kitchen = house.admit("kitchen")
    write_secret(tmp_path / "timmy" / "keys", kitchen.secret)
    answer = tmp_path / "answer.wav"
    command, environ = _command(
        tmp_path,
        TIMMY_HOUSE_ADDRESS=kitchen.address,
        TIMMY_HOUSE_PORT=str(kitchen.base),
        TIMMY_HOUSE_KEY=kitchen.key,
        TIMMY_SATELLITE_INPUT=str(KNOWN_CLIP),
        TIMMY_SATELLITE_OUTPUT=str(answer),
    )

    def sounded() -> bool:
        with suppress(wave.Error, EOFError), wave.open(str(answer)) as file:
            return bool(file.getframerate() == RATE and file.readframes(file.getnframes()) == VOICE * 3)
        return False

    async def test() -> None:
        async with Door(house, tmp_path / "run").open() as door:
            running = await asyncio.create_subprocess_exec(*command, env=environ, stderr=asyncio.subprocess.PIPE)
            await until(lambda: any(any(pcm) for _, pcm in door.heard.get("kitchen", [])))
            await until(lambda: "kitchen" in door.rooms)
            await door.say("kitchen", VOICE, VOICE, VOICE)
            await until(sounded)
            running.terminate()
            _, said = await running.communicate()
            assert running.returncode == 0
            assert b"satellite: connected to stt of the house" in said
            assert b"Traceback" not in said

    run(test())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "house.address is not set"),
        ({"TIMMY_HOUSE_ADDRESS": HOST, "TIMMY_HOUSE_KEY": "k" * 40}, "this machine has no key: timmy keys new"),
        ({"TIMMY_HOUSE_ADDRESS": HOST, "TIMMY_HOUSE_KEY": "short"}, "40 characters"),
        ({"TIMMY_HOUSE_ADDRESS": "tcp://house", "TIMMY_HOUSE_KEY": "k" * 40}, "without a port"),
    ],
)
@pytest.mark.parametrize("module", ["tools.cli", "daemons.satellite"])
def test_what_is_missing_is_one_line(tmp_path: Path, settings: dict[str, str], reason: str, module: str) -> None:
    _, environ = _command(tmp_path, **settings)
    arguments = ["satellite"] if module == "tools.cli" else []
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (EXIT_CONFIG, 1)
    assert reason in done.stderr


# --- the ear of the house, when a link was cut ---


@asynccontextmanager
async def _ear(house: FarHouse, folder: Path) -> AsyncIterator[tuple[Server, SttService]]:
    service = SttService(Config(stt=Config().stt), FakeTranscriber, FakeDetector, FakeMicrophone)
    server = Server("stt", ZmqServerTransport("stt", folder, network=house.network()), service.handlers(), report)
    server.start()
    try:
        await service.load()
        yield server, service
    finally:
        await service.close()
        await server.close()


async def _spoken(stream: Client, feed: Feed) -> None:
    call = stream.open(feed)
    began = time.monotonic_ns() - 100 * FRAME_NS
    for number in range(100):
        await call.send(Audio(t_ns=began + number * FRAME_NS), VOICE if number < 40 else STILL)


def test_the_newest_connection_of_a_key_is_the_microphone(house: FarHouse, tmp_path: Path) -> None:
    kitchen = house.admit("kitchen")
    feed = Feed(conversation="kitchen")

    async def test() -> None:
        async with (
            _ear(house, tmp_path / "run") as (server, _),
            Client("stt", "dialog", folder=tmp_path / "run") as here,
            Client("stt", "satellite", house=kitchen) as before,
            Client("stt", "satellite", house=kitchen) as after,
        ):
            for client in (here, before, after):
                await client.wait_connected(HANG_S)
            heard = here.open(Listen())
            older = before.open(feed)
            await until(lambda: server.requests_open == 2)
            newer = asyncio.create_task(_spoken(after, feed))
            with pytest.raises(CallError) as ended:
                await older.result()
            assert ended.value.code is Code.BUSY
            assert (await _final(heard)).conversation == "kitchen"
            await newer
            with pytest.raises(CallError) as refused:  # who is on this machine has no key that it could be known by
                await here.open(feed).result()
            assert refused.value.code is Code.BUSY

    run(test())


def test_a_room_cannot_become_the_house_s_own_microphone(house: FarHouse, tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            _ear(house, tmp_path / "run"),
            Client("stt", "satellite", house=house.admit("kitchen")) as client,
        ):
            await client.wait_connected(HANG_S)
            with pytest.raises(CallError) as refused:
                await client.open(Feed(conversation=HOME)).result()
            assert refused.value.code is Code.NOT_ALLOWED

    run(test())


async def _final(heard: AsyncIterator[tuple[Body, bytes]]) -> TurnFinal:
    async for item, _ in heard:
        assert isinstance(item, Down)
        if isinstance(item, TurnFinal):
            return item
    raise AssertionError("the stream ended")
