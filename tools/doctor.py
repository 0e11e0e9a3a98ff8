"""`timmy doctor`: what is missing or wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from daemons import catalogue, config
from daemons.catalogue import ModelKind
from daemons.config import Config
from ipc.endpoints import DAEMONS, claim_folder, observer_path, runtime_dir
from ipc.errors import CallError, ConfigError, EndpointError
from tools.checks import Check
from tools.service.examine import examine_service
from tools.service.state import is_satellite_alone
from tools.show import human_bytes, json_option, print_json, print_table
from tools.status import ask_all

PYTHON_MIN = (3, 11)
FREE_MIN_BYTES = 500_000_000
SERVER_S = 1.5
PROBE_S = 60
LIBRARIES = (
    *("zmq", "msgspec", "numpy", "faster_whisper", "webrtcvad", "xllamacpp", "ollama"),
    *("onnxruntime", "tokenizers", "apsw", "sqlite_vec", "piper"),
)

# In a process of its own: a broken library may crash, and audio libraries write to the terminal.
_PROBE = """
import importlib, json, sys
broken = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        broken[name] = f"{type(error).__name__}: {error}"
sound = {"trouble": "", "inputs": [], "outputs": []}
try:
    import sounddevice
    for device in sounddevice.query_devices():
        sound["inputs"] += [device["name"]] * bool(device["max_input_channels"])
        sound["outputs"] += [device["name"]] * bool(device["max_output_channels"])
except Exception as error:
    sound["trouble"] = str(error)
print(json.dumps({"broken": broken, "sound": sound}))
"""


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Find out what is missing or wrong, and what to do.

    Exit status 1 when something keeps Timmy from working.

    \b
    timmy doctor
    timmy doctor --json
    """
    checks = list(examine())
    if as_json:
        print_json({"ok": all(check.state != "bad" for check in checks), "checks": [asdict(c) for c in checks]})
    else:
        print_table(["", "check", "found", "what to do"], [[c.state, c.name, c.found, c.advice] for c in checks])
    if any(check.state == "bad" for check in checks):
        ctx.exit(1)


def examine() -> Iterator[Check]:
    """All checks, one after the other."""
    yield _python()
    checked = _configuration()
    yield checked
    settings = config.load() if checked.state == "good" else Config()
    probe = _probe()
    yield _libraries(probe)
    if is_satellite_alone():
        room = settings.satellite
        yield _sound("microphone", "satellite.input", room.input, probe["sound"], probe["sound"]["inputs"])
        yield _sound("speaker", "satellite.output", room.output, probe["sound"], probe["sound"]["outputs"])
    else:
        yield _sound("microphone", "stt.input", settings.stt.input, probe["sound"], probe["sound"]["inputs"])
        yield _sound("speaker", "tts.output", settings.tts.output, probe["sound"], probe["sound"]["outputs"])
        yield from _house(settings)
    yield from examine_service(settings)


def _house(settings: Config) -> Iterator[Check]:
    """What the daemons need, and how they are."""
    yield from _models(settings)
    yield _folder("cache folder", config.cache_dir(), "TIMMY_CACHE")
    yield _folder("state folder", config.state_dir(), "TIMMY_STATE")
    yield _runtime()
    yield _disk()
    yield _openai(settings) if settings.llm.engine == "openai" else _ollama(settings)
    yield _daemons()


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= PYTHON_MIN
    return Check("python", "good" if good else "bad", version, "" if good else "use Python 3.11 or newer")


def _configuration() -> Check:
    path = config.config_path()
    try:
        config.load()
    except ConfigError as error:
        return Check("configuration", "bad", str(error), "correct it, then: timmy config check")
    return Check("configuration", "good", str(path) if path.exists() else "the defaults")


