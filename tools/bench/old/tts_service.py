"""Text to speech: pauses the listener, synthesizes the whole answer, opens an output for it and plays it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from daemons import config
from daemons.engines.base import EngineError
from daemons.engines.paced_out import null_out
from daemons.engines.piper import PiperSynthesizer
from daemons.engines.speaker import Speaker
from tools.bench.old import PAUSE_WAIT_MS, web
from tools.bench.old.replies import Done, Spoken, Text


class TtsService:
    """Where there is a speaker it is opened for each answer, and that time counts. The sound itself is due by the
    host's clock, as it is for a client over the wire, so that what a device adds to it counts for nobody."""

    def __init__(self, setup: web.Setup) -> None:
        settings = config.load().tts
        self._loop = web.EngineLoop()
        self._voice = PiperSynthesizer(settings.voice, settings.device, settings.threads)
        self._loop.run(self._voice.load())
        self._output = settings.output
        self._has_output, output = self._look_for_output()
        self._listener = setup.peers["stt"]
        self._caller = web.Caller(setup.pooled)
        self.engines = [web.described(self._voice.info), f"output: {output}"]
        self.routes: Mapping[str, web.Route] = {"/speak": self._speak}

    def close(self) -> None:
        self._caller.close()
        self._loop.run(self._voice.close())
        self._loop.close()

    def _speak(self, request: web.Request) -> Spoken:
        text = msgspec.json.decode(request.body, type=Text).text
        self._caller.post(f"{self._listener}/pause", request.rid, b"", Done)
        paused_ns = time.monotonic_ns()
        time.sleep(PAUSE_WAIT_MS / 1000)
        waited_ns = time.monotonic_ns()
        pcm = self._loop.run(self._synthesize(text))
        synthesized_ns = time.monotonic_ns()
        with self._opened():
            opened_ns = time.monotonic_ns()
            first_sample_ns = self._loop.run(self._play(pcm)) if pcm else 0
        self._caller.post(f"{self._listener}/resume", request.rid, b"", Done)
        return Spoken(request.received_ns, paused_ns, waited_ns, synthesized_ns, opened_ns, first_sample_ns)

    async def _synthesize(self, text: str) -> bytes:
        return b"".join([pcm async for pcm in self._voice.synthesize(text)])

    async def _play(self, pcm: bytes) -> int:
        """When the first sample was due; returns when the last one has sounded."""
        out = null_out(self._voice.sample_rate)
        loop = asyncio.get_running_loop()
        started: asyncio.Future[int] = loop.create_future()
        drained: asyncio.Future[int] = loop.create_future()
        out.on_started, out.on_drained = started.set_result, drained.set_result
        out.write(pcm)
        out.mark_end()
        await drained
        out.close()
        return started.result()

    def _look_for_output(self) -> tuple[bool, str]:
        """Whether there is an output to open, and its name or why not."""
        if self._output == "none" or self._output.lower().endswith(".wav"):
            return False, "no device"
        try:
            speaker = self._start_speaker()
        except EngineError as error:
            return False, f"no device ({error})"
        speaker.close()
        return True, speaker.name

    @contextmanager
    def _opened(self) -> Iterator[None]:
        if not self._has_output:
            yield
            return
        speaker = self._start_speaker()
        try:
            yield
        finally:
            speaker.close()

    def _start_speaker(self) -> Speaker:
        speaker = Speaker(self._output, self._voice.sample_rate)
        speaker.start(lambda error: None)
        return speaker


if __name__ == "__main__":
    web.main(TtsService)
