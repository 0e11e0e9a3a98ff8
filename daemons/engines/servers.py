"""What engines behind an HTTP server have in common."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from daemons.engines.base import EngineError

CONNECT_S = 2.0
READ_S = 300.0
"""A large model may take minutes to be loaded before its first token."""


class KeyRefused(EngineError):
    """The server wants another key, or one at all: asking again does not help."""


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def in_a_line(text: str) -> str:
    """What a server says, for an error."""
    return " ".join(text.split())[:300] or "no reason given"
