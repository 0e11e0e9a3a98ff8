"""What `timmy doctor` looks at where systemd runs the daemons."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from daemons.config import Config
from ipc.endpoints import DAEMONS
from tools.checks import Check
from tools.service import state
from tools.service.layout import HOUSE, SATELLITE

SCORE_MAX = {"stt": 0.9, "tts": 0.9, "memory": 0.6, "dialog": 0.6, "llm": 1.4, "satellite": 1.3}
"""As the tests of the units demand; llm with a server elsewhere, a satellite with a house."""

SCORE_MAX_LISTENING = 1.7
"""Of a daemon that network.listen opens to the network."""


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
    units = state.units(command)
    yield _units(command, units)
    if "satellite" in units:
        yield _satellite(units["satellite"])
    if len(command) == 1:
        yield _scores(command)
    else:
        yield from _session(command, _devices(settings, units))


def _devices(settings: Config, units: Mapping[str, state.Unit]) -> set[str]:
    """What the services are told to hear with and to speak with."""
    named: set[str] = set()
    if "stt" in units:
        named |= {settings.stt.input, settings.tts.output}
    if "satellite" in units:
        named |= {settings.satellite.input, settings.satellite.output}
    return named


def _units(command: tuple[str, ...], units: Mapping[str, state.Unit]) -> Check:
    calls = " ".join(command)
    wrong = {name: unit for name, unit in units.items() if _fails(unit)}
    if wrong:
        found = "; ".join(f"{name} {unit.state}, {unit.result}: {unit.said}" for name, unit in wrong.items())
        again = SATELLITE.wanted if set(wrong) == {"satellite"} else HOUSE.wanted
        return Check("services", "bad", found, f"correct it, then: {calls} restart {again}")
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


def _satellite(unit: state.Unit) -> Check:
    """Whether it has its house, microphone and speaker."""
    if unit.said == "ready":
        return Check("satellite", "good", "connected to the house")
    return Check("satellite", "poor", unit.said or unit.state, "docs/satellite.md says what to do about it")


def _scores(command: tuple[str, ...]) -> Check:
    found = state.scores(command)
    told = ", ".join(f"{name} {score:g}" for name, score in sorted(found.items()))
    if not found:
        return Check("sandbox", "poor", "systemd-analyze tells no scores", "start them: systemctl start timmy.target")
    listening = state.has_door(command)
    most = {name: SCORE_MAX_LISTENING if listening and name in DAEMONS else least for name, least in SCORE_MAX.items()}
    if any(score > most[name] for name, score in found.items()):
        return Check("sandbox", "poor", f"more open than shipped: {told}", "look for drop-ins: systemctl cat 'timmy-*'")
    return Check("sandbox", "good", f"{told} (0 closed, 10 open)")


def _session(command: tuple[str, ...], devices: set[str]) -> Iterator[Check]:
    """A user's services have that user's sound server, and live as long as the session unless told otherwise."""
    servers = list(state.sound_servers(command))
    if servers or devices == {"none"}:
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
