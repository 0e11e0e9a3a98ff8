"""What the messages look like, read from their types: samples, strategies, bounds, and their JSON form.

Every test that is about "each message" goes through here, so that a new message is tested as soon as it exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect as shape

from ipc import limits
from ipc.codec import Message
from ipc.messages import REGISTRY, Body

LEAST, USUAL, MOST = "least", "usual", "most"
CASES = (LEAST, USUAL, MOST)

_WORDS = {
    LEAST: "",
    USUAL: "When does the plumber come?",
    MOST: "Zwölf Boxkämpfer — 雨が降る 🌧️ \x00\n\u202e\U0010ffff",
}
_NAMED = {
    r"\A[a-z0-9][a-z0-9_.-]{0,63}\Z": {LEAST: "0", USUAL: "home", MOST: "z" * 64},
    r"\A(loading|ready|degraded|stopping)\Z": {LEAST: "ready", USUAL: "loading", MOST: "stopping"},
    r"\A(system|user|assistant)\Z": {LEAST: "user", USUAL: "system", MOST: "assistant"},
    r"\A(stop|length)\Z": {LEAST: "stop", USUAL: "stop", MOST: "length"},
    r"\A(answered|failed|dropped|cancelled)\Z": {LEAST: "failed", USUAL: "answered", MOST: "cancelled"},
}
_RIDS = {LEAST: bytes(16), USUAL: bytes.fromhex("0199c0ffee007abc8def0123456789ab"), MOST: b"\xff" * 16}
_WITH_PAYLOAD = frozenset({"audio", "passed", "sound"})


def fields(cls: type[msgspec.Struct]) -> tuple[shape.Field, ...]:
    kind = shape.type_info(cls)
    assert isinstance(kind, shape.StructType)
    return kind.fields


# --- samples: the edges of what is allowed, and something usual ----------------------------------------


def sample(kind: shape.Type, case: str) -> Any:
    match kind:
        case shape.BoolType():
            return case != LEAST
        case shape.IntType() | shape.FloatType():
            return _number(kind, case)
        case shape.StrType():
            return _NAMED[kind.pattern][case] if kind.pattern else _text(kind, case)
        case shape.BytesType():
            return _RIDS[case]
        case shape.EnumType():
            return list(kind.cls)[{LEAST: 0, USUAL: 4, MOST: -1}[case]]
        case shape.ListType():
            return [sample(kind.item_type, case)] * {LEAST: 0, USUAL: 2, MOST: min(kind.max_length or 0, 32)}[case]
        case shape.UnionType():
            return None if case == LEAST else sample(_some(kind), case)
        case shape.StructType():
            return kind.cls(**{f.name: sample(f.type, case) for f in kind.fields})
    raise AssertionError(f"no sample for {kind}")


def _number(kind: shape.IntType | shape.FloatType, case: str) -> Any:
    low, high = kind.ge, kind.le
    assert low is not None
    assert high is not None
    number = {LEAST: low, USUAL: low + (min(high, 2**21) - low) / 3, MOST: high}[case]
    return int(number) if isinstance(kind, shape.IntType) else float(number)


def _text(kind: shape.StrType, case: str) -> str:
    return _WORDS[case][: kind.max_length]


def _some(kind: shape.UnionType) -> shape.Type:
    (some,) = [member for member in kind.types if not isinstance(member, shape.NoneType)]
    return some


def example(name: str, case: str) -> Message:
    """The message `name` as the golden vectors have it."""
    body = sample(shape.type_info(REGISTRY[name]), case)
    if (name, case) == ("delta", MOST):
        body = REGISTRY[name](text="é" * limits.TEXT_MAX_CHARS)
    count = {LEAST: 0, USUAL: 7, MOST: limits.SEQ_MAX}[case]
    ttl_ms = {LEAST: 0, USUAL: 5000, MOST: limits.TTL_MAX_MS}[case]
    payload = {LEAST: b"", USUAL: b"\x01\x00\xff\x7f\x00\x80", MOST: b"\x00\x80" * 320}[case]
    return Message(_RIDS[case], count, count, ttl_ms, body, payload if name in _WITH_PAYLOAD else b"")


# --- strategies ----------------------------------------------------------------------------------------


def values(kind: shape.Type) -> st.SearchStrategy[Any]:
    match kind:
        case shape.BoolType():
            return st.booleans()
        case shape.IntType():
            return st.integers(kind.ge, kind.le)
        case shape.FloatType():
            return st.floats(kind.ge, kind.le)
        case shape.StrType():
            return st.from_regex(kind.pattern) if kind.pattern else st.text(max_size=min(kind.max_length or 0, 60))
        case shape.BytesType():
            return st.binary(min_size=kind.min_length or 0, max_size=kind.max_length)
        case shape.EnumType():
            return st.sampled_from(list(kind.cls))
        case shape.ListType():
            return st.lists(values(kind.item_type), max_size=4)
        case shape.UnionType():
            return st.none() | values(_some(kind))
        case shape.StructType():
            return st.builds(kind.cls, **{f.name: values(f.type) for f in kind.fields})
    raise AssertionError(f"no strategy for {kind}")


def bodies(cls: type[Body]) -> st.SearchStrategy[Any]:
    return values(shape.type_info(cls))


def messages() -> st.SearchStrategy[Message]:
    """Any message with any header."""
    return st.builds(
        Message,
        rid=st.binary(min_size=limits.RID_BYTES, max_size=limits.RID_BYTES),
        seq=st.integers(0, limits.SEQ_MAX),
        epoch=st.integers(0, limits.SEQ_MAX),
        ttl_ms=st.integers(0, limits.TTL_MAX_MS),
        body=st.sampled_from(sorted(REGISTRY)).flatmap(lambda name: bodies(REGISTRY[name])),
        payload=st.binary(max_size=50),
    )


# --- bounds: for every field the values on and just over its edges ----------------------------------------


def on_bounds(kind: shape.Type) -> Iterator[Any]:
    """The outermost values that are allowed."""
    match kind:
        case shape.IntType() | shape.FloatType():
            yield from (kind.ge, kind.le)
        case shape.StrType(pattern=None):
            yield from ("", "\U0001f327" * (kind.max_length or 0))
        case shape.ListType():
            yield from ([], [sample(kind.item_type, LEAST)] * (kind.max_length or 0))


def over_bounds(kind: shape.Type) -> Iterator[Any]:
    """Values that are just not allowed, and values of other types. Each must be refused."""
    match kind:
        case shape.ListType():
            yield from ([sample(kind.item_type, LEAST)] * ((kind.max_length or 0) + 1), {}, None)
            yield from ([wrong] for wrong in over_bounds(kind.item_type))
        case shape.UnionType():
            yield from (wrong for wrong in over_bounds(_some(kind)) if wrong is not None)
        case shape.StructType():
            yield from (1, None, {})
            usual = msgspec.structs.asdict(sample(kind, USUAL))
            for field in kind.fields:
                yield from ({**usual, field.name: wrong} for wrong in over_bounds(field.type))
        case _:
            yield from _over(kind)


def _over(kind: shape.Type) -> list[Any]:
    match kind:
        case shape.IntType():
            return [(kind.ge or 0) - 1, (kind.le or 0) + 1, 0.5, "1", None, 2**64 - 1]
        case shape.FloatType():
            return [(kind.ge or 0) - 1.0, math.nextafter(kind.le or 0, math.inf), math.nan, math.inf, "1"]
        case shape.StrType(pattern=None):
            return ["x" * ((kind.max_length or 0) + 1), 1, b"x", None]
        case shape.StrType():
            return ["", "No Such Name", "ready\n", "home\n", "x" * 65, "../up", 1, None]
        case shape.BytesType():
            return [b"", bytes((kind.max_length or 0) + 1), bytes((kind.min_length or 0) - 1), 1, None]
    return ["no_such_value", 1, None]


# --- the JSON form of a message: bytes are hex ----------------------------------------------------------


def to_json(message: Message) -> dict[str, Any]:
    plain = msgspec.structs.asdict(message) | {"body": message.body}
    return {key: hexed(msgspec.to_builtins(value, builtin_types=(bytes,))) for key, value in plain.items()}


def hexed(value: Any) -> Any:
    """`value` with all bytes as hex, as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: hexed(item) for key, item in value.items()}
    return [hexed(item) for item in value] if isinstance(value, list) else value


def from_json(name: str, plain: dict[str, Any]) -> Message:
    body = _unhexed(shape.type_info(REGISTRY[name]), plain["body"])
    rid, payload = bytes.fromhex(plain["rid"]), bytes.fromhex(plain["payload"])
    return Message(rid, plain["seq"], plain["epoch"], plain["ttl_ms"], body, payload)


def _unhexed(kind: shape.Type, value: Any) -> Any:
    match kind:
        case shape.BytesType():
            return bytes.fromhex(value)
        case shape.EnumType():
            return kind.cls(value)
        case shape.ListType():
            return [_unhexed(kind.item_type, item) for item in value]
        case shape.UnionType():
            return None if value is None else _unhexed(_some(kind), value)
        case shape.StructType():
            return kind.cls(**{f.name: _unhexed(f.type, value[f.name]) for f in kind.fields})
    return value
