"""The speaking daemon over real sockets. The real voice where sound matters, fakes for faults."""

from __future__ import annotations

import asyncio
import time
import wave
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from daemons import config
from daemons.engines.base import AudioOut, EngineError
from daemons.engines.fakes_tts import FakeOut, FakeSynthesizer
from daemons.tts import wire as tts_wire
from daemons.tts.service import TtsService
from ipc.client import Client, Stream
from ipc.errors import CallCancelled, CallError, Code
from ipc.ids import new_rid
from ipc.limits import CREDIT_AUDIO
from ipc.messages import (
    HOME,
    Attach,
    Body,
    Clause,
    ClauseReady,
    Ping,
    PlaybackDrained,
    PlaybackStarted,
    Release,
    Sound,
    Speak,
    Spoken,
    Status,
    StatusReport,
)
from tests.support.eventually import eventually
from tests.support.serving import serving

SILENT = config.Config(tts=config.Tts(output="none"))
MS = 1_000_000


@asynccontextmanager
async def fake_tts(
    folder: Path, synthesizer: FakeSynthesizer | None = None, settings: config.Config = SILENT, **given: object
) -> AsyncIterator[Client]:
    voice = synthesizer or FakeSynthesizer()
    service = TtsService(settings, lambda: voice, **given)  # type: ignore[arg-type]
    async with serving("tts", service, folder) as client:
        yield client


@dataclass
class Heard:
    """What a client got for its `attach`."""

    stream: Stream
    sounds: list[tuple[Sound, bytes]] = field(default_factory=list)

    @property
    def pcm(self) -> bytes:
        return b"".join(pcm for _, pcm in self.sounds)

    async def until_last(self) -> None:
        async for item, pcm in self.stream:
            assert isinstance(item, Sound)
            self.sounds.append((item, pcm))
            if item.last:
                return


async def attach(client: Client, conversation: str) -> Heard:
    heard = Heard(client.open(Attach(conversation=conversation)))
    await client.request(Ping())  # answered after the attach was seen
    return heard


async def speak(client: Client, conversation: str, *clauses: str, rid: bytes | None = None) -> Stream:
    stream = client.open(Speak(conversation=conversation), rid=rid)
    for text in clauses:
        await stream.send(Clause(text=text))
    stream.end()
    return stream


async def spoken(stream: Stream) -> Spoken:
    result = await stream.result()
    assert isinstance(result, Spoken)
    return result


async def items(stream: Stream) -> list[Body]:
    return [item async for item, _ in stream]


def test_what_a_slow_client_has_not_taken_is_void_when_the_answer_is_cut(tmp_path: Path) -> None:
    async def run() -> None:
        service = TtsService(SILENT, FakeSynthesizer)
        async with serving("tts", service, tmp_path) as client:
            slow, cut, next_one = await attach(client, "slow"), new_rid(), new_rid()
            stream = await speak(client, "slow", "A text that is long enough to fill what may wait.", rid=cut)
            waiting = service._wires["slow"]._frames
            await eventually(lambda: waiting.qsize() > 10)
            stream.cancel()
            with pytest.raises(CallCancelled):
                await stream.result()
            await eventually(lambda: waiting.qsize() < 10)
            await speak(client, "slow", "Hi.", rid=next_one)
            while not slow.sounds or slow.sounds[-1][0].turn != next_one:
                await slow.until_last()
        turns = [sound.turn for sound, _ in slow.sounds]
        assert turns == sorted(turns, key=[cut, next_one].index)
        assert turns.count(cut) <= CREDIT_AUDIO + 3, "what was under way, and the fade"

    asyncio.run(run())


