"""What a daemon is made of, as one sum: it changes when the daemon has to be restarted for an upgrade."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
OURS = ("daemons", "ipc")


def footprint(daemon: str, units: Iterable[str]) -> str:
    """The sum of every module of ours that it imports, the data beside them, the packages that are installed and
    the text of its unit files."""
    total = hashlib.sha256()
    for path in sorted(_files(daemon)):
        total.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    for text in (*sorted(f"{each.name}=={each.version}" for each in metadata.distributions()), *units):
        total.update(text.encode() + b"\0")
    return total.hexdigest()


def _files(daemon: str) -> set[Path]:
    modules = _closure(f"daemons.{daemon}.__main__")
    data = {each for path in modules for each in path.parent.glob("*") if each.suffix in (".wav", ".json", ".tsv")}
    return modules | data


def _closure(start: str) -> set[Path]:
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        path = _source(waiting.pop())
        if path is not None and path not in found:
            found.add(path)
            waiting += _imports(path)
    return found


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _source(module: str) -> Path | None:
    if module.partition(".")[0] not in OURS:
        return None
    base = ROOT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)
