"""The campaigns against whole daemons find what they look for."""

from __future__ import annotations

import fcntl
import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial

import pytest

from daemons import runtime, speakable
from daemons.dialog import clauses, service
from daemons.llm import core as llm_core
from daemons.memory import core as memory_core
from ipc import call, errors
from ipc.client import Client
from ipc.codec import Message
from ipc.endpoints import DAEMONS, socket_path
from ipc.messages import Body, Error, TurnReport
from tests.campaigns import engines, starts, words
from tests.support import fake_house

Plant = Callable[[], object]


def put(module: object, **names: object) -> None:
    for name, value in names.items():
        assert hasattr(module, name)
        setattr(module, name, value)


def as_it_is(text: str) -> str:
    return text


# --- engines that fail ---


def not_compared() -> None:
    """memory takes whatever its embedder gives for a vector."""
    put(memory_core, is_vector=lambda values, dimensions: True)


def never_full() -> None:
    """llm passes on all that its model gives."""
    put(llm_core, TEXT_MAX_CHARS=sys.maxsize)


def ends_twice() -> None:
    """An error is sent once more."""
    finish = call.Call.finish

    def twice(self: call.Call, terminal: Body) -> None:
        finish(self, terminal)
        if isinstance(terminal, Error):
            self._transmit(Message(self.rid, 99, self.epoch, 0, terminal))

    put(call.Call, finish=twice)


def ends_never() -> None:
    """An error is kept to oneself."""
    finish = call.Call.finish
    put(call.Call, finish=lambda self, terminal: None if isinstance(terminal, Error) else finish(self, terminal))


def says_nothing() -> None:
    """An error has no words."""
    finish = call.Call.finish
    bare = Error(code=errors.Code.ENGINE_FAILED, detail="")
    put(call.Call, finish=lambda self, end: finish(self, bare if isinstance(end, Error) else end))


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (not_compared, "memory, (NaN|short|empty)"),
        (never_full, "(llm|ollama), huge"),
        (ends_twice, "after their end"),
        (ends_never, "it ended in deadline|did not answer in time"),
        (says_nothing, "''"),
    ],
)
def test_a_fault_beside_an_engine_is_found(plant: Plant, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LONG_MS", 2000)
    with pytest.raises(AssertionError, match=f"(?s)seed 1: .*({found})"):
        engines.run(1, 1, partial(fake_house.start, plant=plant))


# --- starts ---


def no_lock() -> None:
    put(fcntl, flock=lambda descriptor, operation: None)


def no_patience() -> None:
    """Who is not there when dialog starts is never looked for again."""
    begin = Client.start

    async def once(self: Client) -> Client:
        return await begin(self) if socket_path(self.daemon).exists() else self

    put(Client, start=once)


def fails_loudly() -> None:
    """A second start ends in a traceback."""
    put(errors.EndpointError, __str__=lambda self: 1 // 0)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (no_lock, "a second llm said .*held by systemd"),  # the only others that listen without a lock
        (no_patience, "TimeoutError"),
        (fails_loudly, "a second llm ended with 1"),
    ],
)
def test_a_fault_at_a_start_is_found(plant: Plant, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if plant is no_patience:  # the others are found by what is said, and on a busy machine that takes its time
        monkeypatch.setattr(starts, "PATIENCE_S", 6.0)
    monkeypatch.setattr(starts, "ORDERS", (("dialog", "memory", "llm", "tts", "stt"),))
    monkeypatch.setattr(starts, "DAEMONS", ("llm",))
    with pytest.raises(AssertionError, match=f"order 0 of seed 1, dialog memory llm tts stt: .*{found}"):
        starts.run(1, 1, partial(fake_house.start, plant=plant))


# --- words that are not only words ---


def raw_log() -> None:
    put(runtime, _OneLine=lambda name: logging.Formatter(f"{name}: %(message)s"))
    raw_errors()


def talkative() -> None:
    """dialog logs what it says."""
    log_turn = service._log_turn

    def tell(report: TurnReport) -> None:
        log_turn(report)
        service.log.info("said: %s", report.said)

    put(service, _log_turn=tell)


def raw_errors() -> None:
    put(errors, printable=as_it_is)


def raw_speech() -> None:
    put(clauses, unmarked=as_it_is, closed=len)


def raw_voice() -> None:
    put(clauses, unmarked=as_it_is, closed=len, speakable=as_it_is)
    put(speakable, unmarked=as_it_is)


def raw_prompt() -> None:
    put(llm_core, disarmed=as_it_is)


PLANTED: Mapping[Plant, str] = {
    raw_log: "the log of (llm|dialog) has",
    raw_speech: "mark-up is spoken",
    raw_voice: "the voice is given|mark-up is spoken|an answer has several lines",
    raw_prompt: "the model is given",
    talkative: "has what was said",
}


@pytest.mark.parametrize("plant", PLANTED)
def test_words_that_get_through_are_found(plant: Plant) -> None:
    with pytest.raises(AssertionError, match=rf"(?s)seed 1, answer \d+ .*({PLANTED[plant]})"):
        words.run(40, 1, partial(fake_house.start, plant=plant))


def test_words_that_reach_the_terminal_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "printable", as_it_is)
    with pytest.raises(AssertionError, match=r"(?s)seed 1, answer \d+ .*(the terminal is sent|several lines)"):
        words.run(40, 1, partial(fake_house.start, plant=raw_errors))


def test_all_daemons_can_be_started() -> None:
    assert set(fake_house.MAKERS) == set(DAEMONS)
