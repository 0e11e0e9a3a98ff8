"""What is planted is found, and nothing else: 20 ms in one fake engine, through the real daemons' services and traces.

The pools are small here, so that the trials share turns; tests/support/planted.py run by itself takes larger ones.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.support.planted import N, collect, named, trial, wolf
from tests.support.slow_engines import NOTHING, STAGES

TRIALS = 100


def test_what_is_planted_is_named_and_nothing_else(tmp_path: Path) -> None:
    pools = asyncio.run(collect(tmp_path / "trace", rounds=N, seed=1))
    assert {kind: (pool.n, pool.left_out) for kind, pool in pools.items()} == {
        NOTHING: (2 * N, 0),
        **dict.fromkeys(STAGES, (N, 0)),
    }
    generator = random.Random(2)
    each = -(-TRIALS // len(STAGES))
    planted = [(stage, named(trial(pools, stage, generator))) for stage in STAGES for _ in range(each)]
    missed = [(stage, found) for stage, found in planted if found != {stage}]
    assert len(missed) <= len(planted) * 5 // 100, missed
    cried = sum(wolf(trial(pools, NOTHING, generator)) for _ in range(TRIALS))
    assert cried <= TRIALS * 5 // 100
