"""A daemon to torment: python -m tests.campaigns.subject NAME [PLANTED]

It is the real daemon around engines that are not there, so that a campaign is about the daemon; it counts what reaches
its application. PLANTED names a fault in `tests.campaigns.planted`.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from daemons import config, runtime
from daemons.dialog.service import DialogService
from daemons.engines.base import Prompt
from daemons.engines.fakes_llm import FakeModel
from daemons.engines.fakes_memory import FakeClassifier, FakeEmbedder
from daemons.engines.fakes_stt import FakeDetector, FakeTranscriber
from daemons.engines.fakes_tts import FakeSynthesizer
from daemons.llm.core import CHECK_ANSWER, CHECK_QUESTION
from daemons.llm.service import LlmService
from daemons.memory.service import MemoryService
from daemons.stt.service import SttService
from daemons.tts.service import TtsService
from ipc.intake import OnFlood, OnGone, OnPeerFrames
from ipc.transport import ZmqServerTransport
from tests.campaigns import planted

READY_S = 60.0
_COUNTS = "arrived"


class Model(FakeModel):
    """As many words as allowed. It is asked for hours, and remembers nothing."""

    def _pieces(self, prompt: Prompt) -> list[str]:
        self.prompts.clear()
        return [CHECK_ANSWER] if prompt.messages[-1:] == [("user", CHECK_QUESTION)] else ["word "] * prompt.max_tokens


MAKE: Mapping[str, runtime.Make] = {
    "stt": lambda config, marks: SttService(config, FakeTranscriber, FakeDetector, marks=marks),
    "dialog": lambda config, marks: DialogService(config, marks=marks),
    "llm": lambda config, marks: LlmService(config, Model(), marks=marks),
    "memory": lambda config, marks: MemoryService(config, FakeEmbedder, lambda _: FakeClassifier(), marks=marks),
    "tts": lambda config, marks: TtsService(config, FakeSynthesizer, marks=marks),
}


class _Counting(ZmqServerTransport):
    """Counts in a file the messages that are handed to the application, and the peers that they are from."""

    def start(self, on_frames: OnPeerFrames, on_flood: OnFlood, on_gone: OnGone) -> None:
        path = config.state_dir() / _COUNTS
        path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            counts = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
        peers: set[bytes] = set()

        def counted(peer: bytes, frames: list[bytes]) -> None:
            peers.add(peer)
            counts[0], counts[1] = counts[0] + 1, len(peers)
            on_frames(peer, frames)

        super().start(counted, on_flood, on_gone)


class Subject:
    """Such a process, ready, with its sockets in `folder`."""

    def __init__(self, name: str, folder: Path, process: subprocess.Popen[str], log: Path) -> None:
        self.name = name
        self.folder = folder
        self._process = process
        self._state = log.parent
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def arrived(self) -> tuple[int, int]:
        """Messages that reached the application so far, and how many peers they are from."""
        data = (self._state / _COUNTS).read_bytes()
        return int.from_bytes(data[:8], sys.byteorder), int.from_bytes(data[8:], sys.byteorder)

    def log(self) -> str:
        return self._log.read_text("utf-8")

    def check_log(self) -> None:
        """Raises AssertionError when it made a mistake of its own."""
        for line in self.log().splitlines():
            if any(word in line for word in ("Traceback", " failed", "could not be dealt with")):
                raise AssertionError(f"{self.name} logged: {line}")


@contextmanager
def subject(name: str, fault: str = "", **settings: str) -> Iterator[Subject]:
    """Starts one in folders of its own. It is gone afterwards, whatever was done to it."""
    with tempfile.TemporaryDirectory(prefix="timmy-") as place:
        folder, state = Path(place) / "run", Path(place) / "state"
        folder.mkdir(mode=0o700)
        state.mkdir()
        own = {"TIMMY_RUNTIME": str(folder), "TIMMY_STATE": str(state), "TIMMY_STT_INPUT": "none"}
        environ = {**os.environ, **own, "TIMMY_TTS_OUTPUT": "none", **settings}
        command = [sys.executable, "-m", "tests.campaigns.subject", name, *([fault] if fault else [])]
        log = state / "log"
        with log.open("w") as file, subprocess.Popen(command, env=environ, stderr=file, text=True) as process:
            try:
                _wait_ready(process, log)
                yield Subject(name, folder, process, log)
            finally:
                process.kill()


def _wait_ready(process: subprocess.Popen[str], log: Path) -> None:
    until = time.monotonic() + READY_S
    while ": ready: " not in (said := log.read_text("utf-8")):
        assert process.poll() is None, said
        assert time.monotonic() < until, f"not ready: {said}"
        time.sleep(0.01)


def main(name: str, fault: str = "") -> int:
    runtime.ZmqServerTransport = _Counting  # type: ignore[attr-defined]
    if fault:
        planted.FAULTS[fault]()
    return runtime.main(name, MAKE[name])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
