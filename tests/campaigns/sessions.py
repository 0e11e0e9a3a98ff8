"""Campaign 2: the rules of a request on both sides, against an oracle that knows counters and no states."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from ipc.messages import Kind
from tests.unit.test_session_oracle import Conversation

STEPS = 40

_KINDS = [kind for kind in Kind if kind is not Kind.REQUEST]
_ALL = list(Kind)

Act = Callable[[random.Random, Any], None]


def run(count: int, seed: int, make: Callable[[], Conversation] = Conversation) -> dict[str, int]:
    """How many sequences and steps there were. Raises AssertionError with the sequence's own seed."""
    steps = 0
    for number in range(count):
        steps += sequence(f"{seed}:{number}", make)
    return {"sequences": count, "steps": steps}


def sequence(seed: str, make: Callable[[], Conversation] = Conversation) -> int:
    """One conversation of a client and a server. Returns its steps. Raises AssertionError."""
    chance, machine = random.Random(seed), make()
    for step in range(1, STEPS + 1):
        try:
            chance.choice(ACTS)(chance, machine)
            machine.exactly_one_terminal_and_nothing_after_it()
            machine.credit_is_what_was_granted_less_what_was_sent()
            machine.only_the_newest_of_a_rid_is_open()
        except BaseException as error:
            raise AssertionError(f"sequence {seed}, step {step}: {type(error).__name__} {error}") from error
    return STEPS


def _request(chance: random.Random, machine: Conversation) -> None:
    if len(machine.client.open) < 3:
        machine.request(chance.randrange(10), chance.choice((0, 1, 5000)), chance.random() < 0.5)


def _client(chance: random.Random, machine: Conversation) -> None:
    if machine.lives:
        machine.client_acts(chance.randrange(100), chance.choice(_KINDS))


def _server(chance: random.Random, machine: Conversation) -> None:
    if any(life.server for life in machine.lives):
        machine.server_acts(chance.randrange(100), chance.choice(_KINDS))


def _expires(chance: random.Random, machine: Conversation) -> None:
    if len(machine.client.open) > 1:
        machine.client_expires(chance.randrange(100))


def _to_server(chance: random.Random, machine: Conversation) -> None:
    if machine.to_server:
        machine.server_receives(chance.randrange(1, 10))


def _to_client(chance: random.Random, machine: Conversation) -> None:
    if machine.to_client:
        machine.client_receives(chance.randrange(1, 10))


def _lie(chance: random.Random, machine: Conversation) -> None:
    if machine.lives:
        kind, seq, epoch = chance.choice(_ALL), chance.randrange(6), chance.randrange(10)
        machine.a_stranger_lies_to_a_copy_of_the_server(chance.randrange(100), kind, seq, epoch)


ACTS: tuple[Act, ...] = (_request, _client, _client, _server, _server, _expires, _to_server, _to_client, _lie)
