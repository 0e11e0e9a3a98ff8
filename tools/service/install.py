"""`timmy install` and `timmy uninstall`: the daemons as services of systemd, or a satellite as one."""

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
from ipc.errors import ConfigError
from tools.service import state
from tools.service.footprint import footprint
from tools.service.layout import (
    HOUSE,
    PARTS,
    SATELLITE,
    InstallError,
    Layout,
    Part,
    files,
    installed,
    interpreter,
    layout,
    of_daemon,
)
from tools.service.steps import Link, Remove, RemoveAll, Run, Step, Write, missing_folders

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
@click.option("--satellite", is_flag=True, help="The microphone and speaker of another room alone: no models.")
def install(user: bool | None, prefix: Path | None, dry_run: bool, satellite: bool) -> None:
    """Make systemd run the daemons, now and from each start on.

    After an upgrade it restarts those daemons that have changed, and no other. With --satellite it runs what `timmy
    satellite` is instead: exit status 78 when that is installed and waits for its configuration.

    \b
    timmy install --user --dry-run
    timmy install --user
    timmy install --satellite --user
    sudo /opt/timmy/bin/timmy install --system
    """
    where = _where(user, prefix, dry_run)
    part = SATELLITE if satellite else HOUSE
    _carry_out(_install_steps(where, part), dry_run)
    if not dry_run and where.known:
        if satellite:
            _check_satellite(where)
        click.echo("installed: `timmy status` shows it, `timmy uninstall` takes it away again")


@click.command()
@_scope
@_prefix
@_dry
@click.option("--purge", is_flag=True, help="Erase memories, traces, models and configuration, too.")
def uninstall(user: bool | None, prefix: Path | None, dry_run: bool, purge: bool) -> None:
    """Stop the services and remove them, those of a satellite as well.

    What is remembered stays, and the models.

    \b
    timmy uninstall --user --dry-run
    timmy uninstall --user
    sudo timmy uninstall --system --purge
    """
    where = _where(user, prefix, dry_run)
    steps = _uninstall_steps(where) + (_purge_steps(where) if purge else [])
    if not steps:
        click.echo("nothing is installed", err=True)
    _carry_out(steps, dry_run)


def _where(user: bool | None, prefix: Path | None, dry_run: bool) -> Layout:
    scope = "user" if (os.getuid() != 0 if user is None else user) else "system"
    where = layout(scope, prefix.absolute() if prefix else None)
    if dry_run:
        return where  # what would be done can be shown to anybody, anywhere
    if where.known and scope == "system" and os.getuid() != 0:
        raise InstallError("the machine's services belong to root: sudo timmy install --system, or use --user")
    if where.known and not Path("/run/systemd/system").is_dir():
        raise InstallError("systemd does not run here: `timmy up` and `timmy satellite` do without it")
    return where


def _carry_out(steps: Iterable[Step], dry_run: bool) -> None:
    for step in steps:
        click.echo(step)
        if not dry_run:
            step.do()


# --- installing ---


def _install_steps(where: Layout, part: Part) -> list[Step]:
    settings = config.load({"XDG_CONFIG_HOME": "/etc"} if where.scope == "system" else os.environ)
    texts = files(where, _systemd_version(), interpreter(where), settings, part)
    before = installed(where)
    old = before.get("daemons", {})
    sums = {each: footprint(each, of_daemon(where, texts, each)) for each in part.services}
    needed = _needed(before, part, [*texts, where.command])
    steps: list[Step] = [Write(path, text) for path, text in texts.items() if _differs(path, text)]
    steps += [Remove(path) for path, parts in sorted(needed.items()) if not parts]
    changed = bool(steps)
    program = Path(sys.executable).with_name("timmy")
    if not (where.command.is_symlink() and where.command.readlink() == program) and where.command != program:
        steps.append(Link(where.command, program))
    steps.append(Write(where.manifest, _manifest(where, needed, old | sums, before)))
    if where.known:
        restart = [each for each in part.services if old.get(each, sums[each]) != sums[each]]
        start = _start_satellite if part == SATELLITE else _start_house
        steps += [*_accounts(where, part), *start(where, changed, restart)]
    return steps


