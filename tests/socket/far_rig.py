"""A daemon of these tests with a door to a network, and clients that come through it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from ipc.call import Handler
from ipc.client import Client
from ipc.messages import Body, Feed
from ipc.network import House
from ipc.server import Server
from ipc.transport import ClientTransport, ZmqServerTransport
from ipc.transport_far import HouseTransport
from tests.socket.rig import Wire, count_audio, report
from tests.support.far import FarHouse

DAEMON = "stt"


class FarWire(Wire):
    """Clients come over the network, with the keys of a guest."""

    def __init__(self, guest: House) -> None:
        super().__init__(None)
        self._guest = guest

    def client_transport(self) -> ClientTransport:
        return HouseTransport(DAEMON, self._guest)


def transport(house: FarHouse, folder: Path) -> ZmqServerTransport:
    return ZmqServerTransport(DAEMON, folder, network=house.network())


@asynccontextmanager
async def serving(
    house: FarHouse, tmp_path: Path, handlers: Mapping[type[Body], Handler] | None = None
) -> AsyncIterator[Server]:
    """Its sockets on this machine are in `tmp_path`/run."""
    server = Server(DAEMON, transport(house, tmp_path / "run"), handlers or {Feed: count_audio}, report)
    server.start()
    try:
        yield server
    finally:
        await server.close()


def far_client(guest: House) -> Client:
    return Client(DAEMON, "kitchen", house=guest)
