"""The importance classifier: on examples that it was not fitted to, with the real embedder."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from daemons.engines import importance
from daemons.engines.fakes_memory import FakeEmbedder
from daemons.engines.importance import Importance, Weights
from daemons.engines.minilm import MiniLm

pytestmark = pytest.mark.models

KEEP = 2
FRESH = Path(__file__).parents[1] / "data" / "importance_fresh.tsv"


@pytest.fixture(scope="module")
def embedder() -> MiniLm:
    return MiniLm()


@pytest.fixture(scope="module")
def classifier(embedder: MiniLm) -> Importance:
    return Importance(embedder)


def fresh() -> list[tuple[int, str]]:
    lines = [line.split("\t") for line in FRESH.read_text("utf-8").splitlines() if not line.startswith("#")]
    return [(int(grade), text) for grade, text in lines]


@pytest.mark.parametrize(("examples", "least"), [(importance.held_out(), 60), (fresh(), 40)], ids=["held out", "fresh"])
def test_grades_what_it_never_saw(classifier: Importance, examples: list[tuple[int, str]], least: int) -> None:
    """Measured: 94 % kept or not as it should be, mean error 0.36 (held out); 95 % and 0.43 (fresh)."""
    assert len(examples) >= least
    grades = classifier.grade_all([text for _, text in examples])
    right = [(given >= KEEP) == (wanted >= KEEP) for given, (wanted, _) in zip(grades, examples, strict=True)]
    errors = [abs(given - wanted) for given, (wanted, _) in zip(grades, examples, strict=True)]
    assert sum(right) / len(right) >= 0.9
    assert sum(errors) / len(errors) <= 0.55


def test_no_fact_is_lost_and_no_question_is_kept(classifier: Importance) -> None:
    """The costly mistakes; keeping a passing remark is the cheap one."""
    for wanted, text in importance.held_out() + fresh():
        grade = classifier.importance(text)
        assert grade >= KEEP or wanted < 3, text
        assert grade < KEEP or wanted > 0 or "?" not in text, text


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("Remember that the plumber comes on Tuesday at nine.", 4, 5),
        ("remember that the plumber comes on tuesday at nine", 4, 5),
        ("I am allergic to walnuts.", 4, 5),
        ("when does the plumber come", 0, 1),
        ("Do you remember when the plumber comes", 0, 1),
        ("Good morning, Timmy!", 0, 1),
        ("", 0, 1),
        ("🎉", 0, 1),
    ],
)
def test_known_grades(classifier: Importance, text: str, least: int, most: int) -> None:
    assert least <= classifier.importance(text) <= most


def test_the_shipped_weights_are_those_of_the_examples(embedder: MiniLm) -> None:
    shipped = msgspec.json.decode(importance.WEIGHTS.read_bytes(), type=Weights)
    fitted = importance.fit(embedder, importance.training())
    assert shipped.embedder == fitted.embedder == "minilm"
    assert shipped.values == pytest.approx(fitted.values, abs=0.02)


def test_held_out_examples_are_not_fitted() -> None:
    held_out = {text for _, text in importance.held_out()}
    training = {text for _, text in importance.training()}
    assert len(training) > 150
    assert not held_out & training


def test_another_embedder_is_fitted_when_it_loads() -> None:
    classifier = Importance(FakeEmbedder("other"))
    assert classifier.importance("Remember that the safe code is three three seven one.") >= KEEP
    assert classifier.importance("what is the time") < KEEP
    assert classifier.info.model == "importance on other"
