"""Configuration: timmy.toml by the XDG rules, TIMMY_* of the environment over it, typed and checked.

One struct a table of the file. The commented default (timmy.toml beside this file) names every key; a test
compares the two. `load()` raises ConfigError with one line: where, what is wrong, what is allowed.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from ipc.errors import ConfigError
from ipc.keys import KEY
from ipc.network import PORTS

Device = Literal["auto", "cpu", "cuda"]
Endpointing = Literal["quick", "calm"]
Threads = Annotated[int, Meta(ge=0, le=256)]
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
ModelId = Annotated[str, Meta(min_length=1, max_length=512, description="the name or path of a model")]
SoundDevice = Annotated[str, Meta(min_length=1, max_length=256, description="auto or (part of) a device's name")]
Language = Annotated[str, Meta(pattern=r"\A[a-z]{2,3}\Z", description="a language code, e.g. en")]
HttpUrl = Annotated[
    str,
    Meta(
        pattern=r"\Ahttps?://(\[[0-9a-fA-F:.]+\]|[^\s/:?#\[\]@]+)(:[0-9]{1,5})?(/[^\s?#]*)?\Z",
        description="an address like http://127.0.0.1:11434",
    ),
]
ListenAddress = Annotated[
    str,
    Meta(
        # None of zeros alone: that would be all addresses.
        pattern=r"\A(?:|(?=.*[1-9a-fA-F])[0-9a-fA-F.:]{2,45})\Z",
        description="one IP address of this machine, e.g. 192.168.1.10, or nothing; never all of them",
    ),
]
HostName = Annotated[
    str, Meta(pattern=r"\A[0-9a-zA-Z_.:-]{0,253}\Z", description="a host's name or IP address, without a port")
]
PublicKey = Annotated[
    str,
    Meta(pattern=rf"\A({KEY})?\Z", description="40 characters, as `timmy keys show` prints them on that machine"),
]
PortBase = Annotated[int, Meta(ge=1024, le=65_535 - PORTS, description=f"the first of {PORTS} ports, 1024 or higher")]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Stt(_Table, frozen=True):
    model: ModelId = "tiny.en"
    device: Device = "auto"
    threads: Threads = 2
    input: SoundDevice = "auto"
    vad_aggressiveness: Annotated[int, Meta(ge=0, le=3)] = 2
    candidate_silence_ms: Milliseconds = 120
    drafts: bool = True
    short_context: bool = True
    endpointing: Endpointing = "quick"
    language: Language = "en"


class Dialog(_Table, frozen=True):
    assistant_name: str = "Timmy"
    persona: str = ""
    recall_limit: Annotated[int, Meta(ge=1, le=20)] = 3
    history_turns: Annotated[int, Meta(ge=0, le=100)] = 12
    max_answer_tokens: Annotated[int, Meta(ge=1, le=4096)] = 120
    early_work: bool = True
    foresight: bool = True
    first_clause_words: Annotated[int, Meta(ge=2, le=25)] = 4
    trace_words: bool = False


class Llm(_Table, frozen=True):
    engine: Literal["auto", "llama", "ollama", "openai"] = "auto"
    model: ModelId = "smollm2-135m"
    ollama_model: ModelId = "llama3.2:3b"
    ollama_url: HttpUrl = "http://127.0.0.1:11434"
    openai_model: Annotated[str, Meta(max_length=512)] = ""
    openai_url: HttpUrl = "http://127.0.0.1:8000/v1"
    openai_key_file: Annotated[str, Meta(max_length=4096)] = ""
    device: Device = "auto"
    threads: Threads = 2
    context_tokens: Annotated[int, Meta(ge=512, le=131_072)] = 4096
    prefix_cache: bool = True


class Memory(_Table, frozen=True):
    embedder: ModelId = "minilm"
    threads: Threads = 1
    relevance: Annotated[float, Meta(ge=0, le=1)] = 0.45
    keep_importance: Annotated[int, Meta(ge=0, le=5)] = 2


class Tts(_Table, frozen=True):
    voice: ModelId = "joe"
    device: Device = "auto"
    threads: Threads = 2
    output: SoundDevice = "auto"
    pieces: bool = True


class Network(_Table, frozen=True):
    listen: ListenAddress = ""
    port: PortBase = 7870


class House(_Table, frozen=True):
    address: HostName = ""
    port: PortBase = 7870
    key: PublicKey = ""


class Satellite(_Table, frozen=True):
    input: SoundDevice = "auto"
    output: SoundDevice = "auto"


class Config(_Table, frozen=True):
    stt: Stt = Stt()
    dialog: Dialog = Dialog()
    llm: Llm = Llm()
    memory: Memory = Memory()
    tts: Tts = Tts()
    network: Network = Network()
    house: House = House()
    satellite: Satellite = Satellite()


def _xdg(variable: str, fallback: str, environ: Mapping[str, str]) -> Path:
    return Path(environ.get(variable) or Path(environ.get("HOME", "/")) / fallback)


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """TIMMY_CONFIG, else timmy/timmy.toml in XDG_CONFIG_HOME. The file need not exist."""
    if named := environ.get("TIMMY_CONFIG"):
        return Path(named)
    return _xdg("XDG_CONFIG_HOME", ".config", environ) / "timmy" / "timmy.toml"


def keys_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this machine's key lies, and the list of those it allows: `keys` beside the file."""
    return config_path(environ).parent / "keys"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where models lie: TIMMY_CACHE, CACHE_DIRECTORY (systemd), else timmy in XDG_CACHE_HOME."""
    named = environ.get("TIMMY_CACHE") or environ.get("CACHE_DIRECTORY")
    return Path(named) if named else _xdg("XDG_CACHE_HOME", ".cache", environ) / "timmy"


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where memories and traces lie: TIMMY_STATE, STATE_DIRECTORY (systemd), else timmy in XDG_STATE_HOME."""
    named = environ.get("TIMMY_STATE") or environ.get("STATE_DIRECTORY")
    return Path(named) if named else _xdg("XDG_STATE_HOME", ".local/state", environ) / "timmy"


