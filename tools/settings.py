"""`timmy config`: what is in force, where it comes from, and whether it is right."""

from __future__ import annotations

import json

import click

from daemons import config as settings
from tools.show import json_option, print_json, print_table


@click.group()
def config() -> None:
    """Show or check the configuration.

    \b
    mkdir -p ~/.config/timmy
    timmy config show --default > ~/.config/timmy/timmy.toml
    timmy config check
    """


@config.command()
@json_option
@click.option("--default", "default", is_flag=True, help="Print the commented default file instead.")
def show(as_json: bool, default: bool) -> None:
    """Show every key with its value and where that comes from.

    \b
    timmy config show
    timmy config show --json
    """
    if default:
        click.echo(settings.default_text(), nl=False)
        return
    found = settings.settings()
    if as_json:
        values = [{"table": s.table, "key": s.key, "value": s.value, "source": s.source} for s in found]
        print_json({"file": str(settings.config_path()), "settings": values})
    else:
        print_table(
            ["key", "value", "from"],
            [[f"{s.table}.{s.key}", json.dumps(s.value, ensure_ascii=False), s.source] for s in found],
        )


@config.command()
@json_option
def check(as_json: bool) -> None:
    """Check the file and the TIMMY_* environment.

    Exit status 78 when something is wrong.

    \b
    timmy config check
    """
    settings.load()
    path = settings.config_path()
    if as_json:
        print_json({"file": str(path), "exists": path.exists(), "ok": True})
    else:
        click.echo(f"{path}: good" if path.exists() else f"{path}: not there, the defaults hold")
