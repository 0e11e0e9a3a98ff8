"""The supervisor with real processes: small programs that behave like daemons, or do not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ipc.endpoints import socket_path
from ipc.errors import EXIT_CONFIG, EndpointError
from tools import supervision
from tools.supervise import StartError, Supervisor, lock_path, log_dir

GOOD = """
import os, signal, socket, sys, time
def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
signal.signal(signal.SIGTERM, lambda *_: (notify("STOPPING=1"), sys.exit(0)))
notify("STATUS=loading")
print("hello from", os.getpid(), flush=True)
notify("READY=1\\nSTATUS=ready")
"""
WAITS = GOOD + "while True: signal.pause()"
DEAF = WAITS.replace('lambda *_: (notify("STOPPING=1"), sys.exit(0))', "signal.SIG_IGN")
MISSET = GOOD.replace("READY=1\\nSTATUS=ready", "STATUS=model 'x' is not here") + "sys.exit(78)"
WITH_CHILD = (
    GOOD
    + """
import socket
import subprocess
subprocess.Popen([sys.executable, "-c", "import time; print('grandchild', flush=True); time.sleep(600)"])
while True: signal.pause()
"""
)


def _commands(**programs: str) -> dict[str, list[str]]:
    return {name: [sys.executable, "-c", text] for name, text in programs.items()}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMMY_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setenv("TIMMY_STATE", str(tmp_path / "state"))


class Lines:
    """What the supervisor told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, name: str, line: str) -> None:
        with self._changed:
            self.lines.append(f"{name}: {line}")
            self._changed.notify_all()

    def wait(self, *wanted: str) -> None:
        with self._changed:
            for text in wanted:
                assert self._changed.wait_for(partial(self._has, text), 20), (text, self.lines)

    def _has(self, text: str) -> bool:
        return any(text in line for line in self.lines)


def _pids(name: str) -> list[int]:
    log = (log_dir() / f"{name}.log").read_text()
    return [int(line.split()[-1]) for line in log.splitlines() if line.startswith("hello from")]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_starts_waits_and_leaves_nothing_behind(tmp_path: Path) -> None:
    lines = Lines()
    with Supervisor(_commands(stt=WAITS, tts=WAITS), tell=lines) as supervisor:
        supervisor.wait_ready(20)
        pids = _pids("stt") + _pids("tts")
        assert len(pids) == 2
        socket_path("stt").touch()  # as a daemon that is killed leaves it
    assert not any(_alive(pid) for pid in pids)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["supervisor.lock"]
    assert {"stt: loading", "stt: ready", "tts: loading", "tts: ready"} == set(lines.lines)


def test_one_that_is_killed_is_started_again() -> None:
    lines = Lines()
    with Supervisor(_commands(stt=WAITS, tts=WAITS), tell=lines) as supervisor:
        supervisor.wait_ready(20)
        os.kill(_pids("stt")[0], signal.SIGKILL)
        lines.wait("stt: was killed by SIGKILL; starts again in 0.25 s")
        supervisor.wait_ready(20)
        assert len(_pids("stt")) == 2
        assert len(_pids("tts")) == 1


def test_one_that_does_not_end_is_killed() -> None:
    lines = Lines()
    with Supervisor(_commands(llm=DEAF), tell=lines) as supervisor:
        supervisor.wait_ready(20)
        pid = _pids("llm")[0]
    assert not _alive(pid)
    lines.wait("llm: did not end within 2.2 s: killed")


def test_one_whose_work_stands_still_shows_where_and_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "WATCHDOG_S", 1.0)
    feeds = WAITS.replace("signal.pause()", 'notify("WATCHDOG=1"); time.sleep(0.2)')
    lines = Lines()
    with Supervisor(_commands(stt=feeds, llm="import faulthandler; faulthandler.enable()\n" + WAITS), tell=lines):
        lines.wait("llm: hangs: its work stands still since 1 s; aborted", "llm: was killed by SIGABRT; starts again")
        lines.wait("llm: ready")
        assert len(_pids("stt")) == 1
        assert "Fatal Python error: Aborted" in (log_dir() / "llm.log").read_text()


