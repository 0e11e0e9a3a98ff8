"""Configuration: timmy.toml by the XDG rules, TIMMY_* of the environment over it, typed and checked.

One struct a table of the file. The commented default (timmy.toml beside this file) names every key; a test
compares the two. `load()` raises ConfigError with one line: where, what is wrong, what is allowed.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from ipc.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
Threads = Annotated[int, Meta(ge=0, le=256)]
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Stt(_Table, frozen=True):
    model: str = "tiny.en"
    device: Device = "auto"
    threads: Threads = 2
    input: str = "auto"
    vad_aggressiveness: Annotated[int, Meta(ge=0, le=3)] = 2
    candidate_silence_ms: Milliseconds = 200
    confirm_silence_ms: Milliseconds = 500
    language: str = "en"


class Dialog(_Table, frozen=True):
    assistant_name: str = "Timmy"
    persona: str = ""
    recall_limit: Annotated[int, Meta(ge=1, le=20)] = 3
    history_turns: Annotated[int, Meta(ge=0, le=100)] = 12
    max_answer_tokens: Annotated[int, Meta(ge=1, le=4096)] = 120


class Llm(_Table, frozen=True):
    engine: Literal["auto", "llama", "ollama"] = "auto"
    model: str = "smollm2-135m"
    ollama_model: str = "llama3.2:3b"
    ollama_url: str = "http://127.0.0.1:11434"
    device: Device = "auto"
    threads: Threads = 2
    context_tokens: Annotated[int, Meta(ge=512, le=131_072)] = 4096


class Memory(_Table, frozen=True):
    embedder: str = "minilm"
    threads: Threads = 1
    relevance: Annotated[float, Meta(ge=0, le=1)] = 0.4
    keep_importance: Annotated[int, Meta(ge=0, le=5)] = 2


class Tts(_Table, frozen=True):
    voice: str = "joe"
    device: Device = "auto"
    threads: Threads = 2
    output: str = "auto"


class Config(_Table, frozen=True):
    stt: Stt = Stt()
    dialog: Dialog = Dialog()
    llm: Llm = Llm()
    memory: Memory = Memory()
    tts: Tts = Tts()


def _xdg(variable: str, fallback: str, environ: Mapping[str, str]) -> Path:
    return Path(environ.get(variable) or Path(environ.get("HOME", "/")) / fallback)


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """TIMMY_CONFIG, else timmy/timmy.toml in XDG_CONFIG_HOME. The file need not exist."""
    if named := environ.get("TIMMY_CONFIG"):
        return Path(named)
    return _xdg("XDG_CONFIG_HOME", ".config", environ) / "timmy" / "timmy.toml"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where models lie: TIMMY_CACHE, CACHE_DIRECTORY (systemd), else timmy in XDG_CACHE_HOME."""
    named = environ.get("TIMMY_CACHE") or environ.get("CACHE_DIRECTORY")
    return Path(named) if named else _xdg("XDG_CACHE_HOME", ".cache", environ) / "timmy"


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where memories and traces lie: TIMMY_STATE, STATE_DIRECTORY (systemd), else timmy in XDG_STATE_HOME."""
    named = environ.get("TIMMY_STATE") or environ.get("STATE_DIRECTORY")
    return Path(named) if named else _xdg("XDG_STATE_HOME", ".local/state", environ) / "timmy"


def load(environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in force. Raises ConfigError."""
    path = config_path(environ)
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if "TIMMY_CONFIG" in environ:
            raise ConfigError(f"{path}: no such file (named by TIMMY_CONFIG)") from None
        raw = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    _check_names(raw, str(path))
    for variable, table, key in _variables(environ):
        raw.setdefault(table, {})[key] = environ[variable]
    try:
        return msgspec.convert(raw, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from None


RESERVED = {"TIMMY_CONFIG", "TIMMY_CACHE", "TIMMY_STATE", "TIMMY_RUNTIME", "TIMMY_LOG", "TIMMY_PREFIX"}
"""TIMMY_* variables that are not keys of a table."""


def _variables(environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(variable, table, key) of each TIMMY_<TABLE>_<KEY>. Raises ConfigError on an unknown one."""
    found = []
    for variable in sorted(environ):
        if not variable.startswith("TIMMY_") or variable in RESERVED:
            continue
        table, _, key = variable.removeprefix("TIMMY_").lower().partition("_")
        _check_names({table: {key: None}}, f"environment variable {variable}")
        found.append((variable, table, key))
    return found


def _check_names(raw: dict[str, Any], where: str) -> None:
    tables = get_type_hints(Config)
    for table, keys in raw.items():
        if table not in tables:
            raise ConfigError(f"{where}: no table [{table}]{_nearest(table, tables)}")
        if not isinstance(keys, dict):
            raise ConfigError(f"{where}: [{table}] is a table of keys, not a value")
        known = tables[table].__struct_fields__
        for key in keys:
            if key not in known:
                raise ConfigError(f"{where}: [{table}] has no key {key!r}{_nearest(key, known)}")


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; it knows {', '.join(known)}"
