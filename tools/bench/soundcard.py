"""A virtual sound card: real devices to the programs under test, with an independent player and recorder.

A private PulseAudio has one null sink of two channels, the card. Its left channel is the default output
"speaker"; what is played into its right one, "feed", is what the default input "microphone" hears. So both sides
have one clock, as on a real card, and one recording of the card holds both, sample by sample. PortAudio reaches
it through ALSA's pulse plugin, by an ALSA configuration of its own. Everything lies in a temporary folder; it
works as root and as an ordinary user, without a session bus.

PortAudio reads its configuration once per process: programs under test run as subprocesses with `env`.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from ipc.errors import TimmyError

RECORD_RATE = 48_000

_START_S = 10.0

_PRIORITY = 10
"""Of 99, where it is allowed: a card does not stutter when the processor is busy."""

_ALSA = """\
pcm.default { type pulse }
ctl.default { type pulse }
"""

_CHANNEL = "master={master} channels=1 channel_map=mono master_channel_map={channel} remix=no"
_SPEAKER = _CHANNEL.format(master="card", channel="front-left")
_FEED = _CHANNEL.format(master="card", channel="front-right")
_MICROPHONE = _CHANNEL.format(master="card.monitor", channel="front-right")

_MODULES = (
    "module-native-protocol-unix auth-anonymous=1 socket={socket}",
    # Without norewinds a null sink plays two seconds ahead, and what starts then is heard late.
    "module-null-sink sink_name=card norewinds=1 rate=48000 channels=2 channel_map=front-left,front-right",
    f"module-remap-sink sink_name=speaker {_SPEAKER}",
    f"module-remap-sink sink_name=feed {_FEED}",
    f"module-remap-source source_name=microphone {_MICROPHONE}",
)


@contextlib.contextmanager
def _ahead_of_others() -> Iterator[None]:
    """Programs started meanwhile run before all others, where that is allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Recording:
    """What the card played: 16-bit samples at RECORD_RATE, speaker and microphone by turns. Complete once the `record`
    block has ended."""

    def __init__(self) -> None:
        self.frames = b""
        self.started_ns = 0
        """Monotonic time of the first sample, as near as its arrival tells (some 10 ms late)."""

    @property
    def speaker(self) -> bytes:
        """What the speaker played: 16-bit mono."""
        return memoryview(self.frames).cast("h")[0::2].tobytes()

    @property
    def microphone(self) -> bytes:
        """What was played into the microphone: 16-bit mono."""
        return memoryview(self.frames).cast("h")[1::2].tobytes()


class SoundCardError(TimmyError):
    """There can be no virtual sound card here. The text says what to install."""


def missing_packages() -> list[str]:
    """Debian packages that the card needs and that are not there."""
    needed = {
        "pulseaudio": shutil.which("pulseaudio"),
        "pulseaudio-utils": all(map(shutil.which, ("pactl", "paplay", "parec"))),
        "libasound2-plugins": any(Path("/usr").glob("lib*/**/alsa-lib/libasound_module_pcm_pulse.so")),
        "libportaudio2": ctypes.util.find_library("portaudio"),
    }
    return [package for package, found in needed.items() if not found]


class SoundCard:
    """`with SoundCard() as card:` programs find it in the environment `card.env`; `card.variables` are what that has
    beside the present one. Raises SoundCardError."""

    def __enter__(self) -> Self:
        if missing := missing_packages():
            raise SoundCardError(f"a virtual sound card needs Debian packages: sudo apt install {' '.join(missing)}")
        self._folder = tempfile.TemporaryDirectory(prefix="sound-")
        folder = Path(self._folder.name)
        for name in ("home", "run"):
            (folder / name).mkdir(mode=0o700)
        (folder / "asound.conf").write_text(_ALSA, "ascii")
        self._socket = folder / "run" / "native"
        self.variables = {
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
            "PULSE_SERVER": f"unix:{self._socket}",
            "PULSE_COOKIE": str(folder / "run" / "cookie"),
        }
        self.env = os.environ | self.variables
        try:
            self._start(folder)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self, folder: Path) -> None:
        run = str(folder / "run")
        own = {"HOME": str(folder / "home"), "XDG_RUNTIME_DIR": run, "PULSE_RUNTIME_PATH": run, "PULSE_STATE_PATH": run}
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--disable-shm=yes", "--log-level=error"]
        options += ["--realtime=no", "--high-priority=no", "--use-pid-file=no"]
        for module in _MODULES:
            options += ["-L", module.format(socket=self._socket)]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.server = subprocess.Popen(
                ["pulseaudio", *options], env={**self.env, **own}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise SoundCardError(f"pulseaudio does not start: {self.log.read_text('utf-8', 'replace').strip()}")
            time.sleep(0.02)
        self._run("pactl", "set-default-sink", "speaker")
        self._run("pactl", "set-default-source", "microphone")
        self._hurry()

    def _hurry(self) -> None:
        """The server goes back to an ordinary priority when it starts, and its threads with it."""
        with contextlib.suppress(PermissionError):
            for thread in Path(f"/proc/{self.server.pid}/task").iterdir():
                os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(_PRIORITY))

    def _answers(self) -> bool:
        if not self._socket.exists():
            return False
        sources = subprocess.run(
            ["pactl", "list", "short", "sources"], env=self.env, capture_output=True, text=True, check=False
        )
        return "microphone" in sources.stdout

    def unplug(self) -> None:
        """The sound card goes away, until `plug`."""
        self.server.kill()
        self.server.wait()

    def plug(self) -> None:
        """It is there again, as it was."""
        self._socket.unlink(missing_ok=True)
        self._start(Path(self._folder.name))

    def _stop(self) -> None:
        if hasattr(self, "server"):
            self.server.terminate()
            try:
                self.server.wait(5)
            except subprocess.TimeoutExpired:
                self.unplug()
        self._folder.cleanup()

    def play(self, wav: Path) -> None:
        """Plays a WAV into the microphone, at its own pace; returns when it has been played."""
        self._run("paplay", "--device=feed", "--latency-msec=50", str(wav))

    @contextlib.contextmanager
    def record(self) -> Iterator[Recording]:
        """Records speaker and microphone while the block runs."""
        recording = Recording()
        options = ["--raw", "--format=s16le", f"--rate={RECORD_RATE}", "--channels=2", "--latency-msec=2"]
        with _ahead_of_others():
            parec = subprocess.Popen(["parec", "--device=card.monitor", *options], env=self.env, stdout=subprocess.PIPE)
        started = threading.Event()
        blocks: list[bytes] = []

        def listen() -> None:
            assert parec.stdout is not None
            while block := parec.stdout.read1():  # type: ignore[attr-defined]
                if not blocks:
                    recording.started_ns = time.monotonic_ns() - len(block) // 4 * 1_000_000_000 // RECORD_RATE
                    started.set()
                blocks.append(block)

        reader = threading.Thread(target=listen)
        reader.start()
        try:
            if not started.wait(_START_S):
                raise SoundCardError("the recorder hears nothing, not even silence")
            yield recording
        finally:
            parec.terminate()
            reader.join()
            parec.wait()
            assert parec.stdout is not None
            parec.stdout.close()
            recording.frames = b"".join(blocks)

    def _run(self, *command: str) -> None:
        subprocess.run(command, env=self.env, check=True, stdout=subprocess.DEVNULL)
