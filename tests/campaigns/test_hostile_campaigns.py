"""Proof that the campaigns of hostile peers would find something."""

from __future__ import annotations

import pytest

from tests.campaigns import content, peers, raw


@pytest.mark.parametrize(
    ("fault", "what"),
    [("lets_in", "raw connections reached the application"), ("waits", "still connected after 15 s: .*silence")],
)
def test_a_door_that_is_left_open_is_found(fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        raw.run(100, 1, fault)


@pytest.mark.parametrize(
    ("fault", "act", "what"),
    [
        ("dies", "gaps", "gaps 0: Gone"),
        ("ends_twice", "gaps", "done after error: a request's end is its end"),
        ("hoards", "three_frames", r"llm grew by \d+ MB"),
        ("queues_what_comes", "heartbeats", r"heartbeats 0: (Gone|ConnectionRefused)"),
        ("observed_by_libzmq", "observers", r"observers 0: (Gone|ConnectionRefused)"),
        ("keeps_subscriptions", "subscriptions", r"llm grew by \d+ MB|llm let a ping wait|could not be asked"),
    ],
)
def test_a_fault_in_what_a_daemon_bears_is_found(fault: str, act: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        content.run(1, 1, fault, {act: content.ACTS[act]})


def test_a_daemon_that_bears_all_is_found() -> None:
    with pytest.raises(AssertionError, match="who sends 130000000 bytes is not cut off, but gets a pong"):
        content.run(1, 1, "bears_all", {})


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("forbids", "memory: newer: .*other fields"),
        ("wants_all", "is not the same from all peers"),
        ("any_version", "instead of unsupported_version"),
    ],
)
def test_a_daemon_that_does_not_bear_with_other_releases_is_found(fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        peers.run(1, 1, fault, ["memory"])
