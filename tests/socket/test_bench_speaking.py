"""`timmy bench speaking` hears what the real tts sends over the wire, planted faults too."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from daemons.config import Config, Tts
from daemons.engines.fakes_tts import FakeSynthesizer
from daemons.tts.service import TtsService
from ipc.call import Call
from ipc.client import Client, Stream
from ipc.inproc import InprocClient, InprocHub
from ipc.messages import Answered, Ask, Clause, Delta, PlaybackStarted, Result, Speak, StatusReport
from ipc.server import Server
from tests.socket.rig import run
from tests.support.serving import serving
from tests.support.suite import house
from tools.bench import speaking
from tools.bench.figures import FIGURES
from tools.bench.questions import memories
from tools.bench.seams import listen
from tools.bench.speaking import Ear, listening
from tools.cli import cli

MS = 1_000_000
CLAUSES = ["It is", "noon."]


class Dialog:
    """Has tts speak CLAUSES for each question; the second one only after the first has sounded when `late`."""

    def __init__(self, tts: Client) -> None:
        self._tts = tts
        self.late = False

    async def ask(self, call: Call) -> Result:
        speech = self._tts.open(Speak(conversation=call.body.conversation), rid=call.rid)
        for number, text in enumerate(CLAUSES):
            if number and self.late:
                await self._sounded(speech)
            await speech.send(Clause(text=text))
            await call.send(Delta(text=f" {text}" if number else text))
        speech.end()
        await speech.result()
        return Answered(said=" ".join(CLAUSES), prompt_tokens=0, cached_tokens=0, completion_tokens=0, memories=0)

    async def _sounded(self, speech: Stream) -> None:
        """Waits for the first clause to have been over for 200 ms."""
        async for item, _ in speech:
            if isinstance(item, PlaybackStarted):
                first_ns = 60 * len(CLAUSES[0]) * MS
                await asyncio.sleep((item.t_ns + first_ns + 200 * MS - time.monotonic_ns()) / 1e9)
                return


def report() -> StatusReport:
    raise AssertionError("nobody asks")


@asynccontextmanager
async def conversing(folder: Path) -> AsyncIterator[tuple[Ear, Client, Dialog]]:
    """An ear at a real tts, and the client of a dialog in front of it."""
    service = TtsService(Config(tts=Tts(output="none")), FakeSynthesizer)
    hub = InprocHub()
    async with serving("tts", service, folder) as tts:
        dialog = Dialog(tts)
        server = Server("dialog", hub, {Ask: dialog.ask}, report)
        server.start()
        async with Client("dialog", "test", transport=InprocClient(hub)) as client, listening(tts) as ear:
            await client.wait_connected()
            yield ear, client, dialog
        await server.close()


def test_an_answer_is_taken_down_with_its_clauses_and_every_frame(folder: Path) -> None:
    async def converse() -> None:
        async with conversing(folder) as (ear, client, _):
            first, second = [await ear.ask(client, question) for question in ("Where?", "When?")]
        for answer in (first, second):
            assert answer.clauses == CLAUSES
            sound = b"".join(frame.pcm for frame in answer.frames)
            assert len(sound) == round(answer.rate * (0.06 * len("".join(CLAUSES)) + 0.06)) * 2
            due = [frame.due_ns for frame in answer.frames]
            assert due == sorted(due)
            assert listen(answer.frames, answer.rate, answer.clauses).pauses == 1
        assert first.frames[-1].due_ns < second.frames[0].due_ns

    run(converse())


def test_a_clause_that_came_too_late_leaves_a_gap(folder: Path) -> None:
    async def converse() -> None:
        async with conversing(folder) as (ear, client, dialog):
            dialog.late = True
            answer = await ear.ask(client, "Where?")
        heard = listen(answer.frames, answer.rate, answer.clauses)
        assert max(one.unasked_ms for one in heard.silences if one.asked_ms == 60) > 130
        assert any(one.gap for one in heard.silences)

    run(converse())


@pytest.mark.models
def test_real_daemons_are_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaking, "memories", lambda: memories()[:40])
    with house(tmp_path):
        result = CliRunner().invoke(cli, ["bench", "speaking", "--answers", "2", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["answers"] == 2
    assert figures["seams"] == figures["clauses"] - 2 > 0
    assert sum(row["n"] for row in figures["pauses"].values()) >= figures["seams"]
    assert figures["without_a_pause"] == 0
    # A machine that is too busy makes the player wait anywhere in a word.
    assert figures["clicks"] <= figures["waited"]
    assert figures["speech_s"] > 2
    assert figures["frames"]["of"] == pytest.approx(figures["speech_s"] * 50, rel=0.1)
    for figure in FIGURES:
        if figure.bench == "speaking":
            figure.measured(figures)
    speaking.show(figures)