def test_a_daemon_is_told_how_often_to_feed_its_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_PID", "1")
    tells = WAITS.replace('"hello', 'os.environ.get("WATCHDOG_PID"), os.environ["WATCHDOG_USEC"], "hello')
    with Supervisor(_commands(stt=tells)) as supervisor:
        supervisor.wait_ready(20)
        assert "None 60000000 hello from" in (log_dir() / "stt.log").read_text()


def test_a_wrong_configuration_is_told_at_once() -> None:
    with (
        Supervisor(_commands(stt=WAITS, llm=MISSET)) as supervisor,
        pytest.raises(StartError, match="llm cannot start: model 'x' is not here") as caught,
    ):
        supervisor.wait_ready(20)
    assert caught.value.exit_status == EXIT_CONFIG
    assert len(_pids("llm")) == 1


def test_not_ready_in_time() -> None:
    with (
        Supervisor(_commands(stt="import time; time.sleep(600)")) as supervisor,
        pytest.raises(StartError, match=r"not ready within 0\.2 s: see the logs in"),
    ):
        supervisor.wait_ready(0.2)


def test_a_program_that_is_not_there() -> None:
    lines = Lines()
    with Supervisor({"stt": ["/nonexistent/python"]}, tell=lines):
        lines.wait("stt: cannot be started: ", "stt: ended with status 70; starts again in 0.25 s")


def test_a_second_supervisor_refuses() -> None:
    with (
        Supervisor(_commands(stt=WAITS)),
        pytest.raises(EndpointError, match=rf"supervisor is running already \(pid {os.getpid()}\): timmy down ends it"),
        Supervisor(_commands(stt=WAITS)),
    ):
        pass


def test_logs_are_kept_once_and_echoed() -> None:
    for _ in range(2):
        lines = Lines()
        with Supervisor(_commands(stt=WAITS), tell=lines, echo_logs=True) as supervisor:
            supervisor.wait_ready(20)
            lines.wait("stt: hello from")
    assert len(_pids("stt")) == 1
    assert (log_dir() / "stt.log.1").read_text().startswith("hello from")


def test_a_log_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(EndpointError, match="set TIMMY_STATE"), Supervisor(_commands(stt=WAITS)):
        pass


def test_what_a_daemon_started_ends_with_it() -> None:
    with Supervisor(_commands(tts=WITH_CHILD)) as supervisor:
        supervisor.wait_ready(20)
        _until(lambda: "grandchild" in (log_dir() / "tts.log").read_text())
        group = os.getpgid(_pids("tts")[0])
        os.kill(_pids("tts")[0], signal.SIGKILL)
        _until(lambda: not _group(group))


def _group(number: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == number:
            found.append(stat.parent.name)
    return found


def test_daemons_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, tests.unit.test_supervise as t\n"
        "with t.Supervisor(t._commands(stt=t.WAITS)) as s: s.wait_ready(20); print('up', flush=True); sys.stdin.read()"
    )
    run = [sys.executable, "-c", script]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "up\n"
        pid = _pids("stt")[0]
        victim.kill()
    _until(lambda: not _alive(pid))
    with Supervisor(_commands(stt=WAITS)) as supervisor:  # what it left does not disturb
        supervisor.wait_ready(20)
    assert lock_path(tmp_path / "run").exists()


def test_sockets_that_systemd_holds_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMMY_RUNTIME", str(tmp_path))
    monkeypatch.setenv("TIMMY_STATE", str(tmp_path / "state"))
    tmp_path.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "llm.sock"))
        held.listen()
        for _ in range(2):
            with pytest.raises(EndpointError, match="is held by systemd"), Supervisor():
                pass
    assert (tmp_path / "llm.sock").is_socket()
