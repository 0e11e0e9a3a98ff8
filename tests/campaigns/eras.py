"""Messages as a peer of another release writes them, by an encoder that knows no types."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import inspect as shape

from ipc import limits
from ipc.codec import Message
from ipc.messages import REGISTRY, Body
from tests.protocol.shapes import USUAL, fields, sample

Plain = dict[str, Any]
_STRANGE: tuple[Any, ...] = (0, -1, 2**63, 0.5, True, None, "", "x" * 1000, b"\xff\xfe", [[], {}], {"type": "cancel"})


def usual(cls: type[Body]) -> Body:
    """One of its kind that says nothing which an older peer could not: what came later has its default."""
    full = msgspec.to_builtins(sample(shape.type_info(cls), USUAL), builtin_types=(bytes,))
    return msgspec.convert(_without(cls, full), cls, builtin_types=(bytes,))


def same(header: Plain, chance: random.Random) -> Plain:
    """As this release writes it."""
    return header


def older(header: Plain, chance: random.Random) -> Plain:
    """Without each field that came later: those have defaults."""
    return {**header, "body": _without(REGISTRY[header["type"]], header["body"])}


def newer(header: Plain, chance: random.Random) -> Plain:
    """With fields that nobody here knows, at every level."""
    return {**_with_more(header, chance)}


def unknown_type(header: Plain, chance: random.Random) -> Plain:
    return {**header, "type": chance.choice((header["type"] + "_2", header["type"].upper(), "", "x" * 64))}


def other_version(header: Plain, chance: random.Random) -> Plain:
    """What is in the body then is nobody's business here."""
    body: object = chance.choice((header["body"], {}, [1, 2], "text", None))
    return {**header, "v": chance.randrange(limits.PROTOCOL_VERSION + 1, 256), "body": body}


Era = Callable[[Plain, random.Random], Plain]
UNDERSTOOD: tuple[Era, ...] = (same, older, newer)
"""What these write means the same to each release of this version."""
REFUSED: Mapping[Era, str] = {unknown_type: "unknown_type", other_version: "unsupported_version"}


def frames(message: Message, era: Era, chance: random.Random) -> list[bytes]:
    plain: Plain = {
        "v": limits.PROTOCOL_VERSION,
        "type": message.body.type_name(),
        "rid": message.rid,
        "seq": message.seq,
        "epoch": message.epoch,
        "ttl_ms": message.ttl_ms,
        "body": msgspec.to_builtins(message.body, builtin_types=(bytes,)),
    }
    header = msgspec.msgpack.encode(era(plain, chance))
    return [header, message.payload] if message.payload else [header]


def _without(cls: type[msgspec.Struct], body: Plain) -> Plain:
    needed = {field.name: field for field in fields(cls) if field.required}
    return {name: _without_inside(needed[name].type, value) for name, value in body.items() if name in needed}


def _without_inside(kind: shape.Type, value: Any) -> Any:
    match kind, value:
        case shape.StructType(), dict():
            return _without(kind.cls, value)
        case shape.ListType(), list():
            return [_without_inside(kind.item_type, item) for item in value]
        case shape.UnionType(), dict():
            (struct,) = [member for member in kind.types if isinstance(member, shape.StructType)]
            return _without(struct.cls, value)
    return value


def _with_more(value: Any, chance: random.Random) -> Any:
    match value:
        case dict():
            known = {name: _with_more(item, chance) for name, item in value.items()}
            more = {f"later_{number}": chance.choice(_STRANGE) for number in range(chance.randrange(1, 4))}
            mixed = [*known.items(), *more.items()]
            chance.shuffle(mixed)
            return dict(mixed)
        case list():
            return [_with_more(item, chance) for item in value]
    return value
