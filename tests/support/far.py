"""A daemon's door to a network, for tests: keys in a folder, and ports that are free."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ipc.access import Guest, Role
from ipc.keys import allow, read_secret, write_secret
from ipc.network import PORTS, House, Network, listening
from ipc.security import new_secret, public_of

HOST = "127.0.0.1"


def free_base() -> int:
    """The first of PORTS ports that nobody has. Tests that run side by side look in different places."""
    first = 10_240 + os.getpid() % 1000 * 20
    for base in range(first, first + 10_000, PORTS):
        if all(_free(port) for port in range(base, base + PORTS)):
            return base
    raise AssertionError("no ports are free")


def _free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind((HOST, port))
        except OSError:
            return False
    return True


class FarHouse:
    """The keys of a house in `folder`, and those of its guests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = free_base()
        write_secret(folder, new_secret())

    def network(self) -> Network:
        network = listening(HOST, self.base, self.folder)
        assert network is not None
        return network

    @property
    def key(self) -> str:
        return public_of(read_secret(self.folder))

    def admit(self, name: str, role: Role = Role.SATELLITE) -> House:
        """Allows a new key; what its owner needs to know."""
        stranger = self.stranger()
        allow(self.folder, Guest(public_of(stranger.secret), role, name))
        return stranger

    def stranger(self) -> House:
        """One who knows where the house is, and has a key that nobody allowed."""
        return House(HOST, self.base, self.key, new_secret())
