"""`timmy keys`: this machine's key, and the keys of other machines that it lets in."""

from __future__ import annotations

import click

from daemons.config import keys_dir
from ipc import keys as files
from ipc.access import Guest, Role
from ipc.errors import ConfigError
from tools.show import json_option, print_json, print_table


@click.group()
def keys() -> None:
    """Let other machines in, and find yours let in.

    Each machine has a key of its own: a secret half that stays here, and a public half to be copied. A house that
    listens on a network (network.listen) lets in only the keys that it is told to allow.

    \b
    timmy keys new                                          on both machines
    timmy keys allow 'KEY' --as satellite --name kitchen    in the house; KEY: what the other machine's `show` prints
    timmy keys revoke kitchen
    """


@keys.command()
@click.option("--replace", is_flag=True, help="Make a new one although there is one: nobody knows it yet.")
def new(replace: bool) -> None:
    """Make this machine's key, and print its public half.

    \b
    timmy keys new
    """
    from ipc.security import new_secret, public_of

    folder = keys_dir()
    if files.secret_path(folder).exists() and not replace:
        raise ConfigError(
            f"{files.secret_path(folder)} is there already: `timmy keys show` prints its public half; "
            "--replace makes a new one, which all other machines would have to learn"
        )
    secret = new_secret()
    files.write_secret(folder, secret)
    click.echo(public_of(secret))


@keys.command()
@json_option
def show(as_json: bool) -> None:
    """Print the public half of this machine's key.

    It goes into house.key of a satellite, or is what the house allows. It is no secret.

    \b
    timmy keys show
    """
    from ipc.security import public_of

    public = public_of(files.read_secret(keys_dir()))
    if as_json:
        print_json({"key": public, "folder": str(keys_dir())})
    else:
        click.echo(public)


@keys.command()
@click.argument("key")
@click.option("--as", "role", type=click.Choice([role.value for role in Role]), required=True, help="What it is for.")
@click.option("--name", required=True, help="What it is called here; a satellite's conversation has this name, too.")
def allow(key: str, role: str, name: str) -> None:
    """Let a machine in.

    KEY in single quotes: it has characters that mean something to a shell. A satellite sends and gets the sound of one
    conversation; a viewer sees what passes (`timmy tap --house`) and how the daemons are (`timmy status --house`).
    Daemons that run take it up at once.

    \b
    timmy keys allow 'rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7' --as satellite --name kitchen
    """
    files.allow(keys_dir(), Guest(key, Role(role), name))
    click.echo(f"{role} {name} may come in")


@keys.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Let a machine in no more.

    What it has open ends with the next thing that it sends, or within seconds.

    \b
    timmy keys revoke kitchen
    """
    gone = files.revoke(keys_dir(), name)
    click.echo(f"{gone.role} {gone.name} is let in no more")


@keys.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the machines that are let in.

    \b
    timmy keys list
    timmy keys list --json
    """
    found = files.read_allowed(keys_dir())
    if as_json:
        print_json([{"name": guest.name, "role": guest.role, "key": guest.key} for guest in found])
    elif found:
        print_table(["name", "role", "key"], [[guest.name, str(guest.role), guest.key] for guest in found])
    else:
        click.echo("no key is allowed")
