"""The embedder, with the real model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from daemons.catalogue import resolve
from daemons.engines import minilm
from daemons.engines.base import EngineError
from daemons.engines.minilm import KNOWN_SENTENCE, KNOWN_START, MiniLm
from ipc.errors import Code

pytestmark = pytest.mark.models


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def embedder() -> MiniLm:
    return MiniLm()


def test_the_known_sentence_has_the_known_vector(embedder: MiniLm) -> None:
    vector = embedder.embed([KNOWN_SENTENCE])[0]
    assert vector[:4] == pytest.approx(KNOWN_START, abs=0.005)
    assert len(vector) == embedder.dimensions == 384


def test_vectors_are_unit_and_do_not_depend_on_their_batch(embedder: MiniLm) -> None:
    texts = [KNOWN_SENTENCE, "Yes.", "", "word " * 3000, *(f"note number {n}" for n in range(60))]
    batch = embedder.embed(texts)
    assert len(batch) == len(texts)
    for vector in batch:
        assert math.sqrt(dot(vector, vector)) == pytest.approx(1, abs=1e-5)
    assert dot(batch[0], embedder.embed([KNOWN_SENTENCE])[0]) == pytest.approx(1, abs=1e-4)
    assert embedder.embed([]) == []


def test_what_means_the_same_lies_closer(embedder: MiniLm) -> None:
    question, same, other = embedder.embed(["Where is the spare key?", KNOWN_SENTENCE, "Bees make honey."])
    assert dot(question, same) > 0.6 > 0.3 > dot(question, other)


def test_a_model_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(EngineError, match="timmy models pull") as caught:
        MiniLm("nothing-here")
    assert caught.value.code is Code.MODEL_MISSING


@pytest.mark.parametrize("broken", ["model.onnx", "tokenizer.json"])
def test_a_damaged_model_is_one_line(tmp_path: Path, broken: str) -> None:
    source = resolve("embedding", "minilm")
    for name in ("model.onnx", "tokenizer.json"):
        (tmp_path / name).symlink_to(source / name)
    (tmp_path / broken).unlink()
    (tmp_path / broken).write_bytes(b"not a model")
    with pytest.raises(EngineError, match="fetch it again") as caught:
        MiniLm(str(tmp_path))
    assert caught.value.code is Code.MODEL_DAMAGED
    assert "\n" not in str(caught.value)


def test_wrong_numbers_are_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "KNOWN_START", (0.5, 0.5, 0.5, 0.5))
    with pytest.raises(EngineError, match="wrong numbers") as caught:
        MiniLm()
    assert caught.value.code is Code.MODEL_DAMAGED
