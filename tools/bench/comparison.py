"""What the outcomes of several stacks amount to. Pure."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from tools.bench.questions import Question
from tools.bench.stacks import Outcome
from tools.bench.stages import TITLES

_T = TypeVar("_T")

OURS = "timmy"

SEED = 20
RESAMPLES = 5000
CONFIDENCE = 0.95

Outcomes = Mapping[str, Sequence[Outcome]]
"""By stack. The same place in each is the same question in the same round."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and 90th percentile (inclusive method, as numpy's default)."""
    if len(values) == 1:
        return {"p50": values[0], "p90": values[0]}
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    return {"p50": statistics.median(values), "p90": deciles[8]}


def figures_of(name: str, outcomes: Sequence[Outcome], asked: Sequence[Question]) -> dict[str, Any]:
    """Of the stack `name`; `asked[i]` is the question of `outcomes[i]`. Raises ClickException when nothing sounded."""
    totals = [outcome.total_ms for outcome in outcomes if outcome.total_ms is not None]
    rows = [outcome.stages_ms for outcome in outcomes if outcome.stages_ms]
    if not totals:
        raise click.ClickException(f"no question got a spoken answer from {name}")
    answerable = [(outcome, question) for outcome, question in zip(outcomes, asked, strict=True) if question.memory]
    return {
        "speech_end_to_first_audio_ms": spread(totals),
        "stages_ms": {name: _spread_and_mean([row[name] for row in rows]) for name in TITLES},
        "turns": len(outcomes),
        "answered": sum(outcome.answered for outcome in outcomes),
        "right_memory_in_prompt": {
            "turns": sum(_has(outcome.memories, question.memory) for outcome, question in answerable),
            "of": len(answerable),
            "memories_p50": statistics.median(len(outcome.memories) for outcome in outcomes),
        },
        "prompt_tokens": {
            "p50": statistics.median(outcome.prompt_tokens for outcome in outcomes),
            "cached_p50": statistics.median(outcome.cached_tokens for outcome in outcomes),
            "cached_max": max(outcome.cached_tokens for outcome in outcomes),
        },
    }


def ratios(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """How many times as long each of the others needs as ours."""
    return {
        f"{name}/{OURS}": ratio(_totals(outcomes[name]), _totals(outcomes[OURS]))
        for name in outcomes
        if name != OURS and OURS in outcomes
    }


def bootstrap(
    values: Sequence[_T], statistic: Callable[[Sequence[_T]], float], seed: int = SEED, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The percentile bootstrap interval of a statistic (Efron 1979): the values are drawn anew."""
    chance = random.Random(seed)
    drawn = sorted(statistic(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    outside = (1 - confidence) / 2
    return drawn[int(outside * RESAMPLES)], drawn[int((1 - outside) * RESAMPLES) - 1]


def ratio(others: Sequence[float | None], ours: Sequence[float | None], seed: int = SEED) -> dict[str, float]:
    """Ratio of the medians, with its percentile bootstrap interval (Efron 1979): whole pairs, the same question in the
    same round, are drawn anew. A pair of which one did not sound is left out. Raises ClickException without pairs."""
    pairs = [(o, t) for o, t in zip(others, ours, strict=True) if o is not None and t is not None]
    if not pairs:
        raise click.ClickException("no question was answered by both stacks")
    low, high = bootstrap(pairs, _ratio_of_medians, seed)
    return {
        "ratio": _ratio_of_medians(pairs),
        "low": low,
        "high": high,
        "confidence": CONFIDENCE,
        "pairs": len(pairs),
    }


def table(stacks: Mapping[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows. The stages are means, so that they add up; the factor is the first column over the last."""
    order = [name for name in ("http-new", "http-pooled", OURS) if name in stacks]
    words = {"http-new": "before: http-new", "http-pooled": "pooled: http-pooled", OURS: f"now: {OURS}"}
    factor = ["factor"] if len(order) > 1 else []
    stages = {title: [stacks[name]["stages_ms"][stage]["mean"] for name in order] for stage, title in TITLES.items()}
    totals = {"mean to first audio": [sum(column) for column in zip(*stages.values(), strict=True)]}
    totals |= {
        f"{title} to first audio": [stacks[name]["speech_end_to_first_audio_ms"][key] for name in order]
        for title, key in (("median", "p50"), ("90th percentile", "p90"))
    }
    rows = [
        [title, *(f"{value:.0f}" for value in values), *([_factor(values[0], values[-1])] if factor else [])]
        for title, values in {**stages, **totals}.items()
    ]
    return ["ms", *(words[name] for name in order), *factor], rows


def _factor(before: float, now: float) -> str:
    """Below half a millisecond there is nothing to compare."""
    if now < 0.5:
        return "" if before < 0.5 else "gone"
    return f"{before / now:.1f}"


def _totals(outcomes: Sequence[Outcome]) -> list[float | None]:
    return [outcome.total_ms for outcome in outcomes]


def _has(memories: Sequence[str], beginning: str) -> bool:
    return any(memory.casefold().startswith(beginning.casefold()) for memory in memories)


def _ratio_of_medians(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.median(o for o, _ in pairs) / statistics.median(t for _, t in pairs)


def _spread_and_mean(values: Sequence[float]) -> dict[str, float]:
    return {**spread(values), "mean": statistics.fmean(values)}
