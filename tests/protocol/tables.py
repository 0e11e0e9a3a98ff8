"""The tables of ipc/PROTOCOL.md as the code has them: python -m tests.protocol.tables writes them into it.

Of some tables the last column is prose: it is kept, and a row without it fails the test.
"""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

from msgspec import inspect as shape

from ipc import limits
from ipc.errors import Code
from ipc.marks import Stage
from ipc.messages import REGISTRY, ChatMessage, Kind, Memory, Stages
from ipc.session import TABLE
from tests.protocol.shapes import fields

FILE = Path(limits.__file__).with_name("PROTOCOL.md")
PROSE = frozenset({"messages", "codes", "stages"})
"""Tables whose last column is written by hand."""

_SENDER = {Kind.UP: "client", Kind.END: "client", Kind.CANCEL: "client", Kind.REQUEST: "client", Kind.CREDIT: "either"}
_NAMED = {
    r"\A[a-z0-9][a-z0-9_.-]{0,63}\Z": "conversation",
    r"\A(loading|ready|degraded|stopping)\Z": "loading, ready, degraded or stopping",
    r"\A(system|user|assistant)\Z": "system, user or assistant",
    r"\A(stop|length)\Z": "stop or length",
    r"\A(answered|failed|dropped|cancelled)\Z": "answered, failed, dropped or cancelled",
}
_LARGE = {limits.SEQ_MAX: "2^53", 2**63 - 1: "2^63-1", 1e9: "1e9", -1e9: "-1e9", 1e12: "1e12"}

Rows = list[list[str]]


def kind_of(field: shape.Type) -> str:
    """A type and its bounds in words."""
    match field:
        case shape.BoolType():
            return "bool"
        case shape.IntType() | shape.FloatType():
            name = "int" if isinstance(field, shape.IntType) else "float"
            return f"{name} {_number(field.ge)}..{_number(field.le)}"
        case shape.StrType(pattern=None):
            return f"str to {field.max_length}"
        case shape.StrType():
            return _NAMED[field.pattern or ""]
        case shape.BytesType():
            return f"bytes {field.max_length}"
        case shape.EnumType():
            return "code"
        case shape.ListType():
            return f"list to {field.max_length} of {kind_of(field.item_type)}"
        case shape.UnionType():
            return f"nil or {kind_of(next(t for t in field.types if not isinstance(t, shape.NoneType)))}"
        case shape.StructType():
            return f"map {field.cls.__name__}"
    raise AssertionError(f"no words for {field}")


def _number(value: float | None) -> str:
    assert value is not None
    return _LARGE.get(value, f"{value:g}" if isinstance(value, float) else str(value))


def _fields(of: tuple[shape.Field, ...]) -> str:
    words = []
    for field in of:
        default = "" if field.required else f" = {str(field.default).lower() if field.default != '' else 'empty'}"
        words.append(f"`{field.name}` {kind_of(field.type)}{default}")
    return "; ".join(words) or "none"


def messages() -> Rows:
    rows = []
    for name, cls in REGISTRY.items():
        credit = str(cls.CREDIT) if cls.KIND is Kind.REQUEST else ""
        rows.append([f"`{name}`", cls.KIND, _SENDER.get(cls.KIND, "server"), credit, _fields(fields(cls))])
    return rows


def maps() -> Rows:
    return [[f"`{cls.__name__}`", _fields(fields(cls))] for cls in (ChatMessage, Memory, Stages)]


def states() -> Rows:
    return [[state.name, side.name.lower(), kind, after.name] for (state, side, kind), after in TABLE.items()]


def every_limit() -> Rows:
    body = ast.parse(Path(limits.__file__).read_text("utf-8")).body
    rows = []
    for this, reason in itertools.pairwise(body):
        if isinstance(this, ast.Assign) and isinstance(reason, ast.Expr) and isinstance(reason.value, ast.Constant):
            name = ast.unparse(this.targets[0])
            rows.append([f"`{name}`", f"{getattr(limits, name):,}", " ".join(str(reason.value.value).split())])
    return rows


def codes() -> Rows:
    return [[f"`{code}`"] for code in Code]


def stages() -> Rows:
    return [[f"`{stage.name}`"] for stage in Stage]


TABLES = {
    "messages": messages,
    "maps": maps,
    "states": states,
    "limits": every_limit,
    "codes": codes,
    "stages": stages,
}


def block(name: str) -> re.Pattern[str]:
    """A table's rows: what stands between its head and the empty line after it."""
    return re.compile(rf"(<!-- {name} -->\n\|.*\|\n\|[-|]+\|\n)((?:\|.*\|\n)*)")


def written(name: str, text: str) -> Rows:
    """The rows of a table as they stand in the file."""
    found = block(name).search(text)
    assert found is not None, f"PROTOCOL.md has no table {name}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[2].splitlines()]


def refreshed(text: str) -> str:
    for name, make in TABLES.items():
        prose = {row[0]: row[-1] for row in written(name, text)} if name in PROSE else {}
        rows = [[*row, prose.get(row[0], "")] if name in PROSE else row for row in make()]
        lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        text = block(name).sub(lambda found, lines=lines: found[1] + lines, text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    FILE.write_text(refreshed(FILE.read_text("utf-8")), "utf-8")
