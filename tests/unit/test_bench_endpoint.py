"""`timmy bench endpoint`: its sentences, its arithmetic and its clock; the whole of it on three sentences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ipc.audio import FRAME_MS, read_wav
from ipc.messages import TurnCandidate, TurnFinal
from tools.bench import endpoint

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "2-capital.wav"
SETS = {name: endpoint._lines(endpoint.DATA / f"endpoint_{name}.txt") for name in ("tuning", "reporting")}


@pytest.mark.parametrize("name", SETS)
def test_a_set_has_sixty_pauses_and_whole_questions(name: str) -> None:
    lines = SETS[name]
    assert sum(line.count("|") == 1 for line in lines) >= 60
    assert sum("|" not in line and line.endswith("?") for line in lines) >= 20
    assert len(lines) == len(set(lines))
    assert max(line.count("|") for line in lines) == 1


def test_what_is_reported_was_not_tuned_on() -> None:
    tuning, reporting = ({line.replace("| ", "") for line in SETS[name]} for name in ("tuning", "reporting"))
    assert not tuning & reporting


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (2, 84, 0.0066, 0.0827)],
)
def test_wilsons_interval(count: int, of: int, low: float, high: float) -> None:
    assert endpoint.wilson(count, of) == pytest.approx((low, high), abs=1e-4)


def test_a_pause_is_between_the_sounds_and_its_beginning_is_the_same_alone() -> None:
    tone = np.full(16_000, 0.5, np.float32)
    padded = np.concatenate([np.zeros(1600, np.float32), tone, np.zeros(3200, np.float32)])
    whole, beginning = endpoint._utterances([padded, padded], "a line")
    assert (whole.kind, beginning.kind) == ("pause", "breaks off")
    pause_ms = whole.end_ms - beginning.end_ms - 1000
    assert pause_ms in endpoint.PAUSE_MS
    silent = beginning.end_ms * 32, (beginning.end_ms + 200) * 32
    assert whole.pcm[: silent[1]] == beginning.pcm[: silent[1]], "the same sound, and the same noise"
    assert np.abs(np.frombuffer(whole.pcm[slice(*silent)], "<i2")).max() < 300
    assert endpoint._utterances([padded], "Is it so?").__next__().kind == "question"


def test_a_prompt_is_parted_where_it_is_quietest() -> None:
    samples = np.full(32_000, 0.5, np.float32)
    samples[1000:5000] = 0  # too near to the beginning
    samples[18_000:19_000] = 0
    assert 18_000 < endpoint._quietest(samples) < 19_000


@pytest.mark.parametrize(("text", "wait_ms"), [("What is the capital of France?", 350), ("And then I", 1200)])
def test_the_simulated_ear_confirms_by_what_it_is_told(text: str, wait_ms: int) -> None:
    pcm = read_wav(EXAMPLE).rstrip(b"\0")
    told = endpoint.rehearse(pcm + bytes(endpoint.TRAIL_MS * 32), "quick", lambda _: text)
    candidate, final = (event for event in told if isinstance(event, TurnCandidate | TurnFinal))
    assert isinstance(final, TurnFinal)
    assert candidate.text == final.text == text
    assert abs((final.sent_ns - final.last_voiced_ns) / 1e6 - wait_ms) <= FRAME_MS / 2


@pytest.mark.models
def test_the_whole_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "endpoint_reporting.txt").write_text("# few\nWhere is the spare key?\nRemind me to | feed the cat.\n")
    monkeypatch.setattr(endpoint, "DATA", tmp_path)
    monkeypatch.setattr(endpoint, "PROMPTS", tmp_path / "none")
    done = CliRunner().invoke(endpoint.endpoint, ["--json"], catch_exceptions=False)
    figures = json.loads(done.stdout)["joe"]
    for setting in ("quick", "calm"):
        assert figures[setting]["cut_off"]["count"] == 0
        assert figures[setting]["cut_off"]["of"] == 1
    assert figures["quick"]["wait_ms"]["question"]["p50"] < figures["calm"]["wait_ms"]["question"]["p50"]
    table = CliRunner().invoke(endpoint.endpoint, catch_exceptions=False).stdout
    assert "0 of 1" in table
    assert "apt install asterisk-core-sounds-en-g722" in table
