"""A spoken question to the five daemons with their real engines: recorded, sent again, and the same comes back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.suite import EXAMPLES, ROOT, house, running
from tools.recording.asked import assembled
from tools.recording.file import Recording

pytestmark = pytest.mark.models

TIMMY = (sys.executable, "-m", "tools.cli")


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with house(tmp_path_factory.mktemp("state")), running():
        yield


def timmy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TIMMY, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.usefixtures("daemons")
def test_a_spoken_question_comes_to_the_same(tmp_path: Path) -> None:
    path = tmp_path / "talk.rec"
    question = EXAMPLES / "2-capital.wav"
    done = timmy("record", "--out", path, "--", *TIMMY, "talk", "--wav", question)
    assert done.returncode == 0, done.stderr
    asked = list(assembled(Recording(path)).asked.values())
    heard = [text for each in asked for text in each.texts if each.name == "follow"]
    assert "France" in heard[0]
    assert "Paris" in heard[1]
    fed = sum(len(sent.payload) for each in asked for sent in each.sent)
    assert fed > question.stat().st_size - 44, "all of the question's sound"
    assert max(each.sound_ms for each in asked) > 500, "the answer's sound"
    again = timmy("replay", path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "3 of 3 requests came to the same" in again.stdout
    for stage in ("turn: first audio", "turn: endpoint", "turn: llm_first_token"):
        assert stage in again.stdout
    alone = timmy("replay", path, "--daemon", "stt")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert "stt     listen" in alone.stdout, "the words come back without dialog, too"
