"""One finding of `timmy doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """`bad` keeps Timmy from working, `poor` limits it."""

    name: str
    state: Literal["good", "poor", "bad"]
    found: str
    advice: str = ""
