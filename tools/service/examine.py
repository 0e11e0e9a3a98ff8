"""What `timmy doctor` looks at where systemd runs the daemons."""

from __future__ import annotations

import os
from collections.abc import Iterator

from daemons.config import Config
from tools.checks import Check
from tools.service import state

SCORE_MAX = {"stt": 0.9, "tts": 0.9, "memory": 0.6, "dialog": 0.6, "llm": 1.4}
"""As the tests of the units demand; llm with a server elsewhere."""


def examine_service(settings: Config) -> Iterator[Check]:
    """Nothing where systemd does not have them."""
    if state.lacks_group():
        yield Check(
            "group",
            "bad",
            "the machine's daemons serve members of the group timmy, and you are none",
            "sudo usermod -aG timmy $USER, then log in again",
        )
    command = state.manager()
    if command is None:
        return
    yield _units(command)
    if len(command) == 1:
        yield _scores(command)
    else:
        yield from _session(command, settings)


def _units(command: tuple[str, ...]) -> Check:
    units = state.units(command)
    calls = " ".join(command)
    wrong = [f"{name} {unit.state}, {unit.result}: {unit.said}" for name, unit in units.items() if _fails(unit)]
    if wrong:
        return Check("services", "bad", "; ".join(wrong), f"correct it, then: {calls} restart timmy.target")
    dogless = [name for name, unit in units.items() if not unit.watchdog_s]
    if dogless:
        return Check("services", "poor", f"no watchdog for {', '.join(dogless)}", "timmy install writes the units anew")
    restarted = [
        f"{name} {unit.restarts} times, last: {unit.last_exit}" for name, unit in units.items() if unit.restarts
    ]
    if restarted:
        return Check("services", "poor", f"restarted: {'; '.join(restarted)}", "journalctl -u 'timmy-*' tells why")
    return Check("services", "good", f"{len(units)} units, each with a watchdog, none was restarted")


def _fails(unit: state.Unit) -> bool:
    return unit.state.startswith("failed")


def _scores(command: tuple[str, ...]) -> Check:
    found = state.scores(command)
    told = ", ".join(f"{name} {score:g}" for name, score in sorted(found.items()))
    if not found:
        return Check("sandbox", "poor", "systemd-analyze tells no scores", "start them: systemctl start timmy.target")
    if any(score > SCORE_MAX[name] for name, score in found.items()):
        return Check("sandbox", "poor", f"more open than shipped: {told}", "look for drop-ins: systemctl cat 'timmy-*'")
    return Check("sandbox", "good", f"{told} (0 closed, 10 open)")


def _session(command: tuple[str, ...], settings: Config) -> Iterator[Check]:
    """A user's services have that user's sound server, and live as long as the session unless told otherwise."""
    servers = list(state.sound_servers(command))
    if servers or (settings.stt.input == "none" and settings.tts.output == "none"):
        yield Check("sound server", "good", ", ".join(servers) or "not asked for")
    elif named := os.environ.get("PULSE_SERVER"):
        fix = f"systemctl --user set-environment PULSE_SERVER={named}, and for good as docs/wsl.md has it"
        yield Check("sound server", "poor", f"the services do not know of the one at {named}", fix)
    else:
        yield Check(
            "sound server", "poor", "neither PipeWire nor PulseAudio answers", "systemctl --user start pipewire"
        )
    if state.lingers():
        yield Check("linger", "good", "the daemons run while you are logged out, too")
    else:
        yield Check("linger", "good", "the daemons end when you log out; loginctl enable-linger keeps them")
