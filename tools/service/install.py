"""`timmy install` and `timmy uninstall`: the daemons as services of systemd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from daemons import config
from ipc.endpoints import DAEMONS
from tools.service.footprint import footprint
from tools.service.layout import InstallError, Layout, files, installed, interpreter, layout, of_daemon
from tools.service.steps import Link, Remove, RemoveAll, Run, Step, Write, missing_folders

SERVICES = [f"timmy-{daemon}.service" for daemon in DAEMONS]
SOCKETS = [f"timmy-{daemon}.socket" for daemon in DAEMONS]

_scope = click.option("--user/--system", "user", default=None, help="For you alone, or for the machine (as root).")
_prefix = click.option(
    "--prefix",
    type=click.Path(path_type=Path),
    help="Install under this folder, not /usr/local or ~/.local. Where systemd does not look, files are only written.",
)
_dry = click.option("--dry-run", is_flag=True, help="Show what would be done, do nothing.")


@click.command()
@_scope
@_prefix
@_dry
def install(user: bool | None, prefix: Path | None, dry_run: bool) -> None:
    """Make systemd run the daemons, now and from each start on.

    After an upgrade it restarts those daemons that have changed, and no other.

    \b
    timmy install --user --dry-run
    timmy install --user
    sudo /opt/timmy/bin/timmy install --system
    """
    where = _where(user, prefix)
    _carry_out(_install_steps(where), dry_run)
    if not dry_run and where.known:
        click.echo("installed: `timmy status` shows it, `timmy uninstall` takes it away again")


@click.command()
@_scope
@_prefix
@_dry
@click.option("--purge", is_flag=True, help="Erase memories, traces, models and configuration, too.")
def uninstall(user: bool | None, prefix: Path | None, dry_run: bool, purge: bool) -> None:
    """Stop the services and remove them.

    What is remembered stays, and the models.

    \b
    timmy uninstall --user --dry-run
    timmy uninstall --user
    sudo timmy uninstall --system --purge
    """
    where = _where(user, prefix)
    steps = _uninstall_steps(where) + (_purge_steps(where) if purge else [])
    if not steps:
        click.echo("nothing is installed", err=True)
    _carry_out(steps, dry_run)


def _where(user: bool | None, prefix: Path | None) -> Layout:
    scope = "user" if (os.getuid() != 0 if user is None else user) else "system"
    where = layout(scope, prefix.absolute() if prefix else None)
    if where.known and scope == "system" and os.getuid() != 0:
        raise InstallError("the machine's services belong to root: sudo timmy install --system, or use --user")
    if where.known and not Path("/run/systemd/system").is_dir():
        raise InstallError("systemd does not run here: `timmy up` does without it")
    return where


def _carry_out(steps: Iterable[Step], dry_run: bool) -> None:
    for step in steps:
        click.echo(step)
        if not dry_run:
            step.do()


# --- installing ---


def _install_steps(where: Layout) -> list[Step]:
    settings = config.load({"XDG_CONFIG_HOME": "/etc"} if where.scope == "system" else os.environ)
    texts = files(where, _systemd_version(), interpreter(where), settings)
    before = installed(where)
    sums = {daemon: footprint(daemon, of_daemon(where, texts, daemon)) for daemon in DAEMONS}
    steps: list[Step] = [Write(path, text) for path, text in texts.items() if _differs(path, text)]
    gone = set(before.get("files", {})) - {str(path) for path in (*texts, where.command)}
    steps += [Remove(Path(path)) for path in sorted(gone)]
    changed = bool(steps)
    program = Path(sys.executable).with_name("timmy")
    if not (where.command.is_symlink() and where.command.readlink() == program) and where.command != program:
        steps.append(Link(where.command, program))
    steps.append(Write(where.manifest, _manifest(where, texts, sums, before)))
    if where.known:
        restart = [each for each in DAEMONS if before and before["daemons"].get(each) != sums[each]]
        steps += _start_steps(where, changed, restart)
    return steps


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8") != text
    except FileNotFoundError:
        return True


def _manifest(where: Layout, texts: dict[Path, str], sums: dict[str, str], before: dict[str, dict[str, str]]) -> str:
    made = missing_folders([*texts, where.command, where.manifest]) | {Path(path) for path in before.get("folders", {})}
    content = {
        "files": {str(path): "" for path in (*texts, where.command)},
        "folders": {str(folder): "" for folder in sorted(made)},
        "daemons": sums,
    }
    return json.dumps(content, indent=1) + "\n"


def _start_steps(where: Layout, changed: bool, restart: list[str]) -> list[Step]:
    steps: list[Step] = []
    if where.scope == "system":
        steps.append(Run(["systemd-sysusers", str(where.prefix / "lib/sysusers.d/timmy.conf")]))
        steps.append(Run(["systemd-tmpfiles", "--create", str(where.prefix / "lib/tmpfiles.d/timmy.conf")]))
    steps.append(Run([sys.executable, "-I", "-m", "tools.cli", "models", "pull"], environ=_model_place(where)))
    if changed:
        steps.append(Run([*where.manager, "daemon-reload"]))
    steps.append(Run([*where.manager, "enable", "timmy.target"]))
    # Whoever was refused before gets another try.
    steps.append(Run([*where.manager, "stop", *(f"timmy-refused@{daemon}.target" for daemon in DAEMONS)], lenient=True))
    if restart:
        steps.append(Run([*where.manager, "try-restart", *(f"timmy-{daemon}.service" for daemon in restart)]))
    steps.append(Run([*where.manager, "start", "timmy.target"]))
    return steps


def _model_place(where: Layout) -> dict[str, str]:
    return {"TIMMY_CACHE": str(where.cache), "XDG_CONFIG_HOME": "/etc"} if where.scope == "system" else {}


def _systemd_version() -> int:
    if not shutil.which("systemctl"):
        raise InstallError("systemd is not here: `timmy up` does without it")
    told = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True).stdout
    return int(told.split()[1])


# --- the end of it ---


def _uninstall_steps(where: Layout) -> list[Step]:
    before = installed(where)
    if not before:
        return []
    steps: list[Step] = []
    if where.known:
        steps.append(Run([*where.manager, "disable", "--now", "timmy.target"], lenient=True))
        steps.append(Run([*where.manager, "stop", *SOCKETS, *SERVICES, "timmy.slice"], lenient=True))
    made = frozenset(Path(path) for path in before["folders"])
    steps += [Remove(Path(path), made) for path in (*before["files"], str(where.manifest))]
    if where.known:
        steps.append(Run([*where.manager, "daemon-reload"]))
        steps.append(Run([*where.manager, "reset-failed", "timmy*"], lenient=True))
        if where.scope == "system":
            steps.append(RemoveAll(Path("/run/timmy")))
    return steps


def _purge_steps(where: Layout) -> list[Step]:
    steps: list[Step] = [RemoveAll(path) for path in (where.state, where.cache, where.configuration)]
    if where.scope == "system":
        steps.append(Run(["userdel", "timmy"], lenient=True))
    return steps
