"""Installing under a folder where systemd does not look: files are written and taken away again, nothing is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.service.install import install, uninstall


class Prefix:
    """What is installed under a folder for a user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, *options: str) -> str:
        return self._called(install, *options)

    def uninstall(self) -> str:
        return self._called(uninstall)

    def _called(self, command: object, *options: str) -> str:
        done = CliRunner().invoke(command, ["--user", "--prefix", str(self.folder), *options])  # type: ignore[arg-type]
        assert done.exit_code == 0, done.output
        return done.output

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
    assert prefix.install().splitlines() == [f"write   {prefix.folder}/share/timmy/installed.json"]
    assert prefix.files() == before


def test_uninstalling_leaves_nothing(prefix: Prefix) -> None:
    prefix.install()
    prefix.uninstall()
    assert not prefix.folder.exists()
