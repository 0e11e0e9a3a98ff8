"""Fetching a model by whatever name it goes: of the catalogue, of Hugging Face, of Ollama."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import click

from daemons.catalogue import MODELS, WHISPER
from daemons.config import Config
from tools import fetch, hub, ollama_pull
from tools.progress import ProgressShown


def needed(config: Config) -> list[str]:
    """The models that the configuration names, less those it names by path."""
    names = [config.stt.model, config.tts.voice, config.memory.embedder]
    if config.llm.engine != "openai":  # which has its models itself
        names.append(config.llm.ollama_model if config.llm.engine == "ollama" else config.llm.model)
    return [name for name in names if name in MODELS or not Path(name).expanduser().exists()]


def pull(names: Sequence[str], config: Config, cache: Path, *, thorough: bool) -> list[str]:
    """Fetches what is not here and names it. `thorough`: by SHA-256, not by size. Raises TimmyError, UsageError."""
    known = [MODELS[name] for name in names if name in MODELS]
    others = [(name, _elsewhere(name)) for name in names if name not in MODELS]
    if thorough:
        for model in known:
            fetch.drop_damaged(model, cache)
    with ProgressShown() as progress:
        fetched = fetch.pull(known, cache, progress)
        for name, source in others:
            if source is None:
                asyncio.run(_from_ollama(config.llm.ollama_url, name, progress))
            elif not hub.pull(name, source, cache):
                continue
            fetched.append(name)
    return fetched


def check_name(name: str) -> None:
    """Raises UsageError when no model can have it."""
    if name not in MODELS:
        _elsewhere(name)


def _elsewhere(name: str) -> hub.Wanted | None:
    """Where a name outside the catalogue is to be had; None: from Ollama."""
    source = hub.wanted(name)
    if source is None and ":" not in name:
        near = difflib.get_close_matches(name, [*MODELS, *WHISPER], n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see timmy models pull --help for what names there are"
        raise click.UsageError(f"no model {name!r} is known: {hint}")
    return source


async def _from_ollama(url: str, name: str, progress: ProgressShown) -> None:
    async with aclosing(ollama_pull.pull(url, name)) as parts:
        async for layer, done, total in parts:
            if total:
                progress(layer, done, total)
