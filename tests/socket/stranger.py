"""A program that becomes somebody else and comes to a daemon's socket, as its argument (JSON) says. It prints what
became of it: the name of ZeroMQ's event, or of the error that ended it before.

All that it imports it imports first: whom it becomes may not be allowed to read the interpreter's files.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

PR_SET_DUMPABLE = 4
MS_BIND = 4096
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def become(uid: int, gid: int, groups: list[int]) -> None:
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def enter_a_namespace_as(inside: int) -> None:
    """Of its own, where it is called `inside`."""
    uid, gid = os.getuid(), os.getgid()
    call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)  # else its own /proc/self belongs to root
    call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{inside} {uid} 1"), ("gid_map", f"{inside} {gid} 1")):
        Path("/proc/self", name).write_text(text)


def come_by(way: str, path: Path, own: Path) -> Path:
    """Another path to the same socket. `own`: a folder that everybody may write to."""
    if way == "link":
        (own / "link").symlink_to(path)
        return own / "link"
    if way == "linked folder":
        (own / "linked").symlink_to(path.parent)
        return own / "linked" / path.name
    if way == "hard link":
        (own / "hard").hardlink_to(path)
        return own / "hard"
    if way == "mount":
        (own / "mounted").mkdir()
        call("mount", bytes(path.parent), bytes(own / "mounted"), None, MS_BIND, None)
        return own / "mounted" / path.name
    return path


def main() -> None:
    how = json.loads(sys.argv[1])
    context = zmq.Context()
    try:
        become(how["uid"], how["gid"], how["groups"])
        if how["inside"] is not None:
            enter_a_namespace_as(how["inside"])
        path = come_by(how["way"], Path(how["path"]), Path(how["own"]))
    except OSError as error:
        print(type(error).__name__)
        return
    peer = context.socket(getattr(zmq, how["kind"]))
    peer.setsockopt(zmq.LINGER, 0)
    if how["kind"] == "SUB":
        peer.setsockopt(zmq.SUBSCRIBE, b"")
    outcomes = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED
    monitor = peer.get_monitor_socket(outcomes | zmq.EVENT_CONNECT_RETRIED)
    peer.connect(f"ipc://{path}")
    if how["kind"] == "DEALER":
        peer.send(bytes.fromhex(how["frame"]))
    print(zmq.Event(recv_monitor_message(monitor)["event"]).name)
    if how["kind"] == "DEALER":
        peer.poll(how["stay_ms"])


if __name__ == "__main__":
    main()
