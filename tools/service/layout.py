"""Where the files of the service go, and what is in them."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from daemons import config
from ipc.endpoints import DAEMONS
from ipc.errors import EXIT_USAGE, TimmyError

CLOSED = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""Folders that the sandbox of a system service hides or replaces."""

LOCAL = ("localhost", "127.0.0.1", "::1")

_SHARED = ("timmy-.service.d/", "timmy.slice")
"""Files among the units that every part needs."""


class InstallError(TimmyError):
    """It cannot be installed like this."""

    exit_status = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Part:
    """What can be installed: `services` of systemd, and the unit that is `wanted` at each start of the machine."""

    name: str
    services: tuple[str, ...]
    wanted: str


HOUSE = Part("house", DAEMONS, "timmy.target")
SATELLITE = Part("satellite", ("satellite",), "timmy-satellite.service")
PARTS = (HOUSE, SATELLITE)


@dataclass(frozen=True, slots=True)
class Layout:
    """`manager`: what systemctl is called with for it."""

    scope: str
    prefix: Path
    units: Path
    manager: tuple[str, ...]
    state: Path
    cache: Path
    configuration: Path

    @property
    def manifest(self) -> Path:
        """What was installed, for the next time and for the end."""
        return self.prefix / "share" / "timmy" / "installed.json"

    @property
    def command(self) -> Path:
        return self.prefix / "bin" / "timmy"

    @property
    def known(self) -> bool:
        """Whether systemd looks for units there."""
        return self.units in _searched(self.scope)


def layout(scope: str, prefix: Path | None, environ: Mapping[str, str] = os.environ) -> Layout:
    """`scope`: system or user."""
    if scope == "system":
        prefix = prefix or Path("/usr/local")
        paths = (Path("/var/lib/timmy"), Path("/var/cache/timmy"), Path("/etc/timmy"))
        return Layout(scope, prefix, prefix / "lib/systemd/system", ("systemctl",), *paths)
    prefix = prefix or Path(environ["HOME"]) / ".local"
    # The user's systemd knows nothing of what a shell exports.
    home = {"HOME": environ["HOME"]}
    paths = (config.state_dir(home), config.cache_dir(home), config.config_path(home).parent)
    return Layout(scope, prefix, prefix / "share/systemd/user", ("systemctl", "--user"), *paths)


def _searched(scope: str) -> tuple[Path, ...]:
    if scope == "system":
        return (Path("/usr/local/lib/systemd/system"), Path("/usr/lib/systemd/system"), Path("/etc/systemd/system"))
    return (Path(os.environ["HOME"]) / ".local/share/systemd/user", Path("/usr/local/share/systemd/user"))


def shipped() -> Path:
    """The unit files as they come with the program."""
    for folder in (Path(__file__).parent.parent.parent / "systemd", Path(sys.prefix) / "share/timmy/systemd"):
        if (folder / "units" / "timmy-stt.service").is_file():
            return folder
    raise InstallError(f"the unit files are missing from {sys.prefix}/share/timmy: install the program again")


def files(where: Layout, version: int, python: Path, settings: config.Config, part: Part = HOUSE) -> dict[Path, str]:
    """Path and text of all that is to be there for a part. `version`: of the systemd that will read them."""
    source = shipped()
    found = _texts(source / "units", where.units) | _texts(source / where.scope, where.units)
    for newer in sorted(source.glob("[0-9]*")):
        if int(newer.name) <= version:
            found |= _texts(newer, where.units)
    found = {path: text for path, text in found.items() if _is_of(part, path.relative_to(where.units).as_posix())}
    if where.scope == "system":
        found |= _texts(source / "sysusers.d", where.prefix / "lib/sysusers.d")
    if part == SATELLITE:
        found |= _way(where, settings)
    else:
        found |= _house_s_own(where, source, settings)
    return {path: text.replace("@python@", str(python)) for path, text in found.items()}


def _is_of(part: Part, name: str) -> bool:
    """Whether a file among the units is for that part; some are for both."""
    return name.startswith(_SHARED) or name.startswith("timmy-satellite.") == (part == SATELLITE)


def _house_s_own(where: Layout, source: Path, settings: config.Config) -> dict[Path, str]:
    found = _door(where, settings)
    if where.scope == "system":
        found |= _texts(source / "tmpfiles.d", where.prefix / "lib/tmpfiles.d") | _network(where, settings)
    return found


