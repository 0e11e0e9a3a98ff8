"""The real Piper voice, and its process when it is badly treated."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import onnxruntime
import pytest

from daemons import catalogue
from daemons.engines import piper, piper_voice
from daemons.engines.base import EngineError
from daemons.engines.piper import PiperSynthesizer
from ipc.errors import Code
from tests.support.eventually import eventually

pytestmark = pytest.mark.models

LONG = "one two three four five six seven eight nine ten " * 4


def with_voice(use: Callable[[PiperSynthesizer], Awaitable[None]]) -> None:
    async def run() -> None:
        voice = PiperSynthesizer("joe")
        try:
            await voice.load()
            await use(voice)
        finally:
            await voice.close()

    asyncio.run(run())


async def say(voice: PiperSynthesizer, text: str) -> bytes:
    return b"".join([pcm async for pcm in voice.synthesize(text)])


def children() -> set[int]:
    """Processes of this one, zombies included, but for those that multiprocessing keeps for other tests."""
    lists = Path("/proc/self/task").glob("*/children")
    pids = {int(pid) for children in lists for pid in children.read_text("ascii").split()}
    return {pid for pid in pids if b"multiprocessing" not in _command(pid)}


def _command(pid: int) -> bytes:
    """Empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def gone(pid: int) -> bool:
    """Ended, whether or not its new parent has noticed."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_any_text_is_spoken_or_left_out_and_none_breaks_the_voice() -> None:
    async def use(voice: PiperSynthesizer) -> None:
        assert voice.info.device == "cpu"
        for text in ("", "   ", "...", "😀😀", "\x00\x01", "[[", "<b></b>", "-", "?!"):
            assert await say(voice, text) == b""
        for text in ("**Hello** \x00 there 😀", "[[hello]]", "Straße, 東京, \ud800", "a\nb\n\nc", "%", LONG * 2):
            assert len(await say(voice, text)) > voice.sample_rate // 2

    with_voice(use)


def test_texts_asked_for_at_once_are_all_spoken() -> None:
    async def use(voice: PiperSynthesizer) -> None:
        lengths = [len(pcm) for pcm in await asyncio.gather(*(say(voice, text) for text in ("Hi.", LONG, "Hi.")))]
        assert lengths[1] > 4 * max(lengths[0], lengths[2])

    with_voice(use)


def test_a_text_given_up_leaves_nothing_in_the_next_one() -> None:
    async def use(voice: PiperSynthesizer) -> None:
        task = asyncio.ensure_future(say(voice, LONG))
        await asyncio.sleep(0.1)  # in the middle of its inference
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert len(await say(voice, "Hi.")) < 2 * voice.sample_rate * 2

    with_voice(use)


def test_a_process_that_dies_fails_the_text_in_hand_and_the_next_one_works() -> None:
    async def use(voice: PiperSynthesizer) -> None:
        (pid,) = children()
        task = asyncio.ensure_future(say(voice, LONG))
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="died") as caught:
            await task
        assert caught.value.code is Code.ENGINE_FAILED
        assert await say(voice, "It works again.")
        assert len(children() - {pid}) == 1
        assert pid not in children()

    with_voice(use)
    assert not children()


def test_a_process_that_dies_between_texts_costs_none() -> None:
    async def use(voice: PiperSynthesizer) -> None:
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: children() != {pid})
        assert await say(voice, "Nothing happened.")

    with_voice(use)


def test_a_process_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piper, "_STALL_S", 0.5)

    async def use(voice: PiperSynthesizer) -> None:
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EngineError, match="gave nothing") as caught:
            await say(voice, "Hello.")
        assert caught.value.code is Code.ENGINE_FAILED
        monkeypatch.setattr(piper, "_STALL_S", 20)
        assert await say(voice, "Hello.")

    with_voice(use)


def test_the_process_ends_with_the_daemon() -> None:
    """Also when the daemon is killed and can do nothing about it."""
    program = textwrap.dedent("""
        import asyncio, os
        from daemons.engines.piper import PiperSynthesizer

        async def main():
            voice = PiperSynthesizer("joe")
            await voice.load()
            print(voice._process._process.pid, flush=True)
            os.kill(os.getpid(), 9)

        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stderr is not None
        pid = int(daemon.stdout.read())
        assert daemon.stderr.read() == b""
    asyncio.run(eventually(lambda: gone(pid)))


@pytest.fixture
def copied_voice(tmp_path: Path) -> Path:
    source = catalogue.resolve("tts", "joe")
    copy = tmp_path / "voice.onnx"
    shutil.copy(source, copy)
    shutil.copy(f"{source}.json", f"{copy}.json")
    return copy


def test_a_damaged_voice_is_a_clear_error_and_leaves_no_process(copied_voice: Path) -> None:
    copied_voice.write_bytes(copied_voice.read_bytes()[:1_000_000])

    async def run() -> None:
        voice = PiperSynthesizer(str(copied_voice))
        try:
            with pytest.raises(EngineError, match="cannot be loaded") as caught:
                await voice.load()
            assert caught.value.code is Code.MODEL_DAMAGED
            assert "\n" not in str(caught.value)
        finally:
            await voice.close()

    asyncio.run(run())
    assert not children()


@pytest.mark.parametrize("description", ["", "{", "[]", '{"audio": {}}', '{"audio": {"sample_rate": 3}}'])
def test_a_damaged_description_is_a_clear_error(copied_voice: Path, description: str) -> None:
    Path(f"{copied_voice}.json").write_text(description)
    with pytest.raises(EngineError, match=r"onnx\.json") as caught:
        PiperSynthesizer(str(copied_voice))
    assert caught.value.code is Code.MODEL_DAMAGED


def test_a_description_that_lacks_what_piper_needs_is_a_clear_error(copied_voice: Path) -> None:
    Path(f"{copied_voice}.json").write_text(json.dumps({"audio": {"sample_rate": 22050}}))

    async def run() -> None:
        voice = PiperSynthesizer(str(copied_voice))
        with pytest.raises(EngineError, match="num_symbols") as caught:
            await voice.load()
        assert caught.value.code is Code.MODEL_DAMAGED

    asyncio.run(run())


def test_a_missing_voice_is_a_clear_error() -> None:
    with pytest.raises(EngineError) as caught:
        PiperSynthesizer("nobody")
    assert caught.value.code is Code.MODEL_MISSING


def test_cuda_asked_for_by_name_where_it_does_not_load_is_a_clear_error() -> None:
    class WithoutCuda:
        """onnxruntime where only the CPU works."""

        InferenceSession = onnxruntime.InferenceSession
        SessionOptions = onnxruntime.SessionOptions
        get_available_providers = staticmethod(lambda: ["CPUExecutionProvider"])

    path = catalogue.resolve("tts", "joe")
    with pytest.raises(piper_voice.NoCuda, match="'auto' or 'cpu'"):
        piper_voice.open_session(WithoutCuda, path, "cuda", 1)
    assert piper_voice.open_session(WithoutCuda, path, "auto", 1).get_providers() == ["CPUExecutionProvider"]
