"""What systemd says of the daemons: for `timmy status` and `timmy doctor`."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ipc.endpoints import DAEMONS, SYSTEM_RUNTIME, daemons_dir, groups_of

_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "Result", "NRestarts", "ExecMainStatus", "ExecMainCode"),
    *("StatusText", "WatchdogUSec", "WatchdogTimestampMonotonic"),
)
_ANSWER_S = 5.0

SERVICES = (*DAEMONS, "satellite")
"""What may be installed, by its name in `timmy-NAME.service`."""

_NO_CREDENTIAL = "243"
"""EXIT_CREDENTIALS (systemd.exec(5)): the process was not begun, so it cannot say so itself."""
_KILLED = ("2", "3", "killed", "dumped")
"""ExecMainCode, or EXIT_CODE in the journal, of a process that a signal ended (CLD_KILLED, CLD_DUMPED)."""

_PROCESS_EXIT = "98e322203f7a4ed290d09fe03c09fe15"
"""SD_MESSAGE_UNIT_PROCESS_EXIT."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One service. `last_exit`: how its last process ended, empty: none has. `watchdog_s`: 0, none."""

    state: str
    result: str
    restarts: int
    last_exit: str
    watchdog_s: float
    said: str

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def manager() -> tuple[str, ...] | None:
    """How to call the systemd that has the daemons, or the satellite: the machine's or this user's, first the one
    whose sockets are in use; None where neither has."""
    known = [("systemctl",), ("systemctl", "--user")]
    for command in known if daemons_dir() == SYSTEM_RUNTIME else reversed(known):
        if _show(command):
            return command
    return None


def units(command: tuple[str, ...] | None) -> dict[str, Unit]:
    """By name, those that are installed. Empty without a systemd that has them."""
    found = _show(command) if command else []
    return {_name(each["Id"]): _unit(each, command or ()) for each in found}


def _name(unit: str) -> str:
    return unit.removeprefix("timmy-").removesuffix(".service")


def _show(command: tuple[str, ...]) -> list[dict[str, str]]:
    names = [f"timmy-{name}.service" for name in SERVICES]
    told = _output([*command, "show", f"--property={','.join(_PROPERTIES)}", *names])
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in told.split("\n\n")]
    return [block for block in blocks if block.get("LoadState") == "loaded"]


def _unit(shown: Mapping[str, str], command: tuple[str, ...]) -> Unit:
    code, status = shown["ExecMainCode"], shown["ExecMainStatus"]
    if code == "0" and shown["NRestarts"] != "0":  # it runs: systemd has forgotten the one before
        code, status = _exit_in_journal(shown["Id"], command)
    last = "" if code == "0" else f"signal {status}" if code in _KILLED else f"status {status}"
    unread = f"a credential cannot be read: `systemctl cat {shown['Id']}` shows where LoadCredential= looks for it"
    return Unit(
        state=f"{shown['ActiveState']} ({shown['SubState']})",
        result=shown["Result"],
        restarts=int(shown["NRestarts"]),
        last_exit=last,
        watchdog_s=_seconds(shown["WatchdogUSec"]),
        said=shown["StatusText"] or (unread if status == _NO_CREDENTIAL else ""),
    )


def _exit_in_journal(unit: str, command: tuple[str, ...]) -> tuple[str, str]:
    """Code and status of the last process that ended; ("0", "") where the journal cannot be read or has no such."""
    field = "USER_UNIT" if "--user" in command else "UNIT"
    told = _output(["journalctl", "--output=json", "--lines=1", f"MESSAGE_ID={_PROCESS_EXIT}", f"{field}={unit}"])
    if not told:
        return "0", ""
    record = json.loads(told)
    return record["EXIT_CODE"], record["EXIT_STATUS"]


def _seconds(span: str) -> float:
    """Of a time span as systemctl writes one: "1min 30s", "500ms", "infinity"."""
    sizes = {"min": 60.0, "ms": 0.001, "us": 1e-6, "s": 1.0, "h": 3600.0}
    total = 0.0
    for part in span.split():
        for unit, size in sizes.items():
            number = part.removesuffix(unit)
            if number != part and number.isdigit():
                total += int(number) * size
                break
    return total


def scores(command: tuple[str, ...]) -> dict[str, float]:
    """By name, what `systemd-analyze security` finds: 0 is closed, 10 open."""
    names = [f"timmy-{name}.service" for name in SERVICES]
    told = _output(["systemd-analyze", *command[1:], "security", "--no-pager", "--json=short"])
    try:
        listed = json.loads(told or "[]")
    except ValueError:
        return {}
    found = {each["unit"]: float(each["exposure"]) for each in listed if each["unit"] in names}
    return {_name(name): score for name, score in found.items()}


def has_door(command: tuple[str, ...]) -> bool:
    """Whether the daemons were let out to a network when they were installed (network.listen)."""
    return "/40-door.conf" in _output([*command, "show", "--property=DropInPaths", f"timmy-{DAEMONS[0]}.service"])


def is_satellite_alone() -> bool:
    """Whether a satellite is all that is installed here: it needs no daemon and no model."""
    return set(units(manager())) == {"satellite"}


def lacks_group() -> bool:
    """Whether the machine's service is there and this user may not speak to it."""
    try:
        group = SYSTEM_RUNTIME.stat().st_gid
    except OSError:
        return False
    return os.getuid() != 0 and group not in groups_of(os.getuid())


def lingers() -> bool:
    """Whether this user's services run while nobody is logged in (loginctl enable-linger)."""
    return Path("/var/lib/systemd/linger", pwd.getpwuid(os.getuid()).pw_name).exists()


def sound_servers(command: tuple[str, ...]) -> Iterator[str]:
    """The sound servers that answer at their sockets, as the services of this manager find them: in this session, or
    where its PULSE_SERVER says (WSL2)."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"))
    for name, path in (("PipeWire", base / "pipewire-0"), ("PulseAudio", base / "pulse" / "native")):
        if path.is_socket():
            yield name
    told = _output([*command, "show-environment"]).splitlines()
    named = next((line.removeprefix("PULSE_SERVER=") for line in told if line.startswith("PULSE_SERVER=")), "")
    if Path(named.removeprefix("unix:")).is_socket():
        yield f"PulseAudio at {named}"


def _output(command: list[str]) -> str:
    """What it prints; nothing where it cannot be run or has nobody to ask."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
