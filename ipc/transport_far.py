"""The way to a daemon on another machine: TCP, and a key on both sides."""

from __future__ import annotations

import asyncio

import zmq

from ipc import limits
from ipc.network import House
from ipc.sockets import Context, Keys
from ipc.transport import ZmqClientTransport


class HouseTransport(ZmqClientTransport):
    """A DEALER to a daemon on another machine, which has to let our key in, and to prove its own."""

    def __init__(self, daemon: str, house: House, context: Context | None = None) -> None:
        self.where = self._endpoint = house.endpoint(daemon)
        self._keys = Keys(house.key, house.secret)
        self._context = context or zmq.Context.instance()
        self._again: asyncio.TimerHandle | None = None

    @property
    def silence_s(self) -> float:
        return limits.FAR_SILENCE_S

    def _failed(self, event: int) -> None:
        if event != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.trouble = "whoever listens there has another key than house.key says, or speaks otherwise"
            return
        self.trouble = "it does not allow this machine's key: timmy keys allow KEY, in the house"
        if self._again is None:  # libzmq gives a connection up that was refused
            self._again = asyncio.get_running_loop().call_later(limits.DOOR_RETRY_S, self._connect_again)

    def _connect_again(self) -> None:
        self._again = None
        self._socket.disconnect(self._endpoint)
        self._socket.connect(self._endpoint)

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        super().close()
