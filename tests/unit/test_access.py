"""What each role may send to each daemon: of all messages there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ipc import codec
from ipc.access import OBSERVERS, RIGHTS, Guest, Role, may_connect
from ipc.endpoints import DAEMONS
from ipc.messages import HOME, REGISTRY, Attach, Body, Feed, Follow, Kind
from tests.protocol.tables import FILE

VECTORS = Path(__file__).parent.parent / "protocol" / "vectors.json"

# Written out once more, by hand: who adds a message has to think of who may send it.
MAY = {
    ("satellite", "stt"): {"hello", "ping", "feed", "audio"},
    ("satellite", "tts"): {"hello", "ping", "attach"},
    ("viewer", "stt"): {"hello", "ping", "status"},
    ("viewer", "dialog"): {"hello", "ping", "status", "follow"},
    ("viewer", "llm"): {"hello", "ping", "status"},
    ("viewer", "memory"): {"hello", "ping", "status"},
    ("viewer", "tts"): {"hello", "ping", "status"},
}
OF_ANY_REQUEST = {"end", "cancel", "credit_grant"}


def _examples() -> dict[str, Body]:
    """One of each message, from the protocol's vectors."""
    found: dict[str, Body] = {}
    for vector in json.loads(VECTORS.read_text("utf-8")):
        message = codec.decode([bytes.fromhex(frame) for frame in vector["frames"]])
        found[message.body.type_name()] = message.body
    return found


EXAMPLES = _examples()


def _guest(role: str, body: Body) -> Guest:
    """One whose conversation is that of the message."""
    return Guest("k" * 40, Role(role), getattr(body, "conversation", "kitchen"))


@pytest.mark.parametrize("name", sorted(REGISTRY))
@pytest.mark.parametrize("daemon", DAEMONS)
@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_send_this_and_nothing_else(role: str, daemon: str, name: str) -> None:
    body = EXAMPLES[name]
    refusal = _guest(role, body).refusal(daemon, body)
    allowed = name in MAY.get((role, daemon), set()) | OF_ANY_REQUEST
    assert (refusal == "") == allowed
    assert allowed or (name in refusal and role in refusal and daemon in refusal)


@pytest.mark.parametrize("name", sorted(REGISTRY))
@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_key_that_is_not_allowed_may_send_nothing(daemon: str, name: str) -> None:
    assert "not allowed" in Guest("k" * 40).refusal(daemon, EXAMPLES[name])


@pytest.mark.parametrize(("daemon", "kind"), [("stt", Feed), ("tts", Attach)])
@pytest.mark.parametrize("other", [HOME, "bath", "kitchen2"])
def test_a_satellite_has_its_own_conversation_only(daemon: str, kind: type[Feed], other: str) -> None:
    kitchen = Guest("k" * 40, Role.SATELLITE, "kitchen")
    assert kitchen.refusal(daemon, kind(conversation="kitchen")) == ""
    assert "'kitchen'" in kitchen.refusal(daemon, kind(conversation=other))


def test_a_viewer_follows_any_conversation() -> None:
    viewer = Guest("k" * 40, Role.VIEWER, "desk")
    assert viewer.refusal("dialog", Follow(conversation=HOME)) == ""


def test_only_viewers_observe() -> None:
    assert set(OBSERVERS) == {Role.VIEWER}


@pytest.mark.parametrize("daemon", DAEMONS)
@pytest.mark.parametrize("role", list(Role))
def test_who_has_no_right_at_a_daemon_does_not_get_in(role: Role, daemon: str) -> None:
    assert may_connect(role, daemon) == ((role.value, daemon) in MAY)


def test_nobody_on_a_network_can_change_what_is_remembered_or_record() -> None:
    sent = set().union(*(kinds for rights in RIGHTS.values() for kinds in rights.values()))
    assert not {kind.type_name() for kind in sent} & {"forget", "remember", "record", "mute", "speak", "ask", "say"}
    assert all(kind.KIND in (Kind.REQUEST, Kind.UP) for kind in sent)


def test_the_table_in_the_protocol_is_this_one() -> None:
    text = FILE.read_text("utf-8").split("## Over a network")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    head, _, *roles = rows
    assert head == ["role", "stt", "dialog", "llm", "memory", "tts", "observation"]
    assert [row[0] for row in roles] == list(Role)
    for role, *cells, observation in roles:
        for daemon, cell in zip(head[1:-1], cells, strict=True):
            assert set(re.findall(r"`(\w+)`", cell)) == MAY.get((role, daemon), set())
        assert (observation == "yes") == (Role(role) in OBSERVERS)
