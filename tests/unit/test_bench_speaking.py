"""What `timmy bench speaking` counts, and how it is shown."""

from __future__ import annotations

from dataclasses import replace

import click
import numpy as np
import pytest

from tools.bench.figures import FIGURES
from tools.bench.questions import to_speak_of
from tools.bench.seams import Frame, Heard, Silence
from tools.bench.speaking import Answer, Lost, figures_of, lost, show

PAUSE = Silence(at_s=0.8, asked_ms=60, silent_ms=60.1, quiet_ms=80, waited_ms=0, click=False)
LONGER = replace(PAUSE, asked_ms=150, silent_ms=190, quiet_ms=205, waited_ms=190)
HOLE = replace(PAUSE, asked_ms=None, silent_ms=25, quiet_ms=30, waited_ms=25, click=True)
WORDS = {"model": "tiny.en", **Lost(2, 1, 8, 2, 30)._asdict()}


def answer(*clauses: str) -> Answer:
    frames = [Frame(1_000_000_000, 990_000_000, b"\1\0")]
    given_ns = [900_000_000 + 250_000_000 * number for number in range(len(clauses))]
    return Answer("Where?", list(clauses), given_ns, rate=100, frames=frames)


def heard(pauses: int, *silences: Silence, late_ms: tuple[float, ...] = (-3.0, -150.0)) -> Heard:
    return Heard(np.zeros(250, np.int16), list(silences), list(late_ms), pauses)


def test_gaps_clicks_and_late_frames_are_counted_over_all_answers() -> None:
    spoken = [answer("Here", "it is.", "Look."), answer("There."), answer("In the", "shed")]
    listened = [heard(2, PAUSE, LONGER, HOLE), heard(0, late_ms=(4.5,)), heard(1, late_ms=(0.5, 0.0))]
    figures = figures_of(spoken, listened)
    assert (figures["answers"], figures["clauses"], figures["seams"], figures["speech_s"]) == (3, 6, 3, 7.5)
    assert (figures["gaps"], figures["clicks"], figures["waited"], figures["without_a_pause"]) == (2, 1, 2, 1)
    assert [(gap["asked_ms"], gap["unasked_ms"]) for gap in figures["gaps_found"]] == [(150, 40), (None, 25)]
    assert figures["gaps_found"][0]["given_s"] == [-0.1, 0.15, 0.4]
    assert figures["longest_unasked_ms"] == 40
    assert figures["pauses"] == {
        "60": {"n": 1, "longest_ms": 60.1, "longest_quiet_ms": 80},
        "150": {"n": 1, "longest_ms": 190, "longest_quiet_ms": 205},
    }
    assert figures["frames"] == {"of": 5, "late": 2, "latest_ms": 4.5}


def test_without_a_seam_nothing_has_been_examined() -> None:
    with pytest.raises(click.ClickException, match="no seam"):
        figures_of([answer("There.")], [heard(0)])


def test_the_figures_are_in_the_table_and_say_what_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    figures = figures_of([answer("Here", "it is.")], [heard(1, LONGER)]) | {"words": WORDS}
    gaps, clicks = (figure for figure in FIGURES if figure.bench == "speaking")
    assert (gaps.measured(figures), gaps.count(figures)) == ("1, **not reached**", "1")
    assert (clicks.measured(figures), clicks.count(figures)) == ("0", "1")
    show(figures)
    shown = capsys.readouterr().out
    assert "Gaps over 20 ms: 1" in shown
    assert "Where? 40 ms too long at 0.80 s; clauses at -0.10 s, 0.15 s" in shown
    assert "the latest 3.0 ms before it was due" in shown
    assert "tiny.en missed 1 of 8 words beside a seam and 2 of 30 others" in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where the key is, under the flower pot!", Lost(1, 0, 2, 0, 6)),
        ("Where the key under the flower pot.", Lost(1, 1, 2, 0, 6)),
        ("Where the key the flower pot.", Lost(1, 2, 2, 0, 6)),
        ("Where key is under the flower box", Lost(1, 0, 2, 2, 6)),
        ("Where the key is well under the flower pot", Lost(1, 0, 2, 0, 6)),
        ("", Lost(1, 2, 2, 6, 6)),
    ],
)
def test_words_lost_beside_a_seam_and_elsewhere(text: str, expected: Lost) -> None:
    assert lost(["Where the key is", "under the flower pot."], text) == expected


def test_a_clause_of_one_word_is_beside_both_its_seams() -> None:
    assert lost(["No", "sorry", "I cannot"], "no sorry") == Lost(1, 1, 3, 1, 1)
    assert lost(["No.", "..."], "no") == Lost(1, 0, 0, 0, 1)


def test_words_of_answers_add_up() -> None:
    assert Lost(1, 2, 3, 4, 5).plus(Lost(1, 1, 1, 1, 1)) == Lost(2, 3, 4, 5, 6)


def test_there_are_50_different_questions() -> None:
    assert len(set(to_speak_of())) == len(to_speak_of()) == 50
    assert all(question.endswith((".", "?")) for question in to_speak_of())
