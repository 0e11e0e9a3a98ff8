"""`timmy latency` in this process, over one folder of traces, and on a terminal of a known width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ipc.errors import EXIT_OK
from tools import cli
from tools.latency import display


class Timmy:
    """`timmy latency` over one folder of traces."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.err = ""

    def __call__(self, command: str, *arguments: str, status: int = EXIT_OK) -> str:
        """What it prints; `err` then is what it said beside."""
        assert cli.run(["latency", command, "--trace", str(self.folder), *arguments]) == status
        out, self.err = self._capsys.readouterr()
        return out

    def json(self, command: str, *arguments: str) -> Any:
        return json.loads(self(command, *arguments, "--json"))


def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> int:
    """From now on it prints to a terminal of 80 columns without colours; returns the 80."""

    def console() -> Console:
        return Console(
            width=80, force_terminal=True, no_color=True, highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    monkeypatch.setattr(display, "console", console)
    monkeypatch.setenv("TERM", "dumb")
    return 80
