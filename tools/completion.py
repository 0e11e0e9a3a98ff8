"""`timmy completion`: a script for the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands in a shell.

    \b
    eval "$(timmy completion bash)"                               in ~/.bashrc
    eval "$(timmy completion zsh)"                                in ~/.zshrc
    timmy completion fish > ~/.config/fish/completions/timmy.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "timmy", "_TIMMY_COMPLETE").source())