def _probe() -> dict[str, Any]:
    run = [sys.executable, "-P", "-c", _PROBE, *LIBRARIES]
    try:
        done = subprocess.run(run, capture_output=True, text=True, timeout=PROBE_S, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        trouble = f"trying the libraries failed: {error}"
        return {"broken": {"all": trouble}, "sound": {"trouble": trouble, "inputs": [], "outputs": []}}
    return found


def _libraries(probe: dict[str, Any]) -> Check:
    if broken := probe["broken"]:
        found = "; ".join(f"{name}: {reason}" for name, reason in broken.items())
        advice = "sudo apt install libgomp1" if "libgomp" in found else "install again: make clean, then make run"
        return Check("libraries", "bad", found, advice)
    return Check("libraries", "good", f"{len(LIBRARIES)} load")


def _sound(what: str, key: str, wanted: str, sound: dict[str, Any], devices: list[str]) -> Check:
    """A machine without sound still talks over the wire, so nothing here is worse than poor."""
    if what == "speaker" and (wanted == "none" or wanted.lower().endswith(".wav")):
        return Check(what, "good", f"{wanted}, as {key} says")
    if "PortAudio" in sound["trouble"]:
        return Check(what, "poor", "no PortAudio library", "sudo apt install libportaudio2")
    if sound["trouble"]:
        return Check(what, "poor", sound["trouble"], "is the sound server running?")
    if not devices:
        return Check(what, "poor", "none", "plug one in; without: timmy talk --wav FILE --out FOLDER")
    if wanted != "auto" and not any(wanted.casefold() in name.casefold() for name in devices):
        return Check(what, "bad", f"no {wanted!r} among: {', '.join(devices)}", f"correct {key} in the configuration")
    return Check(what, "good", ", ".join(devices))


def _models(settings: Config) -> Iterator[Check]:
    wanted: list[tuple[ModelKind, str]] = [
        ("stt", settings.stt.model),
        ("tts", settings.tts.voice),
        ("embedding", settings.memory.embedder),
    ]
    if settings.llm.engine not in ("ollama", "openai"):
        wanted.insert(1, ("llm", settings.llm.model))
    for kind, name in wanted:
        try:
            path = catalogue.resolve(kind, name)
        except CallError as error:
            yield Check(f"{kind} model", "bad", str(error), f"timmy models pull {name}")
        else:
            yield Check(f"{kind} model", "good", f"{name}: {path}")


def _folder(what: str, path: Path, variable: str) -> Check:
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return Check(what, "bad", f"{nearest} cannot be written", f"correct its owner and mode, or set {variable}")
    return Check(what, "good", str(path))


def _runtime() -> Check:
    folder = runtime_dir()
    try:
        for name in DAEMONS:
            observer_path(name, folder)
        claim_folder(folder)
    except EndpointError as error:
        return Check("socket folder", "bad", str(error), "do as it says, or set TIMMY_RUNTIME")
    return Check("socket folder", "good", str(folder))


def _disk() -> Check:
    path = config.cache_dir()
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(nearest).free
    if free < FREE_MIN_BYTES:
        return Check("disk", "poor", f"{human_bytes(free)} free at {nearest}", "make room")
    return Check("disk", "good", f"{human_bytes(free)} free at {nearest}")


def _ollama(settings: Config) -> Check:
    llm = settings.llm
    if llm.engine == "llama":
        return Check("ollama", "good", "not asked for")
    try:
        with urllib.request.urlopen(f"{llm.ollama_url.rstrip('/')}/api/tags", timeout=SERVER_S) as response:
            names = [model["name"] for model in json.load(response)["models"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        found, advice = f"no answer at {llm.ollama_url}: {getattr(error, 'reason', error)}", "start it: ollama serve"
    else:
        if llm.ollama_model in names or f"{llm.ollama_model}:latest" in names:
            return Check("ollama", "good", f"{llm.ollama_model} at {llm.ollama_url}")
        found, advice = f"no model {llm.ollama_model!r}", f"timmy models pull {llm.ollama_model}"
    if llm.engine == "auto":
        return Check("ollama", "good", f"{found}; the embedded model is used")
    return Check("ollama", "bad", found, advice)


def _openai(settings: Config) -> Check:
    llm = settings.llm
    try:
        key = config.openai_key(llm.openai_key_file)
        shown = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"{llm.openai_url.rstrip('/')}/models", headers=shown)
        with urllib.request.urlopen(request, timeout=SERVER_S) as response:
            names = [model["id"] for model in json.load(response)["data"]]
    except ConfigError as error:
        return Check("model server", "bad", str(error), "do as it says")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        found = f"no answer at {llm.openai_url}: {getattr(error, 'reason', error)}"
        return Check("model server", "bad", found, "start it, or set llm.openai_url and llm.openai_key_file")
    if llm.openai_model in names or (not llm.openai_model and len(names) == 1):
        return Check("model server", "good", f"{llm.openai_model or names[0]} at {llm.openai_url}")
    found = f"no model {llm.openai_model!r}" if llm.openai_model else f"{len(names)} models"
    return Check("model server", "bad", found, f"set llm.openai_model to one of {', '.join(names[:5]) or 'them'}")


def _daemons() -> Check:
    try:
        reports = asyncio.run(ask_all())
    except EndpointError as error:
        return Check("daemons", "bad", str(error), "see the socket folder")
    if all(report["state"] == "down" for report in reports.values()):
        return Check("daemons", "poor", "not running", "timmy up")
    if troubles := [f"{name} is {r['state']}" for name, r in reports.items() if r["state"] != "ready"]:
        return Check("daemons", "poor", ", ".join(troubles), "timmy status tells why")
    return Check("daemons", "good", "all ready")
