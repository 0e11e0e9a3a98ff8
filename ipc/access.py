"""What a key may do: the one table of who may send which message to which daemon over a network. Pure.

A peer on this machine is known by its uid and may do everything; this is about the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ipc.endpoints import DAEMONS
from ipc.messages import Attach, Audio, Body, Feed, Follow, Hello, Kind, Ping, Status


class Role(StrEnum):
    """What an allowed key is for."""

    SATELLITE = "satellite"  # microphone and speaker of another room: one conversation, which bears its name
    VIEWER = "viewer"  # sees what passes and how the daemons are, and changes nothing


_GREETING: frozenset[type[Body]] = frozenset({Hello, Ping})
_EVERY_VIEWER = _GREETING | {Status}

RIGHTS: Mapping[Role, Mapping[str, frozenset[type[Body]]]] = {
    Role.SATELLITE: {
        "stt": _GREETING | {Feed, Audio},
        "tts": _GREETING | {Attach},
    },
    Role.VIEWER: {**dict.fromkeys(DAEMONS, _EVERY_VIEWER), "dialog": _EVERY_VIEWER | {Follow}},
}
"""Requests and upward items. What belongs to any request that is open (`end`, `cancel`, grants) is not listed."""

OBSERVERS = frozenset({Role.VIEWER})
"""Who may observe: that shows the words of all conversations."""

_OF_ANY_REQUEST = frozenset({Kind.END, Kind.CANCEL, Kind.CREDIT})


@dataclass(frozen=True, slots=True)
class Guest:
    """Who sent a message over the network. `role` None: its key is not allowed, or not any more; `name` is empty
    then."""

    key: str
    role: Role | None = None
    name: str = ""

    def refusal(self, daemon: str, body: Body) -> str:
        """Why this message may not be sent to that daemon, in a line for a person; empty: it may."""
        if self.role is None:
            return "this key is not allowed here (any more): see `timmy keys list` in the house"
        if body.KIND in _OF_ANY_REQUEST:
            return ""
        if type(body) not in RIGHTS[self.role].get(daemon, ()):
            return f"a {self.role} may not send {body.type_name()} to {daemon}"
        conversation = getattr(body, "conversation", self.name)
        if self.role is Role.SATELLITE and conversation != self.name:
            return f"satellite {self.name!r} has one conversation, {self.name!r}, and {conversation!r} is not it"
        return ""


def may_connect(role: Role, daemon: str) -> bool:
    """Whether there is anything that the role may send to that daemon."""
    return daemon in RIGHTS[role]
