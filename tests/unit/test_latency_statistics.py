"""The statistics of latency against definitions, and against synthetic turns whose truth is known."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.synthetic import KINDS, LIKE_BEFORE, missed
from tools.latency import statistics as own
from tools.latency.stages import TOTAL
from tools.latency.statistics import (
    QUANTILES,
    block_length,
    differences,
    needed,
    order_interval,
    quantile,
    resampled,
    summarize,
    told,
)

TIMES = st.lists(st.floats(0, 1e6), min_size=2, max_size=60)


@given(TIMES)
def test_quantiles_are_those_of_the_standard_library(values: list[float]) -> None:
    percents = statistics.quantiles(values, n=100, method="inclusive")
    for percent in (50, 90, 95, 99):
        assert quantile(values, percent / 100) == pytest.approx(percents[percent - 1])


def test_a_quantile_is_told_where_two_turns_lie_beyond_it() -> None:
    assert {name: needed(q) for name, q in QUANTILES.items()} == {"p50": 4, "p90": 20, "p95": 40, "p99": 200}
    for q in QUANTILES.values():
        calm = [1.0] * (needed(q) - 1)
        assert told(calm, q) is None
        assert told([*calm, 1e6], q) == pytest.approx(1.0), "one odd turn makes no quantile"


# --- order statistics ---


def below(n: int, q: float, k: int) -> float:
    """The probability that fewer than k of n samples lie below the true quantile."""
    return sum(math.comb(n, i) * q**i * (1 - q) ** (n - i) for i in range(k))


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("n", [1, 5, 6, 40, 71, 72, 200])
def test_each_side_of_an_order_interval_errs_as_rarely_as_it_says_and_no_closer_one_does(n: int, q: float) -> None:
    low, high = order_interval(list(range(1, n + 1)), q)  # values are their own ranks
    side = 0.025
    assert (0.0 if low is None else below(n, q, int(low))) <= side
    assert below(n, q, 1 if low is None else int(low) + 1) > side
    if high is None:
        assert 1 - below(n, q, n) > side
    else:
        assert 1 - below(n, q, int(high)) <= side < 1 - below(n, q, int(high) - 1)


# --- summary ---


def test_a_summary() -> None:
    slow, fast = [10.0] * 18 + [10.0, 110.0], [30.0] * 20
    total = [a + b for a, b in zip(slow, fast, strict=True)]
    first, second, last = summarize({"slow": slow, "fast": fast, TOTAL: total})
    assert (first.stage, first.n, first.mean, first.max) == ("slow", 20, 15.0, 110.0)
    assert first.quantiles == {"p50": 10.0, "p90": 10.0, "p95": None, "p99": None}
    assert first.share == pytest.approx(300 / 900)
    assert first.share_slowest == pytest.approx(120 / 180), "two of twenty turns are the slowest tenth"
    assert first.share + second.share == pytest.approx(last.share) == 1.0


def test_shares_may_be_others_than_times() -> None:
    hidden, _ = summarize({"recall": [9.0, 9.0], TOTAL: [50.0, 50.0]}, {"recall": [0.0, 0.0], TOTAL: [50.0, 50.0]})
    assert (hidden.mean, hidden.share, hidden.share_slowest) == (9.0, 0.0, 0.0)


def test_turns_without_any_time_have_no_shares() -> None:
    assert summarize({TOTAL: [0.0]})[0].share == 0.0


def test_a_summary_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no turns"):
        summarize({TOTAL: []})


# --- bootstrap ---


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "RESAMPLES", 2000)


@pytest.mark.parametrize("n", [1, 2, 5, 40, 101])
def test_resamples_are_blocks_of_turns(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one would write it down: the same draws, sorted anew for each resample."""
    monkeypatch.setattr(own, "RESAMPLES", 300)
    values = np.random.default_rng(3).normal(100, 20, n).round(-1)
    found = resampled({TOTAL: values.tolist()}, [0.5, 0.95], np.random.default_rng(5))[TOTAL]
    length = block_length(n)
    starts = np.random.default_rng(5).integers(0, n, (300, -(-n // length), 1))
    drawn = ((starts + np.arange(length)) % n).reshape(300, -1)[:, :n]
    assert found == pytest.approx(np.quantile(values[drawn], [0.5, 0.95], axis=1).T)


def test_the_seed_makes_the_interval(few_resamples: None) -> None:
    generator = np.random.default_rng(1)
    a, b = ({TOTAL: generator.normal(100, 20, 40).tolist()} for _ in range(2))
    one, again, other = (differences(a, b, {"p50": 0.5}, 0.95, seed)[TOTAL]["p50"] for seed in (1, 1, 2))
    assert one == again
    assert one.interval != other.interval
    assert one.ms == other.ms == pytest.approx(np.median(b[TOTAL]) - np.median(a[TOTAL]))


def test_turns_that_are_all_alike_differ_by_exactly_as_much(few_resamples: None) -> None:
    found = differences({TOTAL: [100.0] * 10}, {TOTAL: [110.0] * 10}, {"p50": 0.5}, 0.95, 1)[TOTAL]["p50"]
    assert (found.ms, found.interval) == (10.0, (10.0, 10.0))


def test_a_few_turns_have_no_interval() -> None:
    found = differences({TOTAL: [100.0] * 9}, {TOTAL: [110.0] * 40}, {"p50": 0.5}, 0.95, 1)[TOTAL]["p50"]
    assert (found.ms, found.interval) == (10.0, None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [20, 40, 100])
def test_intervals_hold_the_truth_as_often_as_they_say(kind: str, n: int, few_resamples: None) -> None:
    experiments = 200
    for name, count in missed(kind, n, experiments).items():
        assert count <= (0.12 if kind == LIKE_BEFORE else 0.08) * experiments, name
