"""Messages to frames and back. Everything that can be wrong with bytes is caught here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ipc import limits
from ipc.errors import Code, LocalProtocolError, RemoteProtocolError
from ipc.messages import REGISTRY, Body, Count, Name, Rid


class Message(msgspec.Struct, frozen=True):
    """One message with its header. `payload` is empty when there is none."""

    rid: bytes
    seq: int
    epoch: int
    ttl_ms: int
    body: Body
    payload: bytes = b""


class _Outgoing(msgspec.Struct, frozen=True):
    v: int
    type: str
    rid: bytes
    seq: int
    epoch: int
    ttl_ms: int
    body: Body


class _Incoming(msgspec.Struct, frozen=True):
    v: Annotated[int, Meta(ge=1, le=255)]
    type: Name
    rid: Rid
    seq: Count
    epoch: Count
    ttl_ms: Annotated[int, Meta(ge=0, le=limits.TTL_MAX_MS)]
    body: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_header = msgspec.msgpack.Decoder(_Incoming)


class _Decoders(dict[str, msgspec.msgpack.Decoder[Any]]):
    """Each is made when its message first comes or goes: all at once would hold up every start for 15 ms."""

    def __missing__(self, name: str) -> msgspec.msgpack.Decoder[Any]:
        self[name] = msgspec.msgpack.Decoder(REGISTRY[name])
        return self[name]


_bodies = _Decoders()
_names = {cls: name for name, cls in REGISTRY.items()}

_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec was seen to raise on hostile input, beyond its own errors."""

_ENCODE_ERRORS = (msgspec.MsgspecError, UnicodeEncodeError, OverflowError, TypeError, RecursionError)
"""What it was seen to raise on values that do not belong into a message."""


def encode(message: Message) -> list[bytes]:
    """The frames of a message. Raises LocalProtocolError for anything that `decode` would refuse."""
    name = _names.get(type(message.body))
    if name is None:
        raise LocalProtocolError(f"{type(message.body).__name__} is not a message of the wire")
    try:
        header = _encoder.encode(
            _Outgoing(
                limits.PROTOCOL_VERSION, name, message.rid, message.seq, message.epoch, message.ttl_ms, message.body
            )
        )
        # msgspec checks bounds only when it decodes. A microsecond here tells the one who can mend it.
        _bodies[name].decode(_header.decode(header).body)
    except _ENCODE_ERRORS as error:
        raise LocalProtocolError(f"{name} cannot be sent: {error}") from None
    if len(header) > limits.HEADER_MAX_BYTES:
        raise LocalProtocolError(f"{name} of {len(header)} bytes is over the limit of {limits.HEADER_MAX_BYTES}")
    if len(message.payload) > limits.PAYLOAD_MAX_BYTES:
        raise LocalProtocolError(
            f"a payload of {len(message.payload)} bytes is over the limit of {limits.PAYLOAD_MAX_BYTES}"
        )
    return [header, message.payload] if message.payload else [header]


def decode(frames: Sequence[bytes]) -> Message:
    """The message in `frames`. Garbage either parses or raises RemoteProtocolError, which names the
    request as soon as that could be read."""
    if not 1 <= len(frames) <= limits.FRAMES_MAX:
        raise RemoteProtocolError(f"a message has 1 to {limits.FRAMES_MAX} frames, this has {len(frames)}")
    payload = frames[1] if len(frames) > 1 else b""
    if len(frames[0]) > limits.HEADER_MAX_BYTES or len(payload) > limits.PAYLOAD_MAX_BYTES:
        raise RemoteProtocolError("a frame is over its limit")
    try:
        header = _header.decode(frames[0])
    except _DECODE_ERRORS as error:
        raise RemoteProtocolError(f"the header cannot be read: {error}") from None
    if header.v != limits.PROTOCOL_VERSION:
        raise RemoteProtocolError(
            f"version {header.v} is not spoken here, only {limits.PROTOCOL_VERSION}",
            Code.UNSUPPORTED_VERSION,
            header.rid,
            header.epoch,
        )
    if header.type not in REGISTRY:
        raise RemoteProtocolError(f"type {header.type!r} is not known", Code.UNKNOWN_TYPE, header.rid, header.epoch)
    try:
        body = _bodies[header.type].decode(header.body)
    except _DECODE_ERRORS as error:
        detail = f"{header.type} cannot be read: {error}"
        raise RemoteProtocolError(detail, Code.BAD_MESSAGE, header.rid, header.epoch) from None
    return Message(header.rid, header.seq, header.epoch, header.ttl_ms, body, payload)
