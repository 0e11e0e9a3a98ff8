"""A server in a process of its own: python -m tests.socket.process FOLDER. Prints its pid when it serves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ipc.activation import passed_sockets
from ipc.call import Handler
from ipc.messages import Body, Feed, Generate, Recall
from ipc.server import Server
from ipc.transport import ZmqServerTransport
from tests.socket.rig import DAEMON, Blocked, count_audio, report, tokens


async def _serve(folder: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    handlers: dict[type[Body], Handler] = {Generate: tokens, Feed: count_audio, Recall: Blocked()}
    transport = ZmqServerTransport(DAEMON, folder, passed_sockets(DAEMON, folder))
    server = Server(DAEMON, transport, handlers, report)
    server.start()
    print(os.getpid(), flush=True)
    await stop.wait()
    await server.close()


_AS_SYSTEMD = """
import os, sys
fds = sys.argv[1].split(",")
for place, fd in enumerate(fds, 3):
    os.dup2(int(fd), place)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": sys.argv[2]}
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


@contextmanager
def serving(folder: Path, passed: Sequence[int] = (), names: str = "") -> Iterator[subprocess.Popen[str]]:
    """Such a process, ready. It is gone afterwards, whatever the test did to it. It gets the sockets that are
    `passed` as systemd would give them to it."""
    command = [sys.executable, "-m", "tests.socket.process", str(folder)]
    if passed:
        handed = ",".join(map(str, passed))
        command = [sys.executable, "-c", _AS_SYSTEMD, handed, names, *command[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=passed) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{process.pid}\n"
            yield process
        finally:
            process.kill()


def resident_bytes(pid: int) -> int:
    """Resident set of a process (proc(5), statm field 2)."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """The largest resident set it ever had (proc(5), VmHWM)."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
