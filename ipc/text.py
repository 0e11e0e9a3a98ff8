"""Words from outside where a terminal, a log or a person reads them."""

from __future__ import annotations

import json
from typing import Any


def printable(text: str) -> str:
    """`text` on one line, with a space for each character that a terminal could act on or that cannot be seen."""
    return "".join(char if char.isprintable() else " " for char in text)


def printable_json(value: Any, indent: int | None = None) -> str:
    """JSON that reads as what it is: characters stay as they are, but for those that a terminal could act on."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
