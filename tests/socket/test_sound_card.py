"""The whole loop over a sound card: a question played into the microphone, the answer heard at the speaker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.engines.whisper import WhisperTranscriber
from ipc.audio import read_wav
from ipc.client import Client
from ipc.messages import HOME, Follow, TurnReport
from tests.support.speech import share_heard, words
from tests.support.suite import EXAMPLES, house, running
from tools.bench.soundcard import RECORD_RATE, SoundCard

pytestmark = [pytest.mark.models, pytest.mark.sound]


@pytest.fixture
def card(tmp_path: Path) -> Iterator[SoundCard]:
    with SoundCard() as card, house(tmp_path, card.env), running():
        yield card


async def spoken_turn(card: SoundCard, question: Path) -> TurnReport:
    """Plays the question and waits for its one report."""
    async with Client("dialog", "test") as dialog:
        await dialog.wait_connected()
        happenings = dialog.open(Follow(conversation=HOME))
        await asyncio.to_thread(card.play, question)
        async for item, _ in happenings:
            if isinstance(item, TurnReport):
                return item
    raise AssertionError("no report came")


def transcript(pcm: bytes, folder: Path) -> str:
    path = folder / "speaker.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RECORD_RATE)
        file.writeframes(pcm)
    return WhisperTranscriber("tiny.en", "cpu", 2, "en").transcribe(read_wav(path)).text


def test_a_question_played_to_the_microphone_is_answered_at_the_speaker(card: SoundCard, tmp_path: Path) -> None:
    with card.record() as recording:
        report = asyncio.run(spoken_turn(card, EXAMPLES / "2-capital.wav"))
    assert report.outcome == "answered", report
    assert {"capital", "france"} <= set(words(report.heard))
    assert report.first_audio_ms is not None
    assert "paris" in words(report.said)
    answer = transcript(recording.speaker, tmp_path)
    assert share_heard(report.said, answer) > 0.6, answer


def test_the_assistant_does_not_answer_itself(card: SoundCard) -> None:
    """The speaker is led back into the microphone, as in a room: one question, one turn."""
    module = subprocess.run(
        ["pactl", "load-module", "module-loopback", "source=speaker.monitor", "sink=feed", "latency_msec=20"],
        env=card.env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert module.stdout.strip()
    reports: list[TurnReport] = []

    async def converse() -> None:
        async with Client("dialog", "test") as dialog:
            await dialog.wait_connected()
            happenings = dialog.open(Follow(conversation=HOME))
            await asyncio.to_thread(card.play, EXAMPLES / "2-capital.wav")
            try:
                async with asyncio.timeout(12):
                    async for item, _ in happenings:
                        if isinstance(item, TurnReport):
                            reports.append(item)
            except TimeoutError:
                pass

    asyncio.run(converse())
    assert [report.outcome for report in reports] == ["answered"], reports


def test_timmy_talk_reads_along(card: SoundCard) -> None:
    """As a person at a terminal sees it."""
    command = [sys.executable, "-m", "tools.cli", "talk", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        card.play(EXAMPLES / "2-capital.wav")
        line = reader.stdout.readline()
        reader.terminate()
    assert "france" in line.lower()
