"""The Piper process, driven by piper_pipe: python -m daemons.engines.piper_worker VOICE DEVICE THREADS pieces|whole

Ends when its stdin does, so it cannot outlive the daemon. The only program in which Piper (GPL) is loaded.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from daemons.engines.piper_pipe import LENGTH, FromPiper, Over, Pcm, Ready, Say, Stop, Unusable, pack, to_piper
from daemons.engines.piper_voice import NoCuda, Voice
from ipc.errors import Code


class _Worker:
    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._jobs: queue.SimpleQueue[Say] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._stopped_to = 0
        self._current = 0
        self._voice: Voice

    def run(self, voice: Path, device: str, threads: int, pieces: bool) -> int:
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._voice = Voice(voice, device, threads, pieces)
        except NoCuda as error:
            self._send(Unusable(None, str(error)))
            return 1
        except ImportError as error:
            self._send(Unusable(Code.ENGINE_FAILED, f"{error}: install piper-tts"))
            return 1
        except Exception as error:
            self._send(Unusable(Code.MODEL_DAMAGED, f"voice {voice} cannot be loaded ({_line(error)}): fetch it again"))
            return 1
        self._send(Ready(self._voice.device))
        while True:
            self._speak(self._jobs.get())

    def _speak(self, say: Say) -> None:
        with self._lock:
            if say.job <= self._stopped_to:
                return
            self._current = say.job
            self._voice.stop(False)
        error = ""
        try:
            for pcm in self._voice.speak(say.text):
                self._send(Pcm(say.job, pcm))
        except Exception as failure:
            error = _line(failure)
        with self._lock:
            self._current = 0
        self._send(Over(say.job, error))

    def _listen(self) -> None:
        """Takes orders while the voice works. Its end is the end of the process."""
        while (head := self._stdin.read(LENGTH.size)) and len(head) == LENGTH.size:
            order = to_piper(self._stdin.read(LENGTH.unpack(head)[0]))
            if isinstance(order, Stop):
                with self._lock:
                    self._stopped_to = order.job
                    if 0 < self._current <= order.job:
                        self._voice.stop()
            else:
                self._jobs.put(order)
        os._exit(0)

    def _send(self, message: FromPiper) -> None:
        self._stdout.write(pack(message))
        self._stdout.flush()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the daemon decides
    logging.disable()
    # Whatever a library prints must not get between the messages.
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    voice, device, threads, how = sys.argv[1:5]
    return _Worker(sys.stdin.buffer, stdout).run(Path(voice), device, int(threads), how == "pieces")


if __name__ == "__main__":
    os._exit(main())  # an ordinary exit would wait for the thread that reads stdin
