"""`timmy bench ipc` measures what it says. No figure is asserted: machines differ."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.bench import BENCHES, peers
from tools.bench.ipc import ROWS, run
from tools.cli import cli


def test_each_row_is_measured() -> None:
    figures = run(1)
    assert tuple(figures) == ROWS
    for row in figures.values():
        assert 0 < row["p50_us"] <= row["p99_us"]


def test_as_json_and_as_a_table() -> None:
    as_json = CliRunner().invoke(cli, ["bench", "ipc", "--rounds", "1", "--json"])
    assert as_json.exit_code == 0, as_json.output
    assert {"request", "bare_pyzmq", "unix_raw", "http_pooled", "http_new"} <= set(json.loads(as_json.stdout))
    table = CliRunner().invoke(cli, ["bench", "ipc", "--rounds", "1"])
    assert all(name in table.stdout for name in ROWS)


def test_every_benchmark_has_its_help() -> None:
    listed = CliRunner().invoke(cli, ["bench", "--help"])
    for name, lazy in BENCHES.items():
        assert lazy.help in listed.stdout
        assert CliRunner().invoke(cli, ["bench", name, "--help"]).exit_code == 0


@pytest.mark.parametrize("name", ["bare_blocking", "unix_raw", "http_pooled", "http_new"])
def test_what_it_is_compared_with_answers_the_same_words(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    server = name if name in peers.SERVERS else "http"
    with peers.serving(server, Path(tmp_path_factory.mktemp("b"))) as where, getattr(peers, name)(where) as ask:
        assert ask() in (peers.PLAIN, [peers.FRAME])


def test_the_bare_echo_on_a_loop_answers_the_same_bytes(tmp_path_factory: pytest.TempPathFactory) -> None:
    async def test(where: str) -> None:
        with peers.bare_pyzmq(where) as ask:
            for _ in range(50):
                assert await ask() == [peers.FRAME]

    with peers.serving("bare_pyzmq", Path(tmp_path_factory.mktemp("b"))) as where:
        asyncio.run(test(where))
