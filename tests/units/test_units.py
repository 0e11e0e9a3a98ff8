"""The unit files as they would be installed: what systemd makes of them, and how closed they are. None is started."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from daemons.config import Config, House, Llm, Network
from ipc.endpoints import DAEMONS
from tools.service.layout import HOUSE, NEAR, PARTS, SATELLITE, InstallError, Layout, Part, files, interpreter, layout

SCORES = {"stt": 9, "tts": 9, "memory": 6, "dialog": 6, "llm": 12, "satellite": 13}
"""The most that `systemd-analyze security` may find, in tenths."""

AT_HOME = Config(house=House(address="192.0.2.7", key="k" * 40))
"""What a satellite is told."""

SYSTEMD = 252
"""The oldest one that is supported: what it does not know must not be in its files."""


def stage(
    folder: Path, scope: str, settings: Config | None = None, version: int = SYSTEMD, part: Part = HOUSE
) -> dict[str, str]:
    """The files, written into a folder for unit files; gives the environment in which systemd looks there first."""
    where = layout(scope, folder / "prefix", {"HOME": str(folder)})
    for path, text in files(where, version, Path(sys.executable), settings or Config(), part).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    runtime = folder / "run"
    runtime.mkdir(exist_ok=True)
    return os.environ | {"SYSTEMD_UNIT_PATH": f"{where.units}:", "XDG_RUNTIME_DIR": str(runtime)}


def analyze(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], env=environ, capture_output=True, text=True, check=False
    )


def units_of(environ: dict[str, str]) -> Path:
    """The folder for unit files."""
    return Path(environ["SYSTEMD_UNIT_PATH"].rstrip(":"))


def stage_for(folder: Path, service: str) -> dict[str, str]:
    """The system's files of the part that a service is of."""
    if service == "satellite":
        return stage(folder, "system", AT_HOME, part=SATELLITE)
    return stage(folder, "system")


def score(environ: dict[str, str], daemon: str, most: int) -> subprocess.CompletedProcess[str]:
    return analyze(environ, "security", "--offline=true", f"--threshold={most}", f"timmy-{daemon}.service")


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
@pytest.mark.parametrize("scope", ["system", "user"])
def test_systemd_finds_nothing_wrong(tmp_path: Path, scope: str, part: Part) -> None:
    environ = stage(tmp_path, scope, AT_HOME, part=part)
    units = sorted(units_of(environ).glob("timmy*.*"))
    found = analyze(environ, f"--{scope}", "verify", *(str(unit) for unit in units if unit.is_file()))
    ours = [line for line in found.stderr.splitlines() if "timmy" in line]
    assert (found.returncode, ours) == (0, [])


def test_what_is_wrong_would_be_found(tmp_path: Path) -> None:
    environ = stage(tmp_path, "system")
    unit = units_of(environ) / "timmy-stt.service"
    unit.write_text(unit.read_text("utf-8") + "PrivateTpm=yes\n", "utf-8")
    assert "PrivateTpm" in analyze(environ, "--system", "verify", str(unit)).stderr


@pytest.mark.parametrize("service", SCORES)
def test_every_unit_is_closed(tmp_path: Path, service: str) -> None:
    found = score(stage_for(tmp_path, service), service, SCORES[service])
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("service", SCORES)
def test_an_open_unit_would_be_found(tmp_path: Path, service: str) -> None:
    environ = stage_for(tmp_path, service)
    sandbox = units_of(environ) / "timmy-.service.d" / "15-sandbox.conf"
    sandbox.write_text(sandbox.read_text("utf-8").replace("CapabilityBoundingSet=\n", ""), "utf-8")
    assert score(environ, service, SCORES[service]).returncode != 0


def test_a_model_elsewhere_opens_one_address_and_no_model_elsewhere_none(tmp_path: Path) -> None:
    remote = Config(llm=Llm(engine="ollama", ollama_url="http://192.0.2.7:11434"))
    environ = stage(tmp_path, "system", remote)
    server = units_of(environ) / "timmy-llm.service.d" / "30-server.conf"
    assert server.read_text("utf-8").splitlines()[-1] == "IPAddressAllow=192.0.2.7"
    assert score(environ, "llm", 14).returncode == 0
    environ = stage(tmp_path, "system", Config(llm=Llm(engine="openai", openai_url="http://192.0.2.8:8000/v1")))
    assert server.read_text("utf-8").splitlines()[-1] == "IPAddressAllow=192.0.2.8"
    environ = stage(tmp_path, "system", Config(llm=Llm(engine="llama")))
    assert score(environ, "llm", 6).returncode == 0


