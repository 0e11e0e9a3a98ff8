"""Has the loop answer what libzmq asks about new connections."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ipc import limits
from ipc.access import Role
from ipc.network import Network
from ipc.security import Gatekeeper
from ipc.sockets import Reader


class Doorkeeper(Reader):
    """Connections wait while it is told not to admit any; libzmq gives each up after HANDSHAKE_IVL."""

    def __init__(self, gate: Gatekeeper) -> None:
        self._gate = gate
        self._shut = False
        self._held: deque[list[bytes]] = deque(maxlen=limits.PEERS_MAX)
        super().__init__(gate.socket, self._asked, frames_max=16)

    def admit(self, yes: bool) -> None:
        self._shut = not yes
        while self._held and yes:
            self._asked(self._held.popleft())

    def _asked(self, frames: list[bytes]) -> None:
        if self._shut:
            self._held.append(frames)
        elif reply := self._gate.answer(frames):
            self._gate.socket.send_multipart(reply)
            self.sent()


def admits(network: Network | None, wanted: Callable[[Role], bool]) -> Callable[[str], bool]:
    """Which keys come in at a socket that is for the `wanted` roles."""

    def admits(key: str) -> bool:
        role = network.keyring.guest(key).role if network else None
        return role is not None and wanted(role)

    return admits