def _needed(before: dict[str, dict[str, str]], part: Part, paths: Iterable[Path]) -> dict[Path, set[str]]:
    """Which parts need each file, now that one of them needs `paths`; a file that none needs any more has none. In
    manifests of earlier releases all is the house's."""
    needed = {Path(path): set((parts or HOUSE.name).split()) for path, parts in before.get("files", {}).items()}
    for parts in needed.values():
        parts.discard(part.name)
    for path in paths:
        needed.setdefault(path, set()).add(part.name)
    return needed


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8") != text
    except FileNotFoundError:
        return True


def _manifest(
    where: Layout, needed: dict[Path, set[str]], sums: dict[str, str], before: dict[str, dict[str, str]]
) -> str:
    kept = {path: parts for path, parts in needed.items() if parts}
    made = missing_folders([*kept, where.manifest]) | {Path(path) for path in before.get("folders", {})}
    content = {
        "files": {str(path): " ".join(sorted(parts)) for path, parts in kept.items()},
        "folders": {str(folder): "" for folder in sorted(made)},
        "daemons": sums,
    }
    return json.dumps(content, indent=1) + "\n"


def _accounts(where: Layout, part: Part) -> list[Step]:
    """The user whom a machine's services run as, and the folder of the house's sockets."""
    if where.scope != "system":
        return []
    steps: list[Step] = [Run(["systemd-sysusers", str(where.prefix / "lib/sysusers.d/timmy.conf")])]
    if part == HOUSE:
        steps.append(Run(["systemd-tmpfiles", "--create", str(where.prefix / "lib/tmpfiles.d/timmy.conf")]))
    return steps


def _start_house(where: Layout, changed: bool, restart: list[str]) -> list[Step]:
    steps: list[Step] = [
        Run([sys.executable, "-I", "-m", "tools.cli", "models", "pull"], environ=_model_place(where)),
        *_reload(where, changed),
        Run([*where.manager, "enable", HOUSE.wanted]),
        # Whoever was refused before gets another try.
        Run([*where.manager, "stop", *(f"timmy-refused@{daemon}.target" for daemon in DAEMONS)], lenient=True),
    ]
    if restart:
        steps.append(Run([*where.manager, "try-restart", *(f"timmy-{daemon}.service" for daemon in restart)]))
    return [*steps, Run([*where.manager, "start", HOUSE.wanted])]


def _start_satellite(where: Layout, changed: bool, restart: list[str]) -> list[Step]:
    """Without a house in its configuration it does not start: that is looked at afterwards."""
    steps = [*_reload(where, changed), Run([*where.manager, "enable", SATELLITE.wanted])]
    verb = "restart" if restart else "start"
    return [*steps, Run([*where.manager, verb, SATELLITE.wanted], lenient=True)]


def _reload(where: Layout, changed: bool) -> list[Step]:
    return [Run([*where.manager, "daemon-reload"])] if changed else []


def _check_satellite(where: Layout) -> None:
    """Raises ConfigError with what it says where it did not start."""
    unit = state.units(where.manager).get("satellite")
    if unit is None:
        raise InstallError(f"{' '.join(where.manager)} does not tell of {SATELLITE.wanted}: look at its status")
    if not unit.state.startswith("active"):
        raise ConfigError(f"installed, but it does not run yet: {unit.said or unit.state}; then install it again")


def _model_place(where: Layout) -> dict[str, str]:
    return {"TIMMY_CACHE": str(where.cache), "XDG_CONFIG_HOME": "/etc"} if where.scope == "system" else {}


def _systemd_version() -> int:
    if not shutil.which("systemctl"):
        raise InstallError("systemd is not here: `timmy up` and `timmy satellite` do without it")
    told = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True).stdout
    return int(told.split()[1])


# --- the end of it ---


def _uninstall_steps(where: Layout) -> list[Step]:
    before = installed(where)
    if not before:
        return []
    steps: list[Step] = []
    if where.known:
        there = [part for part in PARTS if set(part.services) & set(before["daemons"])]
        services = [f"timmy-{each}.service" for part in there for each in part.services]
        steps += [Run([*where.manager, "disable", "--now", part.wanted], lenient=True) for part in there]
        sockets = SOCKETS if HOUSE in there else []
        steps.append(Run([*where.manager, "stop", *sockets, *services, "timmy.slice"], lenient=True))
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
