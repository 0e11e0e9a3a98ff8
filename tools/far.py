"""Commands that ask the daemons of another machine when they are told to."""

from __future__ import annotations

from typing import Any

import click

from daemons import config
from ipc.network import House, house


def configured_house() -> House:
    """The machine that [house] names. Raises ConfigError."""
    wanted = config.load().house
    return house(wanted.address, wanted.port, wanted.key, config.keys_dir())


def _asked(context: click.Context, option: click.Parameter, wanted: bool) -> House | None:
    return configured_house() if wanted else None


def house_option(command: Any) -> Any:
    """`--house`: the command gets `house`, None for the daemons of this machine."""
    words = "Of the machine that [house] in timmy.toml names; its key list must have this machine as a viewer."
    return click.option("--house", "house", is_flag=True, callback=_asked, help=words)(command)