def _texts(source: Path, target: Path) -> dict[Path, str]:
    paths = [path for path in sorted(source.rglob("*")) if path.is_file()]
    return {target / path.relative_to(source): path.read_text("utf-8") for path in paths}


def of_daemon(where: Layout, texts: Mapping[Path, str], daemon: str) -> list[str]:
    """The texts that concern one daemon."""
    others = [f"timmy-{other}." for other in DAEMONS if other != daemon]
    inside = {
        path.relative_to(where.units).as_posix(): text for path, text in texts.items() if where.units in path.parents
    }
    return [text for name, text in sorted(inside.items()) if not name.startswith(tuple(others))]


def _network(where: Layout, settings: config.Config) -> dict[Path, str]:
    """What llm may reach: nothing, this machine (as it is shipped), or the one configured address."""
    path = where.units / "timmy-llm.service.d" / "30-server.conf"
    if settings.llm.engine == "llama":
        text = "# llm.engine is llama: no network.\n[Service]\nPrivateNetwork=yes\nIPAddressAllow=\n"
        return {path: f"{text}RestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX\n"}
    key = "openai_url" if settings.llm.engine == "openai" else "ollama_url"
    url: str = getattr(settings.llm, key)
    host = urlsplit(url).hostname or ""
    if host in LOCAL:
        return {}
    addresses = " ".join(_addresses(host, f"llm.{key}"))
    return {path: f"# {url}, and who knows its address.\n[Service]\nIPAddressAllow={addresses}\n"}


def _way(where: Layout, settings: config.Config) -> dict[Path, str]:
    """What a satellite may reach: the configured address of its house. A user's systemd cannot limit that."""
    host = settings.house.address
    if where.scope != "system" or not host:
        return {}
    addresses = " ".join(_addresses(host, "house.address"))
    text = f"# house.address is {host}, and who knows its address.\n[Service]\nIPAddressAllow={addresses}\n"
    return {where.units / "timmy-satellite.service.d" / "35-house.conf": text}


NEAR = "localhost link-local 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7"
"""Networks of houses and offices (RFC 1918, RFC 4193)."""


def _door(where: Layout, settings: config.Config) -> dict[Path, str]:
    """What lets satellites and viewers in, where network.listen asks for it: from near networks, unless the address
    that is listened at is of another."""
    if not settings.network.listen:
        return {}
    near = ipaddress.ip_address(settings.network.listen).is_private
    # Whoever binds a TCP port with libzmq asks the kernel for its interfaces, and is aborted when that is refused.
    families = "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK"
    text = f"# network.listen is {settings.network.listen}.\n[Service]\n{families}\n"
    if where.scope == "system":
        text += f"PrivateNetwork=no\nIPAddressAllow={NEAR if near else 'any'}\n"
    return {where.units / f"timmy-{daemon}.service.d" / "40-door.conf": text for daemon in DAEMONS}


def _addresses(host: str, key: str) -> list[str]:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise InstallError(f"the address of {host!r} ({key}) is not known: {error.strerror}") from None
    if host in found:
        return [host]
    lines = [line.split() for line in Path("/etc/resolv.conf").read_text("utf-8").splitlines()]
    return sorted(found | {line[1] for line in lines if line[:1] == ["nameserver"] and len(line) > 1})


def interpreter(where: Layout) -> Path:
    """The Python that the daemons will run with. Raises InstallError where the sandbox would hide it."""
    python = Path(sys.executable)
    for folder in (python, Path(__file__).resolve(), python.resolve()):
        if where.scope == "system" and str(folder).startswith(tuple(f"{closed}/" for closed in CLOSED)):
            raise InstallError(
                f"{folder} lies where a system service cannot see it: install the program into /opt/timmy "
                "(python3 -m venv /opt/timmy; /opt/timmy/bin/pip install WHEEL), or use --user"
            )
    return python


def installed(where: Layout) -> dict[str, dict[str, str]]:
    """The manifest: `files` with the parts that need them, `folders`, `daemons` with their sums. Empty where nothing
    is installed."""
    try:
        found: dict[str, dict[str, str]] = json.loads(where.manifest.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InstallError(f"{where.manifest} is damaged: remove it, then install again") from None
    return found
