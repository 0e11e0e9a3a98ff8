"""`make bench`: runs every benchmark and writes what it gave into README.md and docs/figures.md, between marks.

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
from tools.bench import BENCHES
from tools.bench.figures import FIGURES
from tools.bench.machine import machine

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
DETAILS = ROOT / "docs" / "figures.md"
BEGIN, END = "<!-- figures: written by make bench -->\n", "<!-- end of figures -->"

SHORTER = {"truth": ["--turns", "30"]}
"""Options of benchmarks that would take longer than all the others."""

Results = Mapping[str, Mapping[str, Any]]
"""What each benchmark printed as JSON."""


def main() -> None:
    """Raises CalledProcessError when a benchmark fails; the documents then stay as they were."""
    began = time.monotonic()
    results: dict[str, dict[str, Any]] = {}
    for name, lazy in BENCHES.items():
        click.echo(f"--- {name}: {lazy.help}")
        command = [sys.executable, "-m", "tools.cli", "bench", name, *SHORTER.get(name, []), "--json"]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        results[name] = json.loads(printed)
        click.echo(shown(name, results[name]))
    head = f"On {machine()}, {time.strftime('%-d %B %Y')}, with {_models()}:\n"
    _write(README, f"{head}\n{table(results)}\n\n{_block('turn', results)}")
    _write(DETAILS, "\n".join([head, *(_block(name, results) for name in BENCHES)]))
    click.echo(f"{(time.monotonic() - began) / 60:.0f} minutes; README.md and docs/figures.md are up to date")


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
        importlib.import_module(BENCHES[name].module).show(figures)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def _block(name: str, results: Results) -> str:
    return f"`timmy bench {name}` · {BENCHES[name].help}\n\n```\n{shown(name, results[name])}\n```\n"


def _models() -> str:
    """What the daemons were measured with, if the configuration names nothing else."""
    used = config.Config()
    return f"{used.stt.model}, {used.llm.model}, {used.memory.embedder} and {used.tts.voice}"


def _write(path: Path, fresh: str) -> None:
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    path.write_text(before + BEGIN + fresh + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
