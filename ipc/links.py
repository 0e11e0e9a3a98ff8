"""A connection by its descriptor: whose it is by the kernel's word, and how to end it.

ZeroMQ has no call that ends one connection of a ROUTER. Its descriptor is known (`ZMQ_SRCFD` of what came on it), and
`shutdown(2)` makes libzmq find the connection ended by its peer. The descriptor may have been closed and given to
something else meanwhile, so the socket behind it is compared first: with the peer that libzmq named when the link is
made, and with the inode that it had then when it is cut. Both are done on a duplicate, which holds on to that very
socket, so nothing can change between the look and the deed. It is closed at once: as long as there is a duplicate, a
peer does not see that libzmq has hung up.

One case is left: a connection ended before its first message was read, and its descriptor went to another one of the
same process. Then the cut ends that one: the process that broke the rules connects anew.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_NOTHING = (0, 0)
_UCRED = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Link:
    """`address` as libzmq has it: localhost:UID:GID:PID of an ipc peer, otherwise where it is."""

    address: str
    fd: int
    inode: tuple[int, int]

    @classmethod
    def at(cls, fd: int, address: str) -> Link:
        """That of the descriptor, if it is still a connection of that peer."""
        with suppress(OSError), _held(fd) as held:
            if _address(held) == address:
                return cls(address, fd, _inode(held))
        return cls(address, fd, _NOTHING)

    @property
    def is_of_a_process(self) -> bool:
        """The kernel has named one."""
        return self.address.startswith("localhost:")

    @property
    def pid(self) -> int:
        """0: the kernel has named none."""
        return int(self.address.split(":")[3]) if self.is_of_a_process else 0

    @property
    def who(self) -> str:
        if not self.is_of_a_process:
            return self.address
        return f"uid {self.address.split(':')[1]}, pid {self.pid}"

    def cut(self) -> bool:
        """Ends the connection. False: it has ended already."""
        with suppress(OSError), _held(self.fd) as held:
            if _inode(held) == self.inode:
                held.shutdown(socket.SHUT_RDWR)
                return True
        return False


@contextmanager
def _held(fd: int) -> Iterator[socket.socket]:
    """A duplicate. Raises OSError: it is closed, or no socket."""
    duplicate = os.dup(fd)
    try:
        held = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise
    with held:
        yield held


def credentials(held: socket.socket) -> tuple[int, int, int]:
    """Whose connection over a Unix socket it is, by the kernel's word: pid, uid and gid of who connected."""
    pid, uid, gid = _UCRED.unpack(held.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def _inode(held: socket.socket) -> tuple[int, int]:
    stat = os.fstat(held.fileno())
    return stat.st_dev, stat.st_ino


def _address(held: socket.socket) -> str:
    if held.family == socket.AF_UNIX:
        pid, uid, gid = credentials(held)
        return f"localhost:{uid}:{gid}:{pid}"
    return str(held.getpeername()[0])