@pytest.mark.models
def test_the_real_voice_arrives_in_order_of_time_and_drains_after_its_last_sample(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving("tts", TtsService(SILENT), tmp_path) as client:
            heard, rid = await attach(client, "kitchen"), new_rid()
            stream = await speak(client, "kitchen", "The plumber comes on Tuesday,", "at nine.", rid=rid)
            await heard.until_last()
            told = await items(stream)
            done_ns = time.monotonic_ns()
            result = await spoken(stream)
        ready = [item for item in told if isinstance(item, ClauseReady)]
        (started,) = [item for item in told if isinstance(item, PlaybackStarted)]
        (drained,) = [item for item in told if isinstance(item, PlaybackDrained)]
        assert [item.index for item in ready] == [0, 1]
        assert all(item.received_ns <= item.started_ns <= item.ready_ns for item in ready)
        assert told[-1] == drained
        rate = heard.sounds[0][0].sample_rate
        due_ns = started.t_ns
        for sound, pcm in heard.sounds:
            assert sound.turn == rid
            assert sound.t_ns > due_ns - 0.1 * MS, "none overlaps the one before"
            assert len(pcm) <= rate // 50 * 2
            due_ns = sound.t_ns + len(pcm) // 2 * 1_000_000_000 // rate
        assert abs(drained.t_ns - due_ns) < 0.1 * MS
        assert drained.t_ns <= done_ns
        assert result.audio_ms == pytest.approx(len(heard.pcm) / 2 / rate * 1000, abs=2)
        assert 1500 < result.audio_ms < 5000
        first = array("h", heard.pcm[: rate // 20 * 2])
        assert max(map(abs, first)) > 300, "the first sample is not the first audible one"

    asyncio.run(run())


def test_sound_goes_out_at_most_200_ms_before_it_is_due(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_tts(tmp_path) as client:
            heard = await attach(client, "kitchen")
            stream = await speak(client, "kitchen", "a second or so")
            early = []
            async for item, _ in heard.stream:
                assert isinstance(item, Sound)
                early.append(item.t_ns - time.monotonic_ns())
                if item.last:
                    break
            await stream.result()
        assert max(early) <= 200 * MS

    asyncio.run(run())


def test_held_audio_sounds_only_when_released(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_tts(tmp_path) as client:
            heard = await attach(client, "kitchen")
            stream = client.open(Speak(conversation="kitchen", hold=True))
            await stream.send(Clause(text="One."))
            item, _ = await anext(stream)
            assert isinstance(item, ClauseReady)
            released_ns = time.monotonic_ns()
            await stream.send(Release())
            stream.end()
            await heard.until_last()
            told = await items(stream)
        assert heard.sounds[0][0].t_ns >= released_ns
        assert [type(item) for item in told] == [PlaybackStarted, PlaybackDrained]

    asyncio.run(run())


def test_held_audio_that_is_revoked_never_sounds(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_tts(tmp_path) as client:
            heard = await attach(client, "kitchen")
            stream = client.open(Speak(conversation="kitchen", hold=True))
            await stream.send(Clause(text="Revoked."))
            await anext(stream)
            stream.cancel()
            after, rid = await speak(client, "kitchen", "Kept.", rid=(rid := new_rid())), rid
            await heard.until_last()
            await after.result()
        assert {sound.turn for sound, _ in heard.sounds} == {rid}

    asyncio.run(run())


def test_a_cancel_stops_sound_and_synthesis(tmp_path: Path) -> None:
    async def run() -> None:
        voice = FakeSynthesizer()
        async with fake_tts(tmp_path, voice) as client:
            voice.babble, voice.pace_s = 1000, 0.02
            heard = await attach(client, "kitchen")
            stream = await speak(client, "kitchen", "It goes on and on.")
            await anext(heard.stream)
            stream.cancel("enough")
            await heard.until_last()
            cancelled_ns = time.monotonic_ns()
            await eventually(lambda: voice.stopped == voice.asked[-1:])
            with pytest.raises(CallCancelled):
                await stream.result()
            last, pcm = heard.sounds[-1]
            assert (last.last, pcm) == (True, b"")
            assert last.t_ns <= cancelled_ns

    asyncio.run(run())


def test_a_newer_utterance_of_the_conversation_supersedes_the_older(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_tts(tmp_path) as client:
            heard = await attach(client, "kitchen")
            older = await speak(client, "kitchen", "A long and winding sentence that takes its time.")
            await anext(heard.stream)
            newer, rid = await speak(client, "kitchen", "New.", rid=(rid := new_rid())), rid
            with pytest.raises(CallCancelled, match="newer"):
                await older.result()
            await heard.until_last()  # the older one's end
            await heard.until_last()
            result = await spoken(newer)
        newest = b"".join(pcm for sound, pcm in heard.sounds if sound.turn == rid)
        assert len(newest) // 2 * 1000 // FakeSynthesizer.sample_rate == result.audio_ms

    asyncio.run(run())


def test_two_conversations_speak_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_tts(tmp_path) as client:
            kitchen, study = await attach(client, "kitchen"), await attach(client, "study")
            one = await speak(client, "kitchen", "Something to say.")
            two = await speak(client, "study", "Something else to say.")
            await asyncio.gather(kitchen.until_last(), study.until_last())
            spans = [(h.sounds[0][0].t_ns, h.sounds[-1][0].t_ns) for h in (kitchen, study)]
            assert max(start for start, _ in spans) < min(end for _, end in spans)
            assert {s.turn for s, _ in kitchen.sounds}.isdisjoint({s.turn for s, _ in study.sounds})
            assert (await spoken(one)).clauses == (await spoken(two)).clauses == 1

    asyncio.run(run())


def test_a_client_that_does_not_read_is_given_up_and_stalls_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts_wire, "BEHIND_FRAMES", 15)

    async def run() -> None:
        async with fake_tts(tmp_path) as client:
            slow, good = await attach(client, "slow"), await attach(client, "good")
            unread = await speak(client, "slow", "A text that is long enough to fill what may wait.")
            read = await speak(client, "good", "A text that is long enough to fill what may wait.")
            await good.until_last()
            await read.result()
            with pytest.raises(CallError) as lost:
                await unread.result()
            assert lost.value.code is Code.DEVICE_LOST
            with pytest.raises(CallError) as slow_one:
                await slow.stream.result()
            assert slow_one.value.code is Code.OVER_QUOTA

    asyncio.run(run())


def test_speech_ends_when_its_listener_leaves(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_tts(tmp_path) as client:
            async with Client("tts", "satellite", folder=tmp_path) as satellite:
                await satellite.wait_connected()
                heard = await attach(satellite, "kitchen")
                stream = await speak(client, "kitchen", "A text that takes a while to speak aloud.")
                await anext(heard.stream)
            with pytest.raises(CallError) as caught:
                await stream.result()
            assert caught.value.code is Code.DEVICE_LOST
            with pytest.raises(CallError, match="attach a speaker") as missing:
                await (await speak(client, "kitchen", "Anybody?")).result()
            assert missing.value.code is Code.DEVICE_MISSING

    asyncio.run(run())


def test_a_second_speaker_takes_the_conversation_over(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_tts(tmp_path) as client:
            first = await attach(client, "kitchen")
            second = await attach(client, "kitchen")
            with pytest.raises(CallError) as caught:
                await first.stream.result()
            assert caught.value.code is Code.BUSY
            await speak(client, "kitchen", "Hello.")
            await second.until_last()
            assert second.pcm

    asyncio.run(run())


def test_the_machines_own_conversation_cannot_be_attached_to(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_tts(tmp_path) as client:
            with pytest.raises(CallError, match="another name") as caught:
                await client.open(Attach(conversation=HOME)).result()
            assert caught.value.code is Code.BAD_REQUEST

    asyncio.run(run())


def test_a_failing_voice_fails_the_utterance_and_the_next_one_works(tmp_path: Path) -> None:
    async def run() -> None:
        voice = FakeSynthesizer()
        async with fake_tts(tmp_path, voice) as client:
            voice.failure = EngineError(Code.ENGINE_FAILED, "the voice broke")
            with pytest.raises(CallError, match="the voice broke") as caught:
                await (await speak(client, HOME, "One.")).result()
            assert caught.value.code is Code.ENGINE_FAILED
            voice.failure = None
            assert (await spoken(await speak(client, HOME, "Two."))).clauses == 1

    asyncio.run(run())


def test_a_mistake_in_the_engine_is_told_as_internal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        voice = FakeSynthesizer()
        async with fake_tts(tmp_path, voice) as client:
            voice.failure = ZeroDivisionError("a mistake")
            with pytest.raises(CallError) as caught:
                await (await speak(client, HOME, "One.")).result()
            assert caught.value.code is Code.INTERNAL

    asyncio.run(run())
    assert "ZeroDivisionError" in caplog.text


def test_an_utterance_with_nothing_to_read_is_done_without_sound(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_tts(tmp_path) as client:
            stream = await speak(client, HOME, "", "  ")
            assert [type(item) for item in await items(stream)] == [ClauseReady, ClauseReady]
            result = await spoken(stream)
            assert (result.clauses, result.audio_ms) == (2, 0)

    asyncio.run(run())


def test_a_wav_file_as_output_gets_what_is_spoken(tmp_path: Path) -> None:
    path = tmp_path / "spoken.wav"

    async def run() -> int:
        settings = config.Config(tts=config.Tts(output=str(path)))
        async with fake_tts(tmp_path, settings=settings) as client:
            return (await spoken(await speak(client, HOME, "For the record."))).audio_ms

    audio_ms = asyncio.run(run())
    with wave.open(str(path)) as file:
        assert file.getnframes() * 1000 // file.getframerate() == audio_ms


def test_a_wav_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        settings = config.Config(tts=config.Tts(output=str(tmp_path / "missing" / "spoken.wav")))
        async with fake_tts(tmp_path, settings=settings) as client:
            assert (await status(client)).state == "degraded"
            with pytest.raises(CallError, match=r"spoken\.wav cannot be written") as caught:
                await (await speak(client, HOME, "For the record.")).result()
            assert caught.value.code is Code.DEVICE_MISSING

    asyncio.run(run())


class Shop:
    """Makes FakeOuts; the device is there when `failure` is None."""

    def __init__(self, failure: EngineError | None = None) -> None:
        self.failure = failure
        self.made: list[FakeOut] = []

    def __call__(self, setting: str, sample_rate: int) -> AudioOut:
        self.made.append(FakeOut(sample_rate, self.failure))
        return self.made[-1]


MISSING = EngineError(Code.DEVICE_MISSING, "no speaker: plug one in")


async def status(client: Client) -> StatusReport:
    report = await client.request(Status())
    assert isinstance(report, StatusReport)
    return report


async def is_ready(client: Client) -> bool:
    return (await status(client)).state == "ready"


def test_without_any_speaker_answers_pass_unheard_and_the_daemon_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        shop = Shop(MISSING)
        async with fake_tts(tmp_path, settings=config.Config(), output=shop, retry_first_s=0.01) as client:
            report = await status(client)
            assert (report.state, report.detail) == ("degraded", "no speaker: plug one in; answers are not heard")
            assert (await spoken(await speak(client, HOME, "Hi."))).audio_ms > 0
            shop.failure = None
            await eventually(partial(is_ready, client))
            stream = await speak(client, HOME, "Hi.")
            await eventually(lambda: "end" in shop.made[-1].done)
            shop.made[-1].on_started(1)
            shop.made[-1].on_drained(2)
            assert [type(item) for item in await items(stream)] == [ClauseReady, PlaybackStarted, PlaybackDrained]

    asyncio.run(run())


def test_a_speaker_asked_for_by_name_that_is_not_there_is_an_error_until_it_is(tmp_path: Path) -> None:
    async def run() -> None:
        shop = Shop(MISSING)
        settings = config.Config(tts=config.Tts(output="Kitchen Radio"))
        async with fake_tts(tmp_path, settings=settings, output=shop, retry_first_s=0.01) as client:
            report = await status(client)
            assert (report.state, report.detail) == ("degraded", "no speaker: plug one in")
            with pytest.raises(CallError) as caught:
                await (await speak(client, HOME, "Hi.")).result()
            assert caught.value.code is Code.DEVICE_MISSING
            shop.failure = None
            await eventually(partial(is_ready, client))
            stream = await speak(client, HOME, "Hi.")
            await eventually(lambda: "end" in shop.made[-1].done)
            stream.cancel()

    asyncio.run(run())


def test_a_speaker_lost_in_mid_answer_ends_the_answer_and_is_opened_again(tmp_path: Path) -> None:
    async def run() -> None:
        shop = Shop()
        async with fake_tts(tmp_path, settings=config.Config(), output=shop, retry_first_s=0.01) as client:
            stream = await speak(client, HOME, "A long answer.")
            (device,) = shop.made
            await eventually(lambda: "write" in device.done)
            device.lose()
            with pytest.raises(CallError) as caught:
                await stream.result()
            assert caught.value.code is Code.DEVICE_LOST
            assert device.done[-1] == "close"
            await eventually(partial(is_ready, client))
            assert len(shop.made) == 2

    asyncio.run(run())


def test_what_the_device_tells_late_of_a_flushed_utterance_is_not_taken_for_the_next(tmp_path: Path) -> None:
    async def run() -> None:
        shop = Shop()
        async with fake_tts(tmp_path, settings=config.Config(), output=shop) as client:
            older = await speak(client, HOME, "Older.")
            (device,) = shop.made
            await eventually(lambda: "write" in device.done)
            flush = device.flush
            device.flush = lambda: (flush(), device.on_started(1))[0]  # type: ignore[method-assign]
            newer = await speak(client, HOME, "Newer.")
            with pytest.raises(CallCancelled):
                await older.result()
            await eventually(lambda: device.done[-1] == "end")
            device.on_started(7)
            device.on_drained(8)
            assert [item for item in await items(newer) if isinstance(item, PlaybackStarted)] == [
                PlaybackStarted(t_ns=7)
            ]

    asyncio.run(run())


@pytest.mark.parametrize("babble", [0, 40])
def test_a_voice_that_gives_too_little_or_too_much_is_not_ready(tmp_path: Path, babble: int) -> None:
    async def run() -> None:
        with pytest.raises(EngineError, match="for a known text") as caught:
            async with fake_tts(tmp_path, FakeSynthesizer(babble=babble)):
                pass
        assert caught.value.code is Code.MODEL_DAMAGED

    asyncio.run(run())
