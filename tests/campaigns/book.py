"""Which campaigns there are, and how much of each the tests and a long run try."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.campaigns import (
    codec,
    content,
    engines,
    itself,
    journal,
    kills,
    limits,
    peers,
    raw,
    sessions,
    slow,
    soak,
    sound,
    stages,
    starts,
    stops,
    store,
    storm,
    words,
)

Run = Callable[[int, int], dict[str, int]]
"""Count and seed in; out comes what was tried, the first entry being the count itself, and what it did."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """`count`: how often in the tests; `long`: in a long run."""

    run: Run
    count: int
    long: int


FUZZ: Mapping[str, Campaign] = {
    "codec": Campaign(codec.run, 200_000, 20_000_000),
    "sessions": Campaign(sessions.run, 50_000, 5_000_000),
}
"""Calculations only: `make fuzz`."""

SINGLE: Mapping[str, Campaign] = {
    "peers": Campaign(peers.run, 1, 20),
    "raw": Campaign(raw.run, 1000, 10_000),
    "content": Campaign(content.run, 100, 2000),
    "store": Campaign(store.run, 300, 10_000),
    "journal": Campaign(journal.run, 300, 10_000),
    "engines": Campaign(engines.run, 5, 200),
    "starts": Campaign(starts.run, 120, 600),
    "words": Campaign(words.run, 100, 500),
    "storm": Campaign(storm.run, 500, 10_000),
    "itself": Campaign(itself.run, 20, 20),
    "slow": Campaign(slow.run, 60, 3600),
}
"""With processes, sockets and files."""

HOUSES: Mapping[str, Campaign] = {
    "limits": Campaign(limits.run, 10, 200),
    "kills": Campaign(kills.run, 40, 1_000),
    "stages": Campaign(stages.run, 2, 20),
    "stops": Campaign(stops.run, 20, 500),
    "sound": Campaign(sound.run, 3, 50),
}
"""With all five daemons under their supervisor."""

SOAK: Mapping[str, Campaign] = {"soak": Campaign(soak.run, 600, 3600)}
"""Seconds."""

CHAOS: Mapping[str, Campaign] = {**SINGLE, **HOUSES, **SOAK}
"""`make chaos`."""

CAMPAIGNS: Mapping[str, Campaign] = {**FUZZ, **CHAOS}


def try_out(name: str) -> None:
    """As often as the tests do, with another seed each time. Raises AssertionError for what it finds."""
    campaign, seed = CAMPAIGNS[name], time.time_ns() % 2**32
    print(f"{name}, seed {seed}")
    found = campaign.run(campaign.count, seed)
    print(found)
    assert next(iter(found.values())) == campaign.count, f"{name} did not try all that it should"
