"""The trace of real turns through the whole suite: every stage, in the daemons' own files, under one rid."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from ipc.audio import read_wav
from ipc.client import Client
from ipc.endpoints import DAEMONS
from ipc.ids import new_rid
from ipc.marks import Mark, Stage, trace_files
from ipc.messages import Ask, Follow, ListMemories, MemoryPage, TurnHeard, TurnReport
from ipc.traces import read
from tests.support.suite import EXAMPLES, house, running
from tools.recorded import open_talk

pytestmark = pytest.mark.models

CHAIN = [
    Stage.SPEECH_STARTED,
    Stage.LAST_VOICED,
    Stage.ENDPOINT_CANDIDATE,
    Stage.TEXT_SENT,
    Stage.HEARD,
    Stage.RECALL_START,
    Stage.RECALL_END,
    Stage.PROMPT_BUILT,
    Stage.MODEL_SENT,
    Stage.PROMPT_TOKENS,
    Stage.CACHED_TOKENS,
    Stage.FIRST_TOKEN,
    Stage.TOKEN_RECEIVED,
    Stage.FIRST_CLAUSE,
    Stage.CLAUSE_RECEIVED,
    Stage.SYNTHESIS_START,
    Stage.FIRST_AUDIO,
    Stage.PLAYBACK_STARTED,
    Stage.PLAYBACK_DRAINED,
    Stage.MEMORY_STORED,
]
"""Each follows from the one before it."""

OWNERS = {
    "stt": {
        *{Stage.SPEECH_STARTED, Stage.LAST_VOICED, Stage.ENDPOINT_CANDIDATE, Stage.ENDPOINT_CONFIRMED},
        *{Stage.TRANSCRIPT, Stage.TEXT_SENT, Stage.MUTED},
    },
    "dialog": {
        *{Stage.HEARD, Stage.RECALL_START, Stage.RECALL_END, Stage.PROMPT_BUILT, Stage.STABLE_TOKENS},
        Stage.MODEL_SENT,
        *{Stage.TOKEN_RECEIVED, Stage.FIRST_CLAUSE, Stage.ENDED},
    },
    "llm": {Stage.PROMPT_TOKENS, Stage.CACHED_TOKENS, Stage.FIRST_TOKEN},
    "tts": {
        Stage.CLAUSE_RECEIVED,
        Stage.SYNTHESIS_START,
        Stage.FIRST_AUDIO,
        Stage.PLAYBACK_STARTED,
        Stage.PLAYBACK_DRAINED,
    },
    "memory": {Stage.MEMORY_STORED},
}
HOPS = {Stage.SENT, Stage.RECEIVED}


class Found(NamedTuple):
    daemon: str
    mark: Mark


async def speak() -> TurnReport:
    """One spoken turn, until what was said is stored."""
    async with AsyncExitStack() as stack:
        talk = await open_talk(stack, None)
        (result,) = [result async for result in talk.play(read_wav(EXAMPLES / "1-remember.wav"))]
    async with Client("memory", "test") as memory:
        while True:
            page = await memory.request(ListMemories(), ttl_ms=10_000)
            assert isinstance(page, MemoryPage)
            if page.total:
                return result.report


async def ask_and_leave() -> bytes:
    """A typed turn that is given up as soon as it has begun."""
    rid = new_rid()
    async with Client("dialog", "test") as dialog:
        await dialog.wait_connected()
        events = dialog.open(Follow(conversation="typed"))
        asking = dialog.open(Ask(conversation="typed", text="Tell me a long story about the sea."), rid=rid)
        async for event, _ in events:
            if isinstance(event, TurnHeard):
                asking.cancel()
            if isinstance(event, TurnReport):
                assert event.outcome == "cancelled"
                return rid
    raise AssertionError("the turn has no end")


def kept(state: Path) -> list[Found]:
    """What all daemons kept, each whole, in the order of its time."""
    found = []
    daemons = []
    for path in trace_files(state / "trace"):
        trace = read(path)
        assert (trace.lost, trace.unknown, trace.damage) == (0, 0, "")
        daemons.append(trace.header.daemon)
        found += [Found(trace.header.daemon, mark) for mark in trace.marks]
    assert sorted(daemons) == sorted(DAEMONS), "one file a daemon"
    return sorted(found, key=lambda each: each.mark.t_ns)


def first(found: list[Found], stage: Stage) -> Mark:
    return next(mark for _, mark in found if mark.stage is stage)


def test_a_turn_leaves_every_stage_and_a_revoked_one_says_so(tmp_path: Path) -> None:
    with house(tmp_path), running():
        report = asyncio.run(speak())
        given_up = asyncio.run(ask_and_leave())
    found = kept(tmp_path)
    turn = [each for each in found if each.mark.rid == report.turn]
    _check_stages(turn, report)
    _check_hops(turn)
    revoked = [each for each in found if each.mark.rid == given_up and each.mark.stage not in HOPS]
    assert {Stage.SYNTHESIS_START, Stage.MEMORY_STORED}.isdisjoint(mark.stage for _, mark in revoked)
    stages = [mark.stage for daemon, mark in revoked if daemon == "dialog"]
    assert stages[:2] == [Stage.HEARD, Stage.RECALL_START]
    assert stages[-3:] == [Stage.REVOKED, Stage.CANCELLED, Stage.ENDED]


def _check_stages(turn: list[Found], report: TurnReport) -> None:
    for daemon, stages in OWNERS.items():
        assert {mark.stage for where, mark in turn if where == daemon} - HOPS - {Stage.RELEASED} == stages
    for earlier, later in itertools.pairwise(CHAIN):
        assert first(turn, earlier).t_ns <= first(turn, later).t_ns, (earlier, later)
    assert first(turn, Stage.LAST_VOICED).t_ns < first(turn, Stage.TRANSCRIPT).t_ns
    assert first(turn, Stage.TRANSCRIPT).t_ns < first(turn, Stage.RECALL_START).t_ns
    confirmed = first(turn, Stage.ENDPOINT_CONFIRMED).t_ns
    assert first(turn, Stage.ENDPOINT_CANDIDATE).t_ns < confirmed < first(turn, Stage.PLAYBACK_STARTED).t_ns
    for released in (mark for _, mark in turn if mark.stage is Stage.RELEASED):
        assert confirmed < released.t_ns < first(turn, Stage.PLAYBACK_STARTED).t_ns
    voiced, sounded = first(turn, Stage.LAST_VOICED).t_ns, first(turn, Stage.PLAYBACK_STARTED).t_ns
    assert (sounded - voiced) / 1e6 == report.first_audio_ms
    assert first(turn, Stage.PROMPT_TOKENS).arg == report.prompt_tokens
    assert first(turn, Stage.CACHED_TOKENS).arg == report.cached_tokens
    assert first(turn, Stage.MEMORY_STORED).arg > 0
    mutes = [mark for _, mark in turn if mark.stage is Stage.MUTED]
    assert mutes[0].t_ns == sounded
    assert (mutes[-1].t_ns, mutes[-1].arg) == (first(turn, Stage.PLAYBACK_DRAINED).t_ns, 0)


def _check_hops(turn: list[Found]) -> None:
    """What a daemon received, dialog had sent; what it answered, dialog received, unless it had asked anew."""
    hops = [each for each in turn if each.mark.stage in HOPS]
    here = [mark for daemon, mark in hops if daemon == "dialog"]
    there = [each for each in hops if each.daemon != "dialog"]
    assert {daemon for daemon, _ in hops} == set(DAEMONS)
    void = 0
    for daemon, mark in there:
        sent = mark.stage is Stage.SENT
        answers = Stage.RECEIVED if sent else Stage.SENT
        same = [each for each in here if (each.stage, each.arg) == (answers, mark.arg)]
        if not any(each.t_ns >= mark.t_ns if sent else each.t_ns <= mark.t_ns for each in same):
            assert sent
            assert any(each.arg > mark.arg for where, each in there if where == daemon)
            void += 1
    assert len(here) == len(there) - void