OPENAI_CREDENTIAL = "openai_key"
"""The key's name among the credentials that systemd hands to the llm daemon (LoadCredential=)."""


def openai_key(path: str, environ: Mapping[str, str] = os.environ) -> str:
    """The key in the file `path` (llm.openai_key_file), or systemd's credential where that is empty; none where there
    is neither. Raises ConfigError for a file that others can read, or that cannot be read."""
    handed = Path(environ.get("CREDENTIALS_DIRECTORY", os.devnull)) / OPENAI_CREDENTIAL
    if not path and not handed.is_file():
        return ""
    file = Path(path).expanduser() if path else handed
    try:
        mode, key = file.stat().st_mode, file.read_text("ascii").strip()
    except OSError as error:
        raise ConfigError(f"llm.openai_key_file: {file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"llm.openai_key_file: {file} holds no key: a key is one line of ASCII") from None
    if path and mode & 0o077:
        raise ConfigError(f"llm.openai_key_file: {file} can be read by others: chmod 600 {file}")
    return key


RESERVED = {"TIMMY_CONFIG", "TIMMY_CACHE", "TIMMY_STATE", "TIMMY_RUNTIME", "TIMMY_LOG", "TIMMY_PREFIX"}
"""TIMMY_* variables that are not keys of a table."""

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def log_level(environ: Mapping[str, str] = os.environ) -> str:
    """How much the daemons log: TIMMY_LOG, else INFO. Raises ConfigError."""
    level = environ.get("TIMMY_LOG", "INFO")
    if level.upper() not in LOG_LEVELS:
        raise ConfigError(f"TIMMY_LOG = {level!r}: not one of {', '.join(LOG_LEVELS)}")
    return level.upper()


RETIRED = {("stt", "confirm_silence_ms"): 'write endpointing = "quick" or "calm" instead'}
"""Keys that files of an earlier version may have, and what to do about it."""

_TABLES: dict[str, type[_Table]] = {field.name: field.type for field in msgspec.structs.fields(Config)}


@dataclass(frozen=True, slots=True)
class Setting:
    """One key in force. `source`: the file, the environment variable, or "default"."""

    table: str
    key: str
    value: Any
    source: str


def load(environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in force. Raises ConfigError."""
    values: dict[str, dict[str, Any]] = {table: {} for table in _TABLES}
    for setting in settings(environ):
        values[setting.table][setting.key] = setting.value
    return msgspec.convert(values, Config)


def settings(environ: Mapping[str, str] = os.environ) -> list[Setting]:
    """Every key with its value and where that comes from, in the order of the structs. Raises ConfigError."""
    path = config_path(environ)
    given = _from_file(path, named=bool(environ.get("TIMMY_CONFIG"))) | _from_environment(environ)
    found = []
    for table, struct in _TABLES.items():
        for field in msgspec.structs.fields(struct):
            setting = given.get((table, field.name))
            found.append(setting or Setting(table, field.name, field.default, "default"))
    return found


def changed_keys(table: str, old: Config, new: Config) -> list[str]:
    """The keys of a table that differ."""
    before, after = getattr(old, table), getattr(new, table)
    return [key for key in before.__struct_fields__ if getattr(before, key) != getattr(after, key)]


def with_keys_of(table: str, old: Config, new: Config, keys: Iterable[str]) -> Config:
    """`old`, but for some keys of a table, which are as in `new`."""
    values = {key: getattr(getattr(new, table), key) for key in keys}
    return msgspec.structs.replace(old, **{table: msgspec.structs.replace(getattr(old, table), **values)})


def default_text() -> str:
    """The commented default file."""
    return (Path(__file__).parent / "timmy.toml").read_text("utf-8")


def _from_file(path: Path, named: bool) -> dict[tuple[str, str], Setting]:
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if named:
            raise ConfigError(f"{path}: no such file (named by TIMMY_CONFIG)") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: {reason}") from None
    found = {}
    for table, keys in raw.items():
        if table in _TABLES and not isinstance(keys, dict):
            raise ConfigError(f"{path}: [{table}] is a table of keys, not a value")
        for key, value in keys.items() if isinstance(keys, dict) else [("", None)]:
            found[table, key] = Setting(table, key, _checked(str(path), table, key, value, strict=True), str(path))
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[tuple[str, str], Setting]:
    found = {}
    for variable in sorted(environ):
        if variable.startswith("TIMMY_") and variable not in RESERVED:
            table, _, key = variable.removeprefix("TIMMY_").lower().partition("_")
            value = _checked(variable, table, key, environ[variable], strict=False)
            found[table, key] = Setting(table, key, value, variable)
    return found


def _checked(where: str, table: str, key: str, value: Any, *, strict: bool) -> Any:
    """`value` as the key wants it; not `strict`: made from text."""
    if table not in _TABLES:
        raise ConfigError(f"{where}: no table [{table}]{_nearest(table, _TABLES)}")
    types = {field.name: field.type for field in msgspec.structs.fields(_TABLES[table])}
    if (table, key) in RETIRED:
        raise ConfigError(f"{where}: [{table}] {key} is no more: {RETIRED[table, key]}")
    if key not in types:
        raise ConfigError(f"{where}: [{table}] has no key {key!r}{_nearest(key, types)}")
    try:
        return msgspec.convert(value, types[key], strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: [{table}] {key} = {value!r}: {_allowed(types[key], value) or error}") from None


def _allowed(kind: Any, value: Any) -> str:
    """What the type says about itself, or nothing."""
    if get_origin(kind) is Literal:
        return f"not one of {', '.join(get_args(kind))}{_suggestion(str(value), get_args(kind))}"
    notes = [meta.description for meta in get_args(kind)[1:] if isinstance(meta, Meta) and meta.description]
    return f"expected {notes[0]}" if notes else ""


def _nearest(name: str, known: Iterable[str]) -> str:
    return _suggestion(name, known) or f"; it knows {', '.join(known)}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
