"""The table of the README is made of what the benchmarks say, and tells what is not reached."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tools.bench import ALL, BENCHES, record
from tools.bench.figures import FIGURES, Figure

FOUND: Mapping[str, Any] = {"fast": {"p50": 20.0, "n": 7}, "slow": {"p50": 50.0}}


def figure(**limits: Any) -> Figure:
    return Figure("x", "ipc", ("slow", "p50"), ("fast", "n"), "x", by=("fast", "p50"), digits=1, **limits)


@pytest.mark.parametrize(
    ("limits", "measured", "target"),
    [
        ({}, "2.5 x", ""),
        ({"at_most": 2.5}, "2.5 x", "at most 2.5 x"),
        ({"at_most": 2.4}, "2.5 x, **not reached**", "at most 2.4 x"),
        ({"at_least": 2.5}, "2.5 x", "at least 2.5 x"),
        ({"at_least": 12}, "2.5 x, **not reached**", "at least 12.0 x"),
    ],
)
def test_a_figure_says_when_it_is_not_reached(limits: dict[str, float], measured: str, target: str) -> None:
    assert (figure(**limits).measured(FOUND), figure(**limits).target) == (measured, target)
    assert figure().count(FOUND) == "7"


def test_a_figure_in_another_unit() -> None:
    assert Figure("x", "idle", ("fast", "p50"), ("fast", "n"), "kB", scale=0.1).measured(FOUND) == "2 kB"


def test_every_figure_is_of_a_benchmark() -> None:
    assert {figure.bench for figure in FIGURES} <= set(BENCHES)
    assert len({figure.what for figure in FIGURES}) == len(FIGURES)


@pytest.mark.parametrize("name", ALL)
def test_every_benchmark_can_be_shown_from_its_json(name: str) -> None:
    assert callable(importlib.import_module(ALL[name].module).show)


@pytest.mark.parametrize("document", [record.README, record.DETAILS, record.PAGE])
def test_documents_have_a_place_for_figures(document: Path) -> None:
    text = document.read_text("utf-8")
    assert text.count(record.BEGIN) == text.count(record.END) == 1
    assert text.index(record.BEGIN) < text.index(record.END)


def test_what_is_written_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text(f"a\n{record.BEGIN}old\n{record.END}\nb\n", "utf-8")
    record._write(path, "new\n")
    assert path.read_text("utf-8") == f"a\n{record.BEGIN}new\n{record.END}\nb\n"
