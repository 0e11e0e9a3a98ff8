"""The units on a systemd of their own, with daemons whose engines obey orders: ended, stopped, hung, misconfigured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from daemons.orders import Orders
from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.errors import CallError
from ipc.messages import Answered, Ask, ChatMessage, Generate, Ping, Pong
from tests.units import machine as machines
from tests.units.service import TIMMY, WATCHDOG_S, Services, order, session_of, until

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("whole")]
QUESTION = Ask(conversation="test", text="What is the capital of France?", speak=False)
FED = "WatchdogTimestampMonotonic"
PROMPT = Generate(messages=[ChatMessage(role="user", content="a")], max_tokens=64)


# --- sockets ---


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_killed_daemon_answers_again_on_the_same_socket(services: Services, daemon: str) -> None:
    before = services.pid(daemon), (services.sockets / f"{daemon}.sock").stat().st_ino
    services.kill(daemon)
    assert isinstance(services.ask(daemon, Ping()), Pong), "who calls meanwhile waits"
    until(lambda: services.ready(daemon))
    assert services.pid(daemon) != before[0]
    assert (services.sockets / f"{daemon}.sock").stat().st_ino == before[1]


def test_whoever_calls_first_starts_the_daemons_and_no_order_is_needed(services: Services) -> None:
    for daemon in DAEMONS:
        services.machine.run("systemctl", "stop", f"timmy-{daemon}.service", check=False)
    # dialog calls the others as soon as it is called.
    answered = services.ask("dialog", QUESTION)
    assert isinstance(answered, Answered)
    assert answered.said
    assert all(services.state(daemon) == "active" for daemon in DAEMONS)


def test_a_daemon_that_is_stopped_starts_again_when_it_is_called(services: Services) -> None:
    services.machine.systemctl("stop", "timmy-dialog.service")
    assert services.state("dialog") == "inactive"
    assert isinstance(services.ask("dialog", Ping()), Pong)
    assert services.restarts("dialog") == 0


def test_no_second_one_takes_the_socket(services: Services) -> None:
    for extra in ({}, {"TIMMY_STATE": "/tmp/second"}):
        environ = {"TIMMY_RUNTIME": "/run/timmy", "HOME": "/tmp", **extra}
        second = services.machine.run("/opt/timmy/bin/python", "-m", "daemons.dialog", environ=environ, check=False)
        assert second.returncode == 73
        assert "is held by systemd" in second.stderr
    assert isinstance(services.ask("dialog", Ping()), Pong)


def test_members_of_the_group_are_served_and_nobody_else(services: Services) -> None:
    machine = services.machine
    # They are there when this is tried again.
    machine.run("useradd", "--create-home", "--groups", "timmy", "member", check=False)
    machine.run("useradd", "--create-home", "stranger", check=False)
    environ = {"TIMMY_RUNTIME": "/run/timmy"}
    for user, served in (("member", True), ("stranger", False)):
        asked = machine.run(
            TIMMY, "probe", "dialog", user=user, environ=environ | {"HOME": f"/home/{user}"}, check=False
        )
        assert (asked.returncode == 0) is served, asked.stderr
        assert ('"pong"' in asked.stdout) is served
    found = machine.run(TIMMY, "probe", "dialog", user="member", environ={"HOME": "/home/member"})
    assert '"pong"' in found.stdout, "also without being told where"


# --- progress ---


def test_a_healthy_daemon_feeds_the_watchdog(services: Services) -> None:
    for daemon in DAEMONS:
        pid, fed = services.pid(daemon), partial(services.machine.show, f"timmy-{daemon}.service", FED)
        first = fed()
        until(partial(_differs, fed, first))
        assert services.pid(daemon) == pid


def _differs(look: Callable[[], str], before: str) -> bool:
    return look() != before


def test_an_engine_that_hangs_is_ended_by_the_watchdog_and_the_daemon_serves_again(services: Services) -> None:
    pid = services.pid("llm")

    async def hang() -> None:
        order(services.machine, "llm", Orders(fault="hang"))
        async with Client("llm", "test", folder=services.sockets) as llm:
            with pytest.raises(CallError):
                await llm.request(PROMPT, ttl_ms=60_000)

    asyncio.run(hang())
    order(services.machine, "llm", Orders())
    until(lambda: services.ready("llm"))
    assert services.pid("llm") != pid
    told = services.machine.run("journalctl", "--no-pager", "-u", "timmy-llm.service").stdout
    assert "Watchdog timeout" in told
    assert isinstance(services.ask("dialog", QUESTION), Answered)


@pytest.mark.parametrize("daemon", ["stt", "memory", "tts"])
def test_a_loop_that_does_not_turn_is_ended_by_the_watchdog(services: Services, daemon: str) -> None:
    pid = services.pid(daemon)
    order(services.machine, daemon, Orders(fault="block"))
    until(lambda: services.machine.show(f"timmy-{daemon}.service", "MainPID") != str(pid))
    order(services.machine, daemon, Orders())
    until(lambda: services.ready(daemon))


def test_an_answer_under_way_is_ended_within_the_time_to_stop(services: Services) -> None:
    order(services.machine, "llm", Orders(fault="endless"))

    async def test() -> None:
        async with Client("llm", "test", folder=services.sockets) as llm:
            await llm.wait_connected(30)
            stream = llm.open(Generate(messages=PROMPT.messages, max_tokens=4096))
            await anext(stream)
            await asyncio.to_thread(services.machine.systemctl, "stop", "timmy.target")
            with pytest.raises(CallError):
                await stream.result()

    asyncio.run(test())
    for daemon in DAEMONS:  # the target's own stop does not wait for them
        until(partial(_stopped, services, daemon), f"{daemon} stopped")
        assert services.machine.show(f"timmy-{daemon}.service", "Result") == "success", daemon
        assert services.machine.show(f"timmy-{daemon}.service", "ExecMainStatus") == "0", daemon
    assert not list(services.sockets.glob("*.sock"))


def _stopped(services: Services, daemon: str) -> bool:
    units = [f"timmy-{daemon}.{kind}" for kind in ("service", "socket")]
    return all(services.machine.show(unit, "ActiveState") in ("inactive", "failed") for unit in units)


# --- configuration ---


def test_a_reload_applies_what_can_be_and_says_what_cannot(services: Services) -> None:
    pid = services.pid("memory")
    services.machine.write("/etc/timmy/timmy.toml", "[memory]\nrelevance = 0.9\nthreads = 3\n")
    services.machine.systemctl("reload", "timmy-memory.service")
    until(lambda: "1 keys changed" in services.said("memory"), "the status tells")
    assert "memory.threads will hold after a restart" in services.said("memory")
    services.machine.write("/etc/timmy/timmy.toml", "[memory]\nrelevance = 0.9\nthreads = 3\n[llm]\nengin = 1\n")
    services.machine.systemctl("reload", "timmy-memory.service")
    until(lambda: "stays as it was" in services.said("memory"), "the status tells")
    assert "did you mean 'engine'" in services.said("memory")
    assert services.pid("memory") == pid


def test_a_wrong_configuration_is_not_tried_again_and_again(services: Services) -> None:
    services.machine.write("/etc/timmy/timmy.toml", "[stt]\nmodle = 1\n")
    services.machine.run("systemctl", "restart", "timmy-stt.service", check=False)
    until(lambda: services.machine.show("timmy-refused@stt.target", "ActiveState") == "active", "refused")
    assert services.machine.show("timmy-stt.service", "ExecMainStatus") == "78"
    assert services.restarts("stt") == 0
    assert services.machine.show("timmy-stt.socket", "ActiveState") == "inactive"
    assert "did you mean 'model'" in services.said("stt")
    assert services.ready("tts"), "the others go on"
    services.machine.write("/etc/timmy/timmy.toml", "")
    services.machine.systemctl("start", "timmy.target", "timmy-stt.socket")
    services.machine.systemctl("start", "timmy-stt.service")
    assert services.ready("stt")


# --- the journal ---


def test_the_journal_tells_the_story_of_a_turn_and_no_word_of_it(services: Services) -> None:
    environ = {"TIMMY_RUNTIME": "/run/timmy", "HOME": "/root"}
    secret = "Where is the zanzibar key?"

    def records_of(**fields: str) -> list[dict[str, str]]:
        wanted = [f"{name}={value}" for name, value in fields.items()]
        found = services.machine.run("journalctl", "--no-pager", "--output=json", *wanted).stdout
        return [json.loads(line) for line in found.splitlines()]

    def ended() -> list[str]:
        return [record["REQUEST_ID"] for record in records_of(DAEMON="dialog", STAGE="ended")]

    before = set(ended())
    services.machine.run(TIMMY, "ask", secret, environ=environ)
    (rid,) = until(lambda: set(ended()) - before, "the turn is in the journal")
    until(lambda: records_of(DAEMON="memory", REQUEST_ID=rid), "memory has its part in it, a moment after the end")
    services.machine.systemctl("stop", "timmy.target")  # all is written by then
    records = records_of(REQUEST_ID=rid)
    assert {"dialog", "llm", "memory"} <= {record["DAEMON"] for record in records}
    assert {"heard", "first_token", "ended"} <= {record.get("STAGE") for record in records}
    assert all(len(record["MESSAGE_ID"]) == 32 for record in records if "MESSAGE_ID" in record)
    everything = services.machine.run("journalctl", "--no-pager", "--all").stdout
    assert "zanzibar" not in everything.casefold().replace(f"{TIMMY} ask {secret}".casefold(), "")


# --- what the command says of it ---


def test_status_and_doctor_see_what_systemd_sees(services: Services) -> None:
    environ = {"TIMMY_RUNTIME": "/run/timmy", "HOME": "/root", "TIMMY_CACHE": "/var/cache/timmy"}
    services.machine.run("systemctl", "reset-failed", "timmy-*", check=False)
    services.kill("tts")
    until(lambda: services.ready("tts"))
    seen = json.loads(services.machine.run(TIMMY, "status", "--json", environ=environ).stdout)
    unit = seen["tts"]["unit"]
    assert (unit["state"], unit["last_exit"], unit["watchdog_s"]) == ("active (running)", "signal 9", WATCHDOG_S)
    assert unit["restarts"] >= 1
    table = services.machine.run(TIMMY, "status", environ=environ).stdout
    assert "signal 9" in table
    told = services.machine.run(TIMMY, "doctor", "--json", environ=environ, check=False).stdout
    checks = {check["name"]: check for check in json.loads(told)["checks"]}
    assert "tts" in checks["services"]["found"]
    assert (checks["sandbox"]["state"], "stt 0." in checks["sandbox"]["found"]) == ("good", True)


def test_doctor_says_who_lacks_the_group(services: Services) -> None:
    services.machine.run("useradd", "--create-home", "outsider", check=False)
    told = services.machine.run(
        TIMMY, "doctor", "--json", user="outsider", environ={"HOME": "/home/outsider"}, check=False
    ).stdout
    checks = {check["name"]: check for check in json.loads(told)["checks"]}
    assert checks["group"]["advice"] == "sudo usermod -aG timmy $USER, then log in again"


def test_a_user_has_daemons_of_his_own_that_outlive_the_session(services: Services) -> None:
    machine = services.machine
    machine.systemctl("stop", "timmy.target")
    environ = session_of(machine, "owner")
    machine.run("cp", "-r", "/var/cache/timmy/models", "/opt/models")
    machine.run("mkdir", "-p", "/home/owner/.cache/timmy", user="owner")
    machine.run("cp", "-r", "/opt/models", "/home/owner/.cache/timmy/models", user="owner")
    machine.run(TIMMY, "install", "--user", user="owner", environ=environ)
    reports = json.loads(machine.run(TIMMY, "status", "--json", user="owner", environ=environ).stdout)
    assert {report["state"] for report in reports.values()} <= {"ready", "degraded"}
    assert {report["unit"]["state"] for report in reports.values()} == {"active (running)"}
    sockets = Path(f"/proc/{machine.leader}/root{environ['XDG_RUNTIME_DIR']}/timmy")
    assert sockets.stat().st_mode & 0o777 == 0o700
    _find_a_sound_server_elsewhere(machine, environ)
    machine.run(TIMMY, "uninstall", "--user", "--purge", user="owner", environ=environ)
    left = machine.run("find", "/home/owner", "-iname", "*timmy*").stdout
    assert left == ""
    assert not list(sockets.glob("*.sock"))


def _find_a_sound_server_elsewhere(machine: machines.Machine, environ: dict[str, str]) -> None:
    """As on WSL2: PULSE_SERVER names it, first to the shell alone, then to the user's systemd, too."""
    path = "/home/owner/PulseServer"
    bind = f"import pathlib, socket; pathlib.Path({path!r}).unlink(True); socket.socket(socket.AF_UNIX).bind({path!r})"
    machine.run("python3", "-c", bind, user="owner")
    machine.run("rm", "-f", f"{environ['XDG_RUNTIME_DIR']}/pulse/native")  # the session's own
    named = f"PULSE_SERVER=unix:{path}"
    shell = {**environ, "PULSE_SERVER": f"unix:{path}"}

    def told() -> dict[str, str]:
        said = machine.run(TIMMY, "doctor", "--json", user="owner", environ=shell, check=False).stdout
        return next(check for check in json.loads(said)["checks"] if check["name"] == "sound server")

    assert f"set-environment {named}" in told()["advice"]
    machine.run("systemctl", "--user", "set-environment", named, user="owner", environ=environ)
    assert told()["found"] == f"PulseAudio at unix:{path}"
