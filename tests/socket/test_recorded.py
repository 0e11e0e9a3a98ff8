"""The microphone, the speaker and the follower that `timmy talk --wav` is, before daemons that do as they are told."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Callable
from pathlib import Path

from ipc import messages as m
from ipc.call import Call
from ipc.client import Client
from ipc.errors import CallCancelled
from ipc.ids import new_rid
from ipc.inproc import InprocClient, InprocHub
from ipc.messages import TurnReport
from ipc.server import Server
from tools.recorded import Talk, _keep
from tools.voice import REPLIES_KEPT, WireMicrophone, WireSpeaker

TURN = new_rid()


def report(turn: bytes = TURN) -> TurnReport:
    return TurnReport(
        conversation="c", turn=turn, heard="Where?", said="There.", outcome="answered", detail="", first_audio_ms=None,
        stages=None, prompt_tokens=0, cached_tokens=0, completion_tokens=0, memories=0,
    )  # fmt: skip


def status() -> m.StatusReport:
    raise AssertionError("nobody asks")


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for knows of no event
        await asyncio.sleep(0.005)


def test_the_end_of_an_answer_that_comes_after_its_report_is_in_the_file(tmp_path: Path) -> None:
    sounds: asyncio.Queue[m.Sound] = asyncio.Queue()

    async def attach(call: Call) -> m.Result:
        while True:
            await call.send(await sounds.get(), b"\1\0" * 100)

    def sound(turn: bytes, last: bool) -> m.Sound:
        return m.Sound(turn=turn, sample_rate=16_000, t_ns=1, last=last)

    async def play() -> None:
        hub = InprocHub()
        server = Server("tts", hub, {m.Attach: attach}, status)
        server.start()
        async with Client("tts", "test", transport=InprocClient(hub)) as client:
            await client.wait_connected()
            speaker = WireSpeaker(client, "c")
            gone = asyncio.get_running_loop().create_future()
            talk = Talk("c", WireMicrophone(client, "c"), speaker, tmp_path, gone)
            running = asyncio.create_task(speaker.run())
            sounds.put_nowait(sound(TURN, False))
            await until(lambda: speaker.replies)
            writing = asyncio.create_task(talk._result(report()))
            await asyncio.sleep(0)
            sounds.put_nowait(sound(TURN, True))
            path = (await writing).reply_wav
            assert path is not None
            with wave.open(path) as file:
                assert file.getnframes() == 200
            for _ in range(REPLIES_KEPT + 3):
                sounds.put_nowait(sound(new_rid(), True))
            sounds.put_nowait(sound(newest := new_rid(), True))
            await until(lambda: newest in speaker.replies)
            assert len(speaker.replies) == REPLIES_KEPT
            running.cancel()
        await server.close()

    asyncio.run(play())


def test_a_daemon_that_took_us_for_gone_is_asked_again_and_a_fault_of_ours_is_told() -> None:
    async def play() -> None:
        hub = InprocHub()
        server = Server("tts", hub, {}, status)
        server.start()
        runs = 0

        async def job() -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                raise CallCancelled("the caller is gone")
            raise ValueError("ours")

        async with Client("tts", "test", transport=InprocClient(hub)) as client:
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await _keep(client, job, gone)
            assert runs == 2
            assert isinstance(gone.exception(), ValueError)
        await server.close()

    asyncio.run(play())
