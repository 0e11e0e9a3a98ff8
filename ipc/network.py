"""Beyond this machine: at which address daemons listen, and where a caller finds them. No zmq here.

Each daemon has two ports, counted from a base in the order of DAEMONS: requests, then observation.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from ipc.endpoints import DAEMONS
from ipc.errors import ConfigError
from ipc.keys import Keyring, read_secret

PORTS = 2 * len(DAEMONS)
"""So many follow each other from the base on."""


def endpoint(daemon: str, address: str, base: int, *, observer: bool = False) -> str:
    """Where a daemon listens, as libzmq is told."""
    port = base + 2 * DAEMONS.index(daemon) + observer
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


@dataclass(frozen=True, slots=True)
class Network:
    """The door of the daemons of this machine. `secret`: this machine's key."""

    address: str
    base: int
    secret: str
    keyring: Keyring

    def endpoint(self, daemon: str, *, observer: bool = False) -> str:
        return endpoint(daemon, self.address, self.base, observer=observer)


@dataclass(frozen=True, slots=True)
class House:
    """Daemons on another machine. `key`: theirs, as `timmy keys show` prints it there; `secret`: this machine's."""

    address: str
    base: int
    key: str
    secret: str

    def endpoint(self, daemon: str, *, observer: bool = False) -> str:
        return endpoint(daemon, self.address, self.base, observer=observer)


def listening(listen: str, base: int, keys: Path) -> Network | None:
    """What the daemons listen at; None when `listen` is empty: on no network. Raises ConfigError: no single address,
    no key, or keys that others can read."""
    if not listen:
        return None
    try:
        address = ipaddress.ip_address(listen)
    except ValueError:
        raise ConfigError(f"network.listen = {listen!r}: not an IP address of this machine") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if address.is_unspecified or address.is_multicast or (mapped or address).is_unspecified:
        raise ConfigError(
            f"network.listen = {listen!r}: that is every address this machine has; name one (`ip -brief address`)"
        )
    return Network(str(address), base, read_secret(keys), Keyring(keys))


def house(address: str, base: int, key: str, keys: Path) -> House:
    """Where another machine's daemons are. Raises ConfigError: not set, or no key on this machine."""
    if not address or not key:
        missing = "address" if not address else "key"
        raise ConfigError(
            f"house.{missing} is not set: [house] in timmy.toml names the machine whose daemons this one uses, "
            "and its key (`timmy keys show` prints it there)"
        )
    return House(address, base, key, read_secret(keys))