@pytest.mark.parametrize(("listen", "allowed"), [("192.168.1.10", NEAR), ("fd00::7", NEAR), ("8.8.8.8", "any")])
def test_a_door_to_the_network_is_open_to_near_ones_only(tmp_path: Path, listen: str, allowed: str) -> None:
    environ = stage(tmp_path, "system", Config(network=Network(listen=listen)))
    units = units_of(environ)
    verified = analyze(environ, "--system", "verify", *(str(unit) for unit in units.glob("timmy-*.service")))
    assert [line for line in verified.stderr.splitlines() if "timmy" in line] == []
    for daemon in DAEMONS:
        door = (units / f"timmy-{daemon}.service.d" / "40-door.conf").read_text("utf-8").splitlines()
        assert door[-2:] == ["PrivateNetwork=no", f"IPAddressAllow={allowed}"]
        assert score(environ, daemon, 17).returncode == 0


def test_a_user_s_door_needs_families_only_and_without_it_there_is_none(tmp_path: Path) -> None:
    stage(tmp_path / "asked", "user", Config(network=Network(listen="192.168.1.10")))
    doors = list((tmp_path / "asked").rglob("40-door.conf"))
    assert len(doors) == len(DAEMONS)
    assert doors[0].read_text("utf-8").splitlines()[-1] == "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK"
    for scope in ("system", "user"):
        stage(tmp_path / scope, scope)
        assert not list((tmp_path / scope).rglob("40-door.conf"))


def test_a_satellite_reaches_its_house_and_nothing_without_one(tmp_path: Path) -> None:
    units = units_of(stage(tmp_path / "none", "system", part=SATELLITE))
    assert not (units / "timmy-satellite.service.d" / "35-house.conf").exists()
    units = units_of(stage(tmp_path / "house", "system", AT_HOME, part=SATELLITE))
    told = (units / "timmy-satellite.service.d" / "35-house.conf").read_text("utf-8")
    assert told.splitlines()[-1] == "IPAddressAllow=192.0.2.7"
    with pytest.raises(InstallError, match=r"address of 'no\.such\.invalid' \(house\.address\) is not known"):
        stage(tmp_path / "lost", "system", Config(house=House(address="no.such.invalid")), part=SATELLITE)


@pytest.mark.parametrize("scope", ["system", "user"])
def test_a_satellite_has_nothing_of_the_house_and_the_house_nothing_of_it(tmp_path: Path, scope: str) -> None:
    """But for what is the same for all services."""
    stage(tmp_path / "room", scope, AT_HOME, version=253, part=SATELLITE)
    stage(tmp_path / "house", scope, AT_HOME, version=253)
    room, house = ({path.name for path in (tmp_path / each).rglob("timmy*")} for each in ("room", "house"))
    account = {"timmy.conf"} if scope == "system" else set()
    assert room == {"timmy-satellite.service", "timmy-satellite.service.d", "timmy-.service.d", "timmy.slice"} | account
    assert not {name for name in house if "satellite" in name}


@pytest.mark.parametrize("version", [252, 253])
def test_a_satellite_is_not_asked_to_reload(tmp_path: Path, version: int) -> None:
    """SIGHUP would end it. The last word in the order of the files' names counts."""
    units = units_of(stage(tmp_path, "system", AT_HOME, version, SATELLITE))
    paths = [*units.glob("timmy-satellite.service.d/*"), *units.glob("timmy-.service.d/*")]
    lines = [line for path in sorted(paths, key=lambda path: path.name) for line in path.read_text("utf-8").split("\n")]
    last = {key: [line for line in lines if line.startswith(f"{key}=")][-1] for key in ("Type", "ExecReload")}
    assert last == {"Type": "Type=notify", "ExecReload": "ExecReload="}


def test_an_old_systemd_gets_no_newer_keys(tmp_path: Path) -> None:
    for version, newer in ((252, False), (253, True), (257, True)):
        stage(tmp_path / str(version), "system", version=version)
        assert bool(list((tmp_path / str(version)).rglob("20-notify-reload.conf"))) is newer


def test_every_file_that_is_shipped_is_in_the_wheel(built: Path) -> None:
    with zipfile.ZipFile(built) as wheel:
        packed = {name.partition("/data/share/timmy/systemd/")[2] for name in wheel.namelist()}
    root = Path(__file__).parent.parent.parent / "systemd"
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} <= packed


def test_a_program_that_the_sandbox_would_hide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    where: Layout = layout("system", None)
    monkeypatch.setattr(sys, "executable", "/home/kim/timmy/.venv/bin/python")
    with pytest.raises(InstallError, match="a system service cannot see it: install the program into /opt/timmy"):
        interpreter(where)
