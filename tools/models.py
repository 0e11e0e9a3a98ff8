"""`timmy models`: which models are here, fetching them, checking them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from daemons import catalogue, config
from daemons.catalogue import MODELS
from tools.show import human_bytes, json_option, print_json, print_table


@click.group()
def models() -> None:
    """List, fetch and check models.

    \b
    timmy models list
    timmy models pull
    timmy models verify
    """


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the models that come as packages and those that were fetched.

    \b
    timmy models list --json
    """
    found = [_entry(name, sums=False) for name in (*MODELS, *_fetched())]
    if as_json:
        print_json({"folder": str(_folder()), "models": found})
    else:
        print_table(["model", "kind", "size", "state", "about"], [_row(entry) for entry in found])


@models.command()
@click.argument("names", nargs=-1)
@json_option
def pull(names: tuple[str, ...], as_json: bool) -> None:
    """Fetch models; without NAMES, those that the configuration names.

    A fetch that was interrupted goes on where it ended. NAME is one of `timmy models list`, a Whisper size, a
    Hugging Face id (OWNER/REPOSITORY, OWNER/REPOSITORY/FILE.gguf), a Piper voice or an Ollama model (NAME:TAG).

    \b
    timmy models pull
    timmy models pull base en_US-lessac-medium
    timmy models pull llama3.2:3b
    """
    from tools import pull as puller

    settings = config.load()
    # What is asked for by name is checked to the last bit, what is merely needed by size: that costs no time.
    fetched = puller.pull(names or puller.needed(settings), settings, config.cache_dir(), thorough=bool(names))
    if as_json:
        print_json({"folder": str(_folder()), "fetched": fetched})
    elif not fetched:
        click.echo("all models are here", err=True)


@models.command()
@click.argument("names", nargs=-1)
@json_option
@click.pass_context
def verify(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Check models by SHA-256; without NAMES, all that are here.

    Every file is read. Exit status 1 when one is damaged or missing.

    \b
    timmy models verify
    timmy models verify joe --json
    """
    from tools import pull as puller

    for name in names:
        puller.check_name(name)
    here = [name for name in MODELS if catalogue.model_folder(name).is_dir()] + _fetched()
    found = [_entry(name, sums=True) for name in names or here]
    if as_json:
        print_json({"folder": str(_folder()), "models": found})
    else:
        print_table(["model", "kind", "size", "state", "about"], [_row(entry) for entry in found])
    if any(entry["state"] != "here" for entry in found):
        ctx.exit(1)


def _folder() -> Path:
    return config.cache_dir() / "models"


def _fetched() -> list[str]:
    """Models that are here and not in the catalogue, by the names that fetch and find them."""
    manifests = sorted(_folder().glob(f"*/{catalogue.MANIFEST}"))
    return [name for path in manifests for name in _names(path.parent)]


def _names(folder: Path) -> Sequence[str]:
    name = folder.name.replace("--", "/")
    ggufs = sorted(path.name for path in folder.glob("*.gguf"))
    return [f"{name}/{file}" for file in ggufs] or [name]


def _entry(name: str, sums: bool) -> dict[str, Any]:
    model = MODELS.get(name)
    kind, about = (model.kind, model.about) if model else (_kind(name), "fetched by its id")
    here = catalogue.model_folder(name).is_dir()
    faults = catalogue.faults(name, sums=sums) if here else []
    return {
        "name": name,
        "kind": kind,
        "state": "damaged" if faults else "here" if here else "not here",
        "size_bytes": sum(file.size for file in catalogue.model_files(name)) if here or model else 0,
        "faults": faults,
        "about": about,
    }


def _kind(name: str) -> str:
    if name.endswith(".gguf"):
        return "llm"
    return "tts" if catalogue.PIPER_VOICE.fullmatch(name) else "stt"


def _row(entry: dict[str, Any]) -> list[str]:
    repair = f" (timmy models pull {entry['name']})"
    state = "; ".join(entry["faults"]) + repair if entry["faults"] else entry["state"]
    return [entry["name"], entry["kind"], human_bytes(entry["size_bytes"]), state, entry["about"]]
