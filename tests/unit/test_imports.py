"""The import rules of docs/adr/001-shape.md, read from the source, and the names that are this distribution's alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted(path for folder in ("ipc", "daemons", "tools") for path in (ROOT / folder).rglob("*.py"))
DAEMONS = ("stt", "dialog", "llm", "memory", "tts")
FOLDERS = (*DAEMONS, "satellite")
HEAVY = {"av", "ctranslate2", "faster_whisper", "gguf", "onnxruntime", "piper", "sounddevice", "tokenizers"}
HEAVY |= {"webrtcvad", "xllamacpp"}
LIBRARIES = HEAVY | {"apsw", "httpx", "huggingface_hub", "numpy", "ollama", "rich", "sqlite_vec", "zmq"}
USES_ZMQ = {"ipc/sockets.py", "ipc/security.py", "ipc/transport.py", "ipc/transport_far.py", "ipc/observation_far.py"}
USES_ZMQ |= {"tools/bench/peers.py"}
NOT_IN_A_CORE = LIBRARIES | {
    "asyncio",
    "concurrent",
    "datetime",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "select",
}
NOT_IN_A_CORE |= {"selectors", "signal", "socket", "subprocess", "threading", "time"}


def _imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Full names of what a file imports; `from a import b` gives a.b."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = _always_run(tree.body) if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: folders import under their own names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _always_run(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported; not those for type checkers only."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from _always_run([*node.body, *node.orelse])
        elif isinstance(node, ast.Try | ast.With):
            yield from _always_run(node.body)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_imports_go_one_way(path: Path) -> None:
    folder, *rest = path.relative_to(ROOT).parts
    for name in _imports(path):
        if folder == "ipc":
            assert not _under(name, "daemons", "tools")
        elif folder == "daemons":
            assert not _under(name, "tools")
            others = [f"daemons.{other}" for other in FOLDERS if other != rest[0]]
            assert not _under(name, *others), f"a daemon does not import another: {name}"
        elif _under(name, "daemons"):
            public = ["daemons.config", "daemons.catalogue"]
            public += ["daemons.engines", "daemons.stt"] if rest[0] == "bench" else []
            public += ["daemons.orders"] if rest[0] in ("harness", "chaos") else []
            exact = [f"daemons.{module.rpartition('.')[2]}" for module in public]
            assert _under(name, *public) or name in exact, f"tools use the public face of the daemons only: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_zmq_stays_behind_the_transport(path: Path) -> None:
    if _name(path) not in USES_ZMQ:
        assert not [name for name in _imports(path) if _under(name, "zmq")]


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_heavy_packages_are_imported_late_and_by_engines_only(path: Path) -> None:
    heavy = [name for name in _imports(path) if name.partition(".")[0] in HEAVY]
    assert not heavy or _name(path).startswith("daemons/engines/")
    at_once = [name for name in _imports(path, top_level_only=True) if name.partition(".")[0] in HEAVY]
    assert not at_once


@pytest.mark.parametrize("daemon", FOLDERS)
def test_a_core_is_pure(daemon: str) -> None:
    core = ROOT / "daemons" / daemon / "core.py"
    impure = [name for name in _imports(core) if name.partition(".")[0] in NOT_IN_A_CORE]
    assert not impure
    engines = [name for name in _imports(core) if _under(name, "daemons.engines")]
    assert all(_under(name, "daemons.engines.base") for name in engines)


@pytest.mark.parametrize("module", ["zmtp", "observing"])
def test_what_observers_say_is_read_without_a_socket(module: str) -> None:
    assert not [name for name in _imports(ROOT / "ipc" / f"{module}.py") if name.partition(".")[0] in NOT_IN_A_CORE]


@pytest.mark.parametrize("package", ["ipc", "daemons", "tools"])
def test_the_names_belong_to_this_distribution_alone(package: str) -> None:
    assert set(metadata.packages_distributions().get(package, [])) == {"timmy-daemons"}


@pytest.mark.parametrize("module", ["tools.cli", "ipc", "daemons.config", "daemons.catalogue"])
def test_light_modules_stay_light(module: str) -> None:
    """What `timmy --help` imports takes long when any of these comes with it."""
    script = f"import sys, {module}; print([name for name in {sorted(LIBRARIES)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
