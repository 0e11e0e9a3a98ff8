"""Every error that crosses a socket or ends a program.

TimmyError                     one line for a person: what is wrong, what to do
├── ProtocolError              the rules of the wire were broken
│   ├── LocalProtocolError     ... by this side: a programming error, never sent
│   └── RemoteProtocolError    ... by the peer: raised only where bytes come in
├── CallError                  a request ended in `error`; carries the code the peer sent
│   ├── PeerGone               the peer died, restarted, hangs, or was never there
│   └── DeadlineExceeded       the time given to the request ran out
├── CallCancelled              a request ended in `cancelled`
├── ConfigError                a configuration that cannot be used (exit 78)
└── EndpointError              a socket folder or path that cannot be used (exit 73)
"""

from __future__ import annotations

from enum import StrEnum

from ipc.text import printable

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_NO_INPUT = 66
EXIT_UNAVAILABLE = 69
EXIT_SOFTWARE = 70
EXIT_CANT_CREATE = 73
EXIT_IO = 74
EXIT_TEMPORARY = 75
EXIT_CONFIG = 78


class Code(StrEnum):
    """Error codes of the wire. Each has a row in PROTOCOL.md."""

    BAD_MESSAGE = "bad_message"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_TYPE = "unknown_type"
    OVER_QUOTA = "over_quota"
    DEADLINE = "deadline"
    PEER_GONE = "peer_gone"
    BUSY = "busy"
    NOT_READY = "not_ready"
    BAD_REQUEST = "bad_request"
    NOT_ALLOWED = "not_allowed"
    ENGINE_FAILED = "engine_failed"
    MODEL_MISSING = "model_missing"
    MODEL_DAMAGED = "model_damaged"
    DEVICE_MISSING = "device_missing"
    DEVICE_BUSY = "device_busy"
    DEVICE_LOST = "device_lost"
    STORE_LOCKED = "store_locked"
    STORE_READ_ONLY = "store_read_only"
    STORE_DAMAGED = "store_damaged"
    STORE_NEWER = "store_newer"
    STORE_FULL = "store_full"
    UPSTREAM_DOWN = "upstream_down"
    UPSTREAM_FAILED = "upstream_failed"
    EMPTY_ANSWER = "empty_answer"
    INTERNAL = "internal"


class TimmyError(Exception):
    """Base of all expected failures. `str()` is one line that a person can act on.

    `exit_status` is what a program ends with when this reaches its top.
    """

    exit_status = EXIT_SOFTWARE

    def __str__(self) -> str:
        """What an engine, a model or a peer has said may be part of it."""
        return printable(super().__str__())


class ProtocolError(TimmyError):
    """The rules in PROTOCOL.md were broken."""


class LocalProtocolError(ProtocolError):
    """This side tried to do what the session table does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what cannot be understood or is not allowed here.

    `rid` and `epoch` name the request concerned when they could still be read.
    """

    def __init__(self, detail: str, code: Code = Code.BAD_MESSAGE, rid: bytes = b"", epoch: int = 0) -> None:
        super().__init__(detail)
        self.code = code
        self.rid = rid
        self.epoch = epoch


class CallError(TimmyError):
    """A request ended in `error`. `code` is stable; the text is for people."""

    exit_status = EXIT_SOFTWARE

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class PeerGone(CallError):
    """The daemon is not there (any more). The request may or may not have been carried out."""

    exit_status = EXIT_UNAVAILABLE

    def __init__(self, detail: str) -> None:
        super().__init__(Code.PEER_GONE, detail)


class DeadlineExceeded(CallError):
    """The request took longer than it was given."""

    exit_status = EXIT_TEMPORARY

    def __init__(self, detail: str) -> None:
        super().__init__(Code.DEADLINE, detail)


class CallCancelled(TimmyError):
    """The request ended in `cancelled`: nobody wants its result."""


class ConfigError(TimmyError):
    """The configuration cannot be used; starting again will not help."""

    exit_status = EXIT_CONFIG


class EndpointError(TimmyError):
    """A socket cannot be created where it was asked for."""

    exit_status = EXIT_CANT_CREATE
