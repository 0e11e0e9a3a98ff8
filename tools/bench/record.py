"""`make bench`: runs every benchmark and writes what it gave into README.md and docs/figures.md, between marks.
`make bench-settings` does so with `timmy bench settings` and docs/settings.md.

No figure there is typed by hand.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from daemons import config
from tools.bench import ALL, BENCHES
from tools.bench.figures import FIGURES
from tools.bench.machine import machine

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
DETAILS = ROOT / "docs" / "figures.md"
PAGE = ROOT / "docs" / "settings.md"
BEGIN, END = "<!-- figures: written by make bench -->\n", "<!-- end of figures -->"

OPTIONS = {"truth": ["--turns", "30"], "turn": ["--rounds", "5"]}
"""What is asked of benchmarks beside their defaults: one shorter than by itself, one as often as its targets want."""

Results = Mapping[str, Mapping[str, Any]]
"""What each benchmark printed as JSON."""


def main() -> None:
    """Raises CalledProcessError when a benchmark fails; the documents then stay as they were."""
    began = time.monotonic()
    results: dict[str, dict[str, Any]] = {}
    for name in BENCHES:
        results[name] = _run(name, *OPTIONS.get(name, []))
    head = _head()
    _write(README, f"{head}\n{table(results)}\n\n{_block('turn', results)}")
    _write(DETAILS, "\n".join([head, *(_block(name, results) for name in BENCHES)]))
    click.echo(f"{(time.monotonic() - began) / 60:.0f} minutes; README.md and docs/figures.md are up to date")


def settings(rounds: str) -> None:
    """Raises CalledProcessError when the benchmark fails; the page then stays as it was."""
    results = {"settings": _run("settings", "--rounds", rounds)}
    _write(PAGE, f"{_head()}\n{_block('settings', results)}")


def _run(name: str, *options: str) -> dict[str, Any]:
    click.echo(f"--- {name}: {ALL[name].help}")
    command = [sys.executable, "-m", "tools.cli", "bench", name, *options, "--json"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(printed)
    click.echo(shown(name, found))
    return found


def _head() -> str:
    return f"On {machine()}, {time.strftime('%-d %B %Y')}, with {_models()}:\n"


def table(results: Results) -> str:
    """Each of FIGURES as a row in Markdown."""
    rows = ["| figure | measured | target | n | `timmy bench` |", "|---|---|---|---|---|"]
    for figure in FIGURES:
        found = results[figure.bench]
        cells = (figure.what, figure.measured(found), figure.target, figure.count(found), f"`{figure.bench}`")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def shown(name: str, figures: Mapping[str, Any]) -> str:
    """What the benchmark prints for a person."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        importlib.import_module(ALL[name].module).show(figures)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def _block(name: str, results: Results) -> str:
    return f"`timmy bench {name}` · {ALL[name].help}\n\n```\n{shown(name, results[name])}\n```\n"


def _models() -> str:
    """What the daemons were measured with, if the configuration names nothing else."""
    used = config.Config()
    return f"{used.stt.model}, {used.llm.model}, {used.memory.embedder} and {used.tts.voice}"


def _write(path: Path, fresh: str) -> None:
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    path.write_text(before + BEGIN + fresh + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    settings(sys.argv[1]) if sys.argv[1:] else main()
