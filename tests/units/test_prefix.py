"""Installing under a folder where systemd does not look: files are written and taken away again, nothing is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.service.install import _install_steps, install, uninstall
from tools.service.layout import HOUSE, SATELLITE, Layout, layout


class Prefix:
    """What is installed under a folder for a user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, *options: str) -> list[str]:
        return self._called(install, *options).splitlines()

    def uninstall(self) -> str:
        return self._called(uninstall)

    def _called(self, command: object, *options: str) -> str:
        done = CliRunner().invoke(command, ["--user", "--prefix", str(self.folder), *options])  # type: ignore[arg-type]
        assert done.exit_code == 0, done.output
        return done.output

    @property
    def noted(self) -> str:
        """What is done each time: writing down what is there."""
        return f"write   {self.folder}/share/timmy/installed.json"

    def files(self) -> set[str]:
        found = {path for path in self.folder.rglob("*") if path.is_symlink() or path.is_file()}
        return {path.relative_to(self.folder).as_posix() for path in found}


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prefix:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Prefix(tmp_path / "prefix")


def test_installing_again_changes_nothing(prefix: Prefix) -> None:
    prefix.install()
    before = prefix.files()
    assert "bin/timmy" in before
    assert prefix.install() == [prefix.noted]
    assert prefix.files() == before


def test_uninstalling_leaves_nothing(prefix: Prefix) -> None:
    prefix.install()
    prefix.uninstall()
    assert not prefix.folder.exists()


def test_a_satellite_beside_the_house_leaves_it_alone_and_so_does_the_house(prefix: Prefix) -> None:
    prefix.install()
    house = prefix.files()
    added = prefix.install("--satellite")
    assert added[-1] == prefix.noted
    assert all("timmy-satellite." in step for step in added[:-1])
    both = prefix.files()
    assert both - house == {each for each in both if "timmy-satellite." in each} != set()
    for options in ([], ["--satellite"]):
        assert prefix.install(*options) == [prefix.noted]
    assert prefix.files() == both
    prefix.uninstall()
    assert not prefix.folder.exists()


def test_what_a_part_does_not_need_any_more_goes_unless_the_other_does(prefix: Prefix) -> None:
    prefix.install()
    prefix.install("--satellite")
    manifest = prefix.folder / "share/timmy/installed.json"
    content = json.loads(manifest.read_text("utf-8"))
    old = {name: str(prefix.folder / name) for name in ("of-both", "of-the-house", "of-the-satellite")}
    for path in old.values():
        Path(path).touch()
    parts = {"of-both": "house satellite", "of-the-house": "", "of-the-satellite": "satellite"}  # "": an older release
    content["files"] |= {old[name]: parts[name] for name in old}
    manifest.write_text(json.dumps(content), "utf-8")
    assert prefix.install() == [f"remove  {old['of-the-house']}", prefix.noted]
    assert prefix.install("--satellite") == [f"remove  {old[name]}" for name in ("of-both", "of-the-satellite")] + [
        prefix.noted
    ]


def test_an_installed_satellite_needs_no_models(prefix: Prefix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "known", True)
    where = layout("user", prefix.folder)
    room, house = ("\n".join(map(str, _install_steps(where, part))) for part in (SATELLITE, HOUSE))
    assert "enable timmy-satellite.service" in room
    for other in ("models pull", "timmy.target", "timmy-stt"):
        assert (other in room, other in house) == (False, True)


@pytest.mark.parametrize("options", [[], ["--satellite"]])
def test_where_systemd_does_not_run_it_is_shown_what_would_be_done(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    done = CliRunner().invoke(install, ["--user", "--dry-run", *options])
    assert done.exit_code == 0, done.output
    assert str(tmp_path) in done.output
    assert not list(tmp_path.iterdir())
