"""What the tts daemon and its Piper process say to each other, over the latter's stdin and stdout.

Piper is GPL: it runs in a program of its own (piper_worker.py), and only this crosses the border. A message is
four bytes of length, little-endian, and a tagged msgpack map.
"""

from __future__ import annotations

import struct

import msgspec

from ipc.errors import Code

LENGTH = struct.Struct("<I")

MESSAGE_MAX_BYTES = 16 * 1024 * 1024
"""Six minutes of 16-bit mono at 22 kHz: far above any one sentence."""


class Say(msgspec.Struct, frozen=True, tag=True):
    """To Piper: speak `text`, as job `job`. Jobs are numbered upwards."""

    job: int
    text: str


class Stop(msgspec.Struct, frozen=True, tag=True):
    """To Piper: nothing more of job `job` or any before it is wanted."""

    job: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From Piper, once: the voice is loaded and warm. `device`: "cpu" or "cuda"."""

    device: str


class Unusable(msgspec.Struct, frozen=True, tag=True):
    """From Piper, instead of Ready: the voice cannot be loaded; it ends. No `code`: not as it is configured."""

    code: Code | None
    detail: str


class Pcm(msgspec.Struct, frozen=True, tag=True):
    """From Piper: the next part of a job, 16-bit mono."""

    job: int
    pcm: bytes


class Over(msgspec.Struct, frozen=True, tag=True):
    """From Piper: a job is complete, or stopped, or failed when `error` says how."""

    job: int
    error: str = ""


ToPiper = Say | Stop
FromPiper = Ready | Unusable | Pcm | Over

_encoder = msgspec.msgpack.Encoder()
_to_piper: msgspec.msgpack.Decoder[ToPiper] = msgspec.msgpack.Decoder(ToPiper)
_from_piper: msgspec.msgpack.Decoder[FromPiper] = msgspec.msgpack.Decoder(FromPiper)


def pack(message: ToPiper | FromPiper) -> bytes:
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def to_piper(body: bytes) -> ToPiper:
    return _to_piper.decode(body)


def from_piper(body: bytes) -> FromPiper:
    return _from_piper.decode(body)
