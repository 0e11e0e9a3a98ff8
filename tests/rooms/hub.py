"""The cables of a house: passes frames between its port and those of its rooms, late, with losses, or not at all.

`python hub.py HOUSE ROOM...` (interfaces of this network namespace), and on stdin, one a line, what becomes of a room's
cable: `{"room": "kitchen", "delay_s": 0.2, "loss": 0.02}`; a loss of 1 is a cut cable. Only the standard library: it
runs before anything else does. Needs root.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import random
import socket
import struct
import sys
from dataclasses import dataclass, field

ALL = 3  # ETH_P_ALL
FRAME_MAX = 65_535
SEED = 7
BATCH = 256
_SIOCETHTOOL = 0x8946
_OFFLOADS = (0x17, 0x19, 0x1F, 0x24, 0x2C)  # checksums, gathering, and making large pieces of small ones


def without_offloads(interface: str) -> None:
    """Has the kernel finish each frame itself: what is left to a network card would never be done here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(control, _SIOCETHTOOL, request)


@dataclass
class Port:
    """One end of a cable; what goes over it, either way, comes late or not at all."""

    interface: str
    delay_s: float = 0.0
    loss: float = 0.0
    passed: int = 0
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ALL))
        self.socket.bind((self.interface, 0))

    def received(self) -> list[bytes]:
        """What others sent; our own sends are shown as well, and left out."""
        frames = []
        for _ in range(BATCH):
            try:
                frame, address = self.socket.recvfrom(FRAME_MAX)
            except BlockingIOError:
                break
            if address[2] != socket.PACKET_OUTGOING:
                frames.append(frame)
        return frames

    def send(self, frame: bytes) -> None:
        try:
            self.socket.send(frame)
        except OSError:  # its other end is down: a cable that is not plugged in
            return


class Hub:
    def __init__(self, house: str, rooms: list[str]) -> None:
        self._chance = random.Random(SEED)
        self._house = Port(house)
        self._rooms = {name: Port(name) for name in rooms}

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._house.socket, self._from_house)
        for room in self._rooms.values():
            self._loop.add_reader(room.socket, self._from_room, room)
        self._loop.add_reader(sys.stdin, self._told)

    def _from_house(self) -> None:
        for frame in self._house.received():
            for room in self._rooms.values():  # the kernel there takes what is for it
                self._pass(room, room, frame)

    def _from_room(self, room: Port) -> None:
        for frame in room.received():
            self._pass(room, self._house, frame)

    def _pass(self, cable: Port, to: Port, frame: bytes) -> None:
        if self._chance.random() < cable.loss:
            return
        if cable.delay_s:
            self._loop.call_later(cable.delay_s, to.send, frame)
        else:
            to.send(frame)

    def _told(self) -> None:
        line = sys.stdin.readline()
        if not line:
            self._loop.stop()
            return
        orders = json.loads(line)
        cable = self._rooms[orders["room"]]
        cable.delay_s, cable.loss = orders["delay_s"], orders["loss"]
        print(line.strip(), flush=True)


def main() -> None:
    loop = asyncio.new_event_loop()
    hub = Hub(sys.argv[1], sys.argv[2:])
    loop.call_soon(hub.start)
    print("{}", flush=True)
    loop.run_forever()


if __name__ == "__main__":
    main()
