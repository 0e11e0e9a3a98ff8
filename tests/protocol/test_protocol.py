"""PROTOCOL.md says what the code does: every type, field, bound, transition, limit, code and stage."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import pytest
from msgspec import inspect as shape

from daemons.config import Config
from ipc import limits
from ipc.codec import _Incoming
from ipc.endpoints import DAEMONS
from ipc.errors import Code
from ipc.marks import Stage
from ipc.messages import FEATURES, REGISTRY, Kind
from ipc.session import TABLE, State
from tests.protocol.shapes import fields
from tests.protocol.tables import FILE, PROSE, TABLES, kind_of, refreshed, written

TEXT = FILE.read_text("utf-8")


def test_the_tables_are_those_of_the_code() -> None:
    assert refreshed(TEXT) == TEXT, "run python -m tests.protocol.tables, then write the new last columns"


@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_there_once_and_says_something(table: str) -> None:
    rows = written(table, TEXT)
    assert len({tuple(row[:3]) for row in rows}) == len(rows) > 0
    if table in PROSE:
        assert [row[0] for row in rows if len(row[-1]) < 8] == []


def test_the_tables_are_complete() -> None:
    def names(table: str) -> set[str]:
        return {row[0].strip("`") for row in written(table, TEXT)}

    assert names("messages") == set(REGISTRY)
    assert names("codes") == set(Code)
    assert names("stages") == set(Stage.__members__)
    assert names("limits") == {name for name in vars(limits) if name.isupper()}
    assert len(written("states", TEXT)) == len(TABLE)
    for name, cls in REGISTRY.items():
        (row,) = [row for row in written("messages", TEXT) if row[0] == f"`{name}`"]
        assert re.findall(r"`(\w+)` ", row[4]) == [field.name for field in fields(cls)]


def test_the_header_is_that_of_the_codec() -> None:
    listed = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", TEXT.split("## Framing")[1].split("## Requests")[0], re.M)
    expected = [(field.name, _words(field.type)) for field in fields(_Incoming)]
    assert listed == expected


def _words(kind: shape.Type) -> str:
    return "map" if isinstance(kind, shape.RawType) else kind_of(kind)


def _exchanges() -> Iterator[tuple[str, str, dict[Kind, set[str]]]]:
    part = TEXT.split("<!-- exchanges -->")[1].split("## ")[0]
    for line in part.splitlines():
        if line.startswith("| `"):
            request, daemon, *cells = line.strip("| ").split(" | ")
            named = [set(re.findall(r"`(\w+)`", cell)) for cell in cells]
            yield request.strip("`"), daemon, dict(zip((Kind.UP, Kind.DOWN, Kind.DONE), named, strict=True))


def test_every_message_belongs_to_a_request() -> None:
    exchanges = list(_exchanges())
    assert [request for request, _, _ in exchanges] == [n for n, c in REGISTRY.items() if c.KIND is Kind.REQUEST]
    for kind in (Kind.UP, Kind.DOWN, Kind.DONE):
        used = set().union(*(named[kind] for _, _, named in exchanges))
        assert used == {name for name, cls in REGISTRY.items() if cls.KIND is kind}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_each_daemon_serves_what_is_written(daemon: str) -> None:
    service = getattr(importlib.import_module(f"daemons.{daemon}.service"), f"{daemon.capitalize()}Service")
    served = {kind.type_name() for kind in service(Config()).handlers()}
    assert served == {request for request, where, _ in _exchanges() if where == daemon}


def test_what_the_prose_names_exists() -> None:
    known = {*vars(limits), *Stage.__members__, *State.__members__}
    known |= {"TIMMY_RUNTIME", "XDG_RUNTIME_DIR", "CLOCK_MONOTONIC", "SO_PEERCRED", "ZMQ_ZAP_ENFORCE_DOMAIN"}
    known |= {"ZMQ_HEARTBEAT_IVL", "ZMQ_RCVHWM", "ZMQ_CURVE_SERVERKEY"}
    assert set(re.findall(r"`([A-Z][A-Z_]+)`", TEXT)) <= known
    assert f"version {limits.PROTOCOL_VERSION}\n" in TEXT
    assert f"Features now: {', '.join(f'`{name}`' for name in FEATURES)}." in TEXT
