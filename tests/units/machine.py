"""A machine with a systemd of its own: a container on an overlay of this one, which is not touched.

What is written there lies in a tmpfs and is gone with it. Needs root, and Debian's systemd-container.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from daemons import config

ROOT = Path(__file__).parent.parent.parent
BOOT_S = 120.0
STEP_S = 0.05
PROGRAM = Path("/opt/timmy")
PACKAGES = Path("/opt/packages")
PYTHON = Path("/opt/python")


class Machine:
    """A booted machine. `run` works in it as root."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self.leader = leader

    def run(
        self, *command: str, user: str = "", environ: dict[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A command that ran to its end. With `check` its failure is an AssertionError that shows what it said."""
        words = [f"{name}={value}" for name, value in (environ or {}).items()]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        inside = [
            "nsenter",
            "-t",
            str(self.leader),
            "-a",
            "env",
            "-i",
            "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            *words,
        ]
        done = subprocess.run(
            [*inside, *become, *command], capture_output=True, text=True, errors="replace", check=False, cwd="/"
        )
        assert not (check and done.returncode), f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def systemctl(self, *arguments: str) -> str:
        return self.run("systemctl", "--no-pager", *arguments).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        return self.systemctl("show", "--value", f"--property={name}", unit)

    def pid_here(self, pid: int) -> int:
        """What this machine calls a process of that one."""
        space = Path(f"/proc/{self.leader}/ns/pid").readlink()
        for status in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                inside = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("NSpid:"))
                if inside.split()[-1] == str(pid) and (status.parent / "ns/pid").readlink() == space:
                    return int(status.parent.name)
        raise AssertionError(f"no process {pid} in the machine")

    def write(self, path: str, text: str) -> None:
        target = Path(f"{self.root}{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")


@contextmanager
def booted(folder: Path, binds: Sequence[tuple[Path, Path]] = ()) -> Iterator[Machine]:
    """A machine in `folder`, with some folders of this one to read: (here, there)."""
    with ExitStack() as stack:
        _mount(stack, ["-t", "tmpfs", "tmpfs"], folder)
        upper, work, merged = (folder / name for name in ("upper", "work", "merged"))
        for each in (upper, work, merged):
            each.mkdir()
        _mount(stack, ["-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}"], merged)
        command = [
            *("systemd-nspawn", "--quiet", f"--directory={merged}", "--register=no", "--keep-unit", "--boot"),
            *("--console=pipe", "--link-journal=no", "--hostname=machine"),
            *(f"--bind-ro={here}:{there}" for here, there in binds),
            "systemd.unit=basic.target",  # nothing of what else this machine may serve
        ]
        log = stack.enter_context((folder / "console").open("wb"))
        nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(_end, nspawn)
        yield _up(Machine(merged, _leader(nspawn, folder / "console")))


def _mount(stack: ExitStack, arguments: Sequence[str], target: Path) -> None:
    subprocess.run(["mount", *arguments, str(target)], check=True)
    stack.callback(subprocess.run, ["umount", "--lazy", str(target)], check=True)


def _leader(nspawn: subprocess.Popen[bytes], console: Path) -> int:
    """The machine's first process."""
    give_up = time.monotonic() + BOOT_S
    while time.monotonic() < give_up and nspawn.poll() is None:
        for pid in _children(nspawn):
            if _is_systemd(pid):
                return int(pid)
        time.sleep(STEP_S)
    raise AssertionError(f"no machine came up: {console.read_text('utf-8', 'replace')}")


def _is_systemd(pid: str) -> bool:
    """The first child sets the machine up and ends."""
    try:
        return Path(f"/proc/{pid}/comm").read_text("ascii") == "systemd\n"
    except OSError:
        return False


def _up(machine: Machine) -> Machine:
    give_up = time.monotonic() + BOOT_S
    state = ""
    while time.monotonic() < give_up:
        state = machine.run("systemctl", "is-system-running", check=False).stdout.strip()
        if state in ("running", "degraded"):
            return machine
        time.sleep(STEP_S)
    raise AssertionError(f"the machine's systemd is {state!r}")


def _end(nspawn: subprocess.Popen[bytes]) -> None:
    """A container has no last words worth waiting for. It would outlive the program that started it."""
    for pid in _children(nspawn) if nspawn.poll() is None else []:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    nspawn.kill()
    nspawn.wait()


def _children(nspawn: subprocess.Popen[bytes]) -> list[str]:
    return Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text("ascii").split()


# --- the program in it -------------------------------------------------------------------------------------


def binds() -> list[tuple[Path, Path]]:
    """What the program needs of this machine: its packages, and a Python that lies where services may not look."""
    packages = [path for path in (Path(sys.prefix) / "lib").glob("python*/site-packages") if path.is_dir()]
    python = Path(sys.base_prefix)
    return [(packages[0], PACKAGES), *([(python, PYTHON)] if python != Path("/usr") else [])]


LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "__pycache__", "build", "run-output", ".*_cache")


def wheel(folder: Path, checkout: Path = ROOT) -> Path:
    """The program as a wheel."""
    source = folder / "source"
    shutil.copytree(checkout, source, ignore=LEFT_OUT)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--disable-pip-version-check", "--wheel-dir", str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


def put_program(machine: Machine, built: Path) -> None:
    """A virtual environment in /opt/timmy with the wheel in it; its libraries are those of this one."""
    python = f"{PYTHON}/bin/python3" if Path(sys.base_prefix) != Path("/usr") else "/usr/bin/python3"
    if Path(sys.base_prefix) != Path("/usr"):
        machine.write("/etc/ld.so.conf.d/python.conf", f"{PYTHON}/lib\n")
        machine.run("ldconfig")
    machine.run(python, "-m", "venv", "--without-pip", str(PROGRAM))
    found = machine.run(f"{PROGRAM}/bin/python", "-c", "import site; print(site.getsitepackages()[0])").stdout.strip()
    machine.write(f"{found}/libraries.pth", f"{PACKAGES}\n")
    install_wheel(machine, built)


def install_wheel(machine: Machine, built: Path) -> None:
    shutil.copy(built, f"{machine.root}/opt/{built.name}")
    pip = [f"{PROGRAM}/bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    machine.run(*pip, "--root-user-action=ignore", "--disable-pip-version-check", f"/opt/{built.name}")


def put_models(machine: Machine) -> None:
    shutil.copytree(config.cache_dir() / "models", f"{machine.root}/var/cache/timmy/models")
