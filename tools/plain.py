"""Messages of the wire as programs and people read them."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ipc.messages import Body

SHORT_CHARS = 60
"""A text is cut after this where a message is shown in one line."""


def as_plain(body: Body) -> dict[str, Any]:
    """`type` and every field; bytes as hexadecimal digits."""
    fields = {name: _plain(getattr(body, name)) for name in body.__struct_fields__}
    return {"type": body.type_name(), **fields}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def in_a_line(body: Body) -> str:
    """Its fields, as `name=value`: long texts cut, lists as their length, times in ns left out."""
    parts = []
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if name.endswith("_ns") or value in (None, "", 0, [], False):
            continue
        parts.append(f"{name}={_short(value)}")
    return " ".join(parts)


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()[-8:]
    if isinstance(value, list):
        return f"[{len(value)}]"
    if isinstance(value, str):
        cut = value if len(value) <= SHORT_CHARS else value[: SHORT_CHARS - 1] + "…"
        return json.dumps(cut, ensure_ascii=True)
    if isinstance(value, float):
        return f"{value:.1f}"
    return "{…}" if isinstance(value, msgspec.Struct) else str(value)
