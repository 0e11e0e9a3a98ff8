"""The file that `timmy latency report` makes: no word in it can break it, all eyes can read it, and it is whole."""

from __future__ import annotations

import html.parser
import itertools
import json
import os
import re
import resource
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import EXIT_CANT_CREATE, EXIT_NO_INPUT
from tests.support.latency import Timmy
from tests.support.traces import House
from tools.latency.report import embedded, page
from tools.latency.stages import NAMES, UNACCOUNTED


class _Scripts(html.parser.HTMLParser):
    """What a page's elements are, and what stands in its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"]:
            self.scripts.append(data)


HOSTILE = (
    "</script><script>",
    "<!--",
    "]]>",
    "\u2028\u2029",
    "&lt;",
    "\x00\x1b",
    "${x}",
    "$data",
    "\\u003c",
    "\U0001f600",
)


@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), max_size=8).map("".join))
def test_no_word_breaks_the_page(text: str) -> None:
    found = _Scripts()
    found.feed(page({"heard": text}))
    assert found.tags.count("script") == 2
    assert json.loads(found.scripts[0]) == {"heard": text}
    assert embedded({"heard": text}).isascii()


def test_a_number_that_is_none_is_never_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded({"ms": float("nan")})


def test_the_page_is_for_its_owner_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with House(tmp_path / "trace") as house:
        house.turn()
    target = tmp_path / "report.html"
    said = Timmy(tmp_path / "trace", capsys)("report", "--html", str(target))
    assert said.startswith(f"{target}: 1 turn, ")
    assert target.stat().st_mode & 0o777 == 0o600
    assert "$" + "{" not in target.read_text("utf-8").partition("<script")[0]


def test_earlier_turns_are_named_for_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, ms in (("before", 9.0), ("after", 99.0)):
        with House(tmp_path / name) as house:
            for number in range(12):
                house.turn({"recall": ms + number % 3})
    target = tmp_path / "report.html"
    Timmy(tmp_path / "after", capsys)("report", "--html", str(target), "--against", str(tmp_path / "before"))
    found = _Scripts()
    found.feed(target.read_text("utf-8"))
    compared = json.loads(found.scripts[0])["compare"]
    pair = compared["pairs"][0]
    assert [compared["sets"][pair[name]]["name"] for name in "ab"] == [str(tmp_path / "before"), "this report"]
    assert pair["rows"]["recall"]["verdict"] == "slower"
    assert pair["rows"]["recall"]["p50"][:2] == [10.0, 100.0]


def test_what_cannot_be_written_is_said_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timmy = Timmy(tmp_path / "no-traces", capsys)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target, why in (
        (tmp_path, "is a folder"),
        (pipe, "is a device or a pipe"),
        (tmp_path / "missing" / "report.html", "there is no folder"),
    ):
        timmy("report", "--html", str(target), status=EXIT_CANT_CREATE)
        assert why in timmy.err
        assert timmy.err.count("\n") == 1
    assert pipe.is_fifo()


def test_a_link_goes_on_leading_to_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with House(tmp_path / "trace") as house:
        house.turn()
    link, target = tmp_path / "link.html", tmp_path / "report.html"
    link.symlink_to(target)
    Timmy(tmp_path / "trace", capsys)("report", "--html", str(link))
    assert link.is_symlink()
    assert target.read_text("utf-8").startswith("<!doctype html>")


def test_where_nothing_may_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with House(tmp_path) as house:
        house.turn()
    timmy = Timmy(tmp_path, capsys)
    timmy("report", "--html", "/proc/report.html", status=EXIT_CANT_CREATE)
    assert timmy.err.startswith("timmy: /proc/report.html: ")
    assert timmy.err.count("\n") == 1


def test_without_a_turn_there_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with House(tmp_path) as house:
        house.turn()
    timmy = Timmy(tmp_path, capsys)
    timmy("report", "--html", str(tmp_path / "report.html"), "--session", "nobody", status=EXIT_NO_INPUT)
    assert not (tmp_path / "report.html").exists()


def test_a_full_disk_leaves_the_older_page(tmp_path: Path) -> None:
    with House(tmp_path / "trace") as house:
        house.turn()
    target = tmp_path / "report.html"
    target.write_text("older")
    command = [
        sys.executable,
        "-m",
        "tools.cli",
        "latency",
        "report",
        "--html",
        str(target),
        "--trace",
        str(tmp_path / "trace"),
    ]

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=full, check=False)
    assert done.returncode == EXIT_CANT_CREATE
    assert done.stderr == f"timmy: {target}: File too large\n"
    assert target.read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "trace"]


# Machado, Oliveira and Fernandes 2009, severity 1: what people without one kind of cone see, in linear RGB.
CONES = {
    "all": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def _lab(colour: str, cones: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """CIE L*a*b* (D65) of `#rrggbb` as these eyes see it."""
    srgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(CONES[cones] @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = np.cbrt(to_xyz @ seen / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("cones", CONES)
@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_stages_are_told_apart_by_all_eyes(cones: str, scheme: int) -> None:
    """Colour differences: 10 is seen where colours are looked for, 15 where they may touch, in a stacked bar."""
    style = (resources.files("tools.latency") / "page" / "page.css").read_text("utf-8")
    colours = {
        name: re.findall(r"#[0-9a-f]{6}", line)[scheme] for name, line in re.findall(r"--(\w+): (light-dark.*);", style)
    }
    names = [name for name in NAMES if name != UNACCOUNTED]  # that one is hatched
    seen = [_lab(colours[name], cones) for name in names]
    alike = {
        (names[a], names[b]): round(distance)
        for a, b in itertools.combinations(range(len(names)), 2)
        if (distance := float(np.linalg.norm(seen[a] - seen[b]))) < (15 if b - a <= 2 else 10)
    }
    assert alike == {}
