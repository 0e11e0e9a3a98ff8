"""What a daemon publishes, to viewers on a network: an XPUB behind CURVE. Observers on this machine are served by
observation.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import zmq

from ipc import limits
from ipc.access import OBSERVERS
from ipc.doorkeeper import Doorkeeper, admits
from ipc.errors import EndpointError
from ipc.network import Network
from ipc.security import Gatekeeper
from ipc.sockets import Context, Door, Reader, publisher, send_now

log = logging.getLogger(__name__)


class FarObservation:
    """It has a context of its own, so that it can be closed and opened anew: nothing else makes libzmq forget what a
    viewer without measure has subscribed to, nor cuts off one whose key is revoked. Those with measure, and allowed,
    connect again by themselves."""

    def __init__(self, daemon: str, network: Network) -> None:
        """Raises zmq.ZMQError, EndpointError."""
        self._daemon, self._network = daemon, network
        self._open()

    def _open(self) -> None:
        self.subscriptions = 0
        self._heard_in_second = 0
        self._second = 0.0
        self._reopening: asyncio.TimerHandle | None = None
        self._context: Context = zmq.Context()
        self._gate = Gatekeeper(self._context, admits=admits(self._network, OBSERVERS.__contains__))
        try:
            self._socket = publisher(self._context)
            self._door = Door(self._socket, self._network.endpoint(self._daemon, observer=True), self._network.secret)
        except (zmq.ZMQError, EndpointError):
            self.abandon()
            raise

    def abandon(self) -> None:
        """Gives the sockets up, where it was not started."""
        self._context.destroy(linger=0)

    def start(self) -> None:
        """On the running loop."""
        self._loop = asyncio.get_running_loop()
        self._readers = [Doorkeeper(self._gate), Reader(self._socket, self._heard, frames_max=1)]
        self._door.start()
        self._look_at(self._network.keyring.keys(OBSERVERS))

    def _look_at(self, viewers: frozenset[str]) -> None:
        """Once a second, whether a viewer is none any more: he sends nothing that could be refused."""
        now = self._network.keyring.keys(OBSERVERS)
        if viewers <= now:
            self._checking = self._loop.call_later(limits.OBSERVER_CHECK_S, self._look_at, now)
        else:
            log.warning("the key of a viewer was revoked: all viewers are cut off, the others come back")
            self._close_for_a_moment()

    def publish(self, frames: Sequence[bytes]) -> None:
        if self.subscriptions:
            send_now(self._socket, frames)
            self._readers[-1].sent()

    def _heard(self, frames: list[bytes]) -> None:
        if frames[0][:1] == b"\x01":
            self.subscriptions += 1
        elif frames[0][:1] == b"\x00":
            self.subscriptions = max(0, self.subscriptions - 1)
        if (now := self._loop.time()) > self._second + 1:
            self._second, self._heard_in_second = now, 0
        self._heard_in_second += 1
        if max(self.subscriptions, self._heard_in_second) > limits.SUBSCRIPTIONS_MAX:
            log.warning("viewers sent over %d subscriptions: all are cut off", limits.SUBSCRIPTIONS_MAX)
            self._close_for_a_moment()

    def _close_for_a_moment(self) -> None:
        self.close()
        self._reopening = self._loop.call_later(limits.REOPEN_S, self._reopen)

    def _reopen(self) -> None:
        try:
            self._open()
        except (zmq.ZMQError, EndpointError) as error:
            log.error("no viewer can observe any more: %s", error)
            return
        self.start()

    def close(self) -> None:
        self.subscriptions = 0
        if self._reopening is not None:
            self._reopening.cancel()
        if self._socket.closed:
            return
        self._checking.cancel()
        self._door.close()
        for reader in self._readers:
            reader.close()
        self._socket.close()
        self._gate.socket.close()
        self._context.term()
