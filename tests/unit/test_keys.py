"""The files of keys: closed to others, replaced whole, and told in one line when they cannot be used."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ipc import keys
from ipc.access import Guest, Role
from ipc.errors import EXIT_CONFIG, ConfigError
from ipc.network import House, house, listening
from ipc.security import new_secret, public_of
from tools import cli

KITCHEN = Guest("k" * 40, Role.SATELLITE, "kitchen")
DESK = Guest("d" * 40, Role.VIEWER, "desk")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "timmy" / "keys"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- files ---


def test_what_is_written_is_closed_to_others(folder: Path) -> None:
    keys.write_secret(folder, "s" * 40)
    keys.allow(folder, KITCHEN)
    assert _mode(folder) == 0o700
    assert [_mode(path) for path in (keys.secret_path(folder), keys.allowed_path(folder))] == [0o600, 0o600]
    assert keys.read_secret(folder) == "s" * 40
    assert keys.read_allowed(folder) == [KITCHEN]
    assert sorted(path.name for path in folder.iterdir()) == ["allowed", "secret"]


def test_a_secret_key_is_never_one_that_an_option_looks_like() -> None:
    assert all(public_of(new_secret())[0].isalnum() for _ in range(50))


@pytest.mark.parametrize(("file", "mode"), [("secret", 0o644), ("secret", 0o640), ("allowed", 0o620), ("", 0o750)])
def test_files_that_others_can_read_or_replace_are_not_used(folder: Path, file: str, mode: int) -> None:
    keys.write_secret(folder, "s" * 40)
    keys.allow(folder, KITCHEN)
    (folder / file).chmod(mode)
    with pytest.raises(ConfigError, match="others: chmod"):
        listening("127.0.0.1", 7870, folder)


def test_without_a_key_there_is_no_network(folder: Path) -> None:
    with pytest.raises(ConfigError, match="timmy keys new"):
        listening("127.0.0.1", 7870, folder)
    with pytest.raises(ConfigError, match="timmy keys new"):
        house("house", 7870, "k" * 40, folder)


@pytest.mark.parametrize("text", ["", "short\n", "s" * 41, "s" * 39 + "ä"])
def test_a_file_that_holds_no_key_is_told(folder: Path, text: str) -> None:
    keys.write_secret(folder, "s" * 40)
    keys.secret_path(folder).write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="holds no key"):
        keys.read_secret(folder)


@pytest.mark.parametrize(
    "line", ["kitchen satellite", f"Kitchen satellite {'k' * 40}", f"kitchen king {'k' * 40}", f"a viewer {'k' * 39}"]
)
def test_a_line_that_is_none_is_told_with_its_number(folder: Path, line: str) -> None:
    keys.allow(folder, KITCHEN)
    with keys.allowed_path(folder).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ConfigError, match="allowed:2: not a line"):
        keys.read_allowed(folder)


@pytest.mark.parametrize(
    ("guest", "reason"),
    [
        (Guest("k" * 39, Role.VIEWER, "a"), "is no key"),
        (Guest("k" * 39 + "ä", Role.VIEWER, "a"), "is no key"),
        (Guest("z" * 40, Role.SATELLITE, "home"), "is no name"),
        (Guest("z" * 40, Role.SATELLITE, "Kitchen"), "is no name"),
        (Guest("z" * 40, Role.SATELLITE, "a b"), "is no name"),
        (Guest("z" * 40, Role.SATELLITE, "x" * 65), "is no name"),
        (Guest("z" * 40, Role.VIEWER, "kitchen"), "timmy keys revoke kitchen"),
        (Guest("k" * 40, Role.VIEWER, "other"), "allowed already, as satellite 'kitchen'"),
    ],
)
def test_what_cannot_be_allowed(folder: Path, guest: Guest, reason: str) -> None:
    keys.allow(folder, KITCHEN)
    with pytest.raises(ConfigError, match=reason):
        keys.allow(folder, guest)
    assert keys.read_allowed(folder) == [KITCHEN]


def test_revoking_takes_one_name_off_the_list(folder: Path) -> None:
    keys.allow(folder, KITCHEN)
    keys.allow(folder, DESK)
    assert keys.revoke(folder, "kitchen") == KITCHEN
    assert keys.read_allowed(folder) == [DESK]
    with pytest.raises(ConfigError, match="no key is named 'kitchen'; allowed are: desk"):
        keys.revoke(folder, "kitchen")


# --- the list as it is now ---


def test_the_ring_sees_what_changes(folder: Path) -> None:
    keys.write_secret(folder, "s" * 40)
    ring = keys.Keyring(folder)
    assert ring.guest(KITCHEN.key) == Guest(KITCHEN.key)
    keys.allow(folder, KITCHEN)
    assert ring.guest(KITCHEN.key) == KITCHEN
    keys.allow(folder, DESK)
    assert ring.keys({Role.VIEWER}) == {DESK.key}
    keys.revoke(folder, "kitchen")
    assert ring.guest(KITCHEN.key).role is None
    assert ring.guest(DESK.key) == DESK


@pytest.mark.parametrize("spoil", ["damage", "open", "remove"])
def test_a_list_that_cannot_be_read_allows_nobody(folder: Path, spoil: str, caplog: pytest.LogCaptureFixture) -> None:
    keys.allow(folder, KITCHEN)
    ring = keys.Keyring(folder)
    path = keys.allowed_path(folder)
    if spoil == "damage":
        path.write_text("rubbish\n")
    elif spoil == "open":
        path.chmod(0o644)
    else:
        path.unlink()
    assert ring.guest(KITCHEN.key).role is None
    assert ring.guest(KITCHEN.key).role is None
    assert caplog.text.count("no key is allowed") == (spoil != "remove")


# --- addresses ---


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "0::0", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1"])
def test_all_addresses_at_once_are_refused(folder: Path, address: str) -> None:
    keys.write_secret(folder, "s" * 40)
    with pytest.raises(ConfigError, match="name one"):
        listening(address, 7870, folder)


def test_a_name_is_no_address(folder: Path) -> None:
    keys.write_secret(folder, "s" * 40)
    with pytest.raises(ConfigError, match="not an IP address"):
        listening("localhost", 7870, folder)


def test_each_daemon_has_two_ports_of_its_own(folder: Path) -> None:
    keys.write_secret(folder, "s" * 40)
    network = listening("192.168.1.10", 7870, folder)
    assert network is not None
    assert network.endpoint("stt") == "tcp://192.168.1.10:7870"
    assert network.endpoint("dialog", observer=True) == "tcp://192.168.1.10:7873"
    assert House("fe80::1", 8000, "", "").endpoint("tts") == "tcp://[fe80::1]:8008"


def test_nothing_listens_unless_asked(folder: Path) -> None:
    assert listening("", 7870, folder) is None


@pytest.mark.parametrize(("address", "key", "missing"), [("", "k" * 40, "address"), ("house", "", "key")])
def test_a_house_needs_an_address_and_a_key(folder: Path, address: str, key: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=rf"house\.{missing} is not set"):
        house(address, 7870, key, folder)


# --- the command ---


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in [name for name in os.environ if name.startswith("TIMMY_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "timmy" / "keys"


def test_new_show_allow_list_and_revoke(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert cli.run(["keys", *arguments]) == 0
        return capsys.readouterr().out.strip()

    key = said("new")
    assert key == said("show") == public_of(keys.read_secret(at_home))
    assert json.loads(said("show", "--json")) == {"key": key, "folder": str(at_home)}
    assert said("list") == "no key is allowed"
    assert "kitchen may come in" in said("allow", KITCHEN.key, "--as", "satellite", "--name", "kitchen")
    assert json.loads(said("list", "--json")) == [{"name": "kitchen", "role": "satellite", "key": KITCHEN.key}]
    assert KITCHEN.key in said("list")
    assert "let in no more" in said("revoke", "kitchen")
    assert keys.read_allowed(at_home) == []
    assert said("new", "--replace") != key


def test_the_secret_is_never_printed(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["new"], ["show"], ["show", "--json"], ["list"]):
        assert cli.run(["keys", *arguments]) == 0
    said = capsys.readouterr()
    assert keys.read_secret(at_home) not in said.out + said.err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["show"], EXIT_CONFIG),
        (["revoke", "nobody"], EXIT_CONFIG),
        (["allow", "short", "--as", "viewer", "--name", "desk"], EXIT_CONFIG),
        (["allow", "k" * 40, "--as", "king", "--name", "desk"], 2),
        (["allow", "k" * 40, "--name", "desk"], 2),
    ],
)
def test_what_is_wrong_is_one_line(
    at_home: Path, arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["keys", *arguments]) == status
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert status == 2 or said.count("\n") == 1


def test_a_second_new_key_needs_a_word_more(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["keys", "new"]) == 0
    before = keys.read_secret(at_home)
    assert cli.run(["keys", "new"]) == EXIT_CONFIG
    assert "--replace" in capsys.readouterr().err
    assert keys.read_secret(at_home) == before
