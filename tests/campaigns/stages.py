"""Campaign 8: a daemon is killed at each named stage of a turn, in the moment in which it marks it."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple
from unittest import mock

from ipc.endpoints import DAEMONS
from ipc.marks import Stage
from ipc.messages import Muted, Sound, TurnCandidate, TurnHeard
from tests.campaigns import turns
from tests.campaigns.crowd import HUNG_S
from tests.campaigns.guest import Guest, Told
from tests.campaigns.kills import BACK_MAX_S
from tests.campaigns.lanes import housed, side_by_side
from tests.campaigns.spoken import HearingHouse
from tools import supervision
from tools.harness import House
from tools.harness.processes import starved_ns

HOUSES = 3
"""Side by side: most of a turn is waiting."""

TURNS_MAX = 3
"""A turn may break off before the stage on a machine that is busy with other things."""

REACHED_S = 20.0
"""A stage of a turn comes within a second; so much later it never does."""

QUIET_S = 0.4
"""Nothing more comes of turns that are over when nothing has come for so long."""

LEASE_S = 3.5
"""The longest that a dead dialog can leave the microphone muted, and a little."""

SLOW_MS = 250.0
"""Each token, where a turn has to be in hand until somebody goes on or takes it back."""

ANSWER = "Yes."
LOOK_S = 0.01
CALLERS = {"stt": 2, "dialog": 1, "tts": 1}
"""Standing requests of the guest. llm and memory are asked by dialog alone, which tells of it in the turn's outcome."""


class Hit(NamedTuple):
    """`turn`: "spoken", "resumed" (its speaker goes on after a candidate) or "taken back" (typed, and given up)."""

    daemon: str
    stage: Stage
    turn: str = "spoken"


def _of(daemon: str, *stages: str) -> list[Hit]:
    return [Hit(daemon, Stage[name]) for name in (*stages, "SENT", "RECEIVED")]


HITS: Sequence[Hit] = [
    *_of(
        "stt",
        *("SPEECH_STARTED", "LAST_VOICED", "ENDPOINT_CANDIDATE", "TRANSCRIPT", "TEXT_SENT", "ENDPOINT_CONFIRMED"),
        "MUTED",
    ),
    Hit("stt", Stage.RESUMED, "resumed"),
    *_of(
        "dialog",
        *("HEARD", "RECALL_START", "RECALL_END", "PROMPT_BUILT", "STABLE_TOKENS", "MODEL_SENT", "TOKEN_RECEIVED"),
        *("FIRST_CLAUSE", "ENDED"),
    ),
    Hit("dialog", Stage.REVOKED, "resumed"),
    Hit("dialog", Stage.CANCELLED, "taken back"),
    *_of("llm", "PROMPT_TOKENS", "CACHED_TOKENS", "FIRST_TOKEN"),
    *_of(
        "tts",
        *("CLAUSE_RECEIVED", "SYNTHESIS_START", "FIRST_AUDIO", "RELEASED", "PLAYBACK_STARTED", "PLAYBACK_DRAINED"),
    ),
    *_of("memory", "MEMORY_STORED"),
]
"""Every stage, with each daemon that marks it."""


@dataclass
class Found:
    backs_s: list[float] = field(default_factory=list)
    told: int = 0
    taken_up: int = 0
    sounds_s: list[float] = field(default_factory=list)


def run(count: int, seed: int, make: Callable[[], House] = HearingHouse, hits: Sequence[Hit] = HITS) -> dict[str, int]:
    """Each of `hits` `count` times. Raises AssertionError when a promise is broken."""
    chance = random.Random(seed)
    drawn = [hit for hit in hits for _ in range(count)]
    chance.shuffle(drawn)
    shares = [drawn[number::HOUSES] for number in range(HOUSES)]
    with mock.patch.object(supervision, "STEADY_S", 0.0):
        found = side_by_side([_in_a_house(share, make) for share in shares if share])
    backs = [each for part in found for each in part.backs_s]
    sounds = [each for part in found for each in part.sounds_s]
    return {
        "times each": count,
        "kills": len(backs),
        "stages": len({hit.stage for hit in drawn}),
        "callers told": sum(part.told for part in found),
        "turns taken up again": sum(part.taken_up for part in found),
        "ms to be back": round(statistics.median(backs) * 1000),
        "ms at most": round(max(backs) * 1000),
        "ms to the next answer": round(statistics.median(sounds) * 1000),
        "ms at most then": round(max(sounds) * 1000),
    }


async def _in_a_house(hits: Sequence[Hit], make: Callable[[], House]) -> Found:
    found = Found()
    async with housed(make) as house, Guest(house.place.run) as guest:
        for hit in hits:
            try:
                await _round(house, guest, hit, found)
            except AssertionError as error:
                raise AssertionError(f"{hit.daemon} killed at {hit.stage.name}, {hit.turn}: {error}") from error
    return found


async def _round(house: House, guest: Guest, hit: Hit, found: Found) -> None:
    await _until(partial(_whole, house, guest), "the house is not whole")
    await _until(partial(_at_rest, house), "what was said is not remembered, or the model does not rest")
    old = house.pid(hit.daemon)
    asked = guest.account.waiting(hit.daemon, old)
    assert len(asked) == CALLERS.get(hit.daemon, 0), f"{len(asked)} callers before the kill"
    guest.log.clear()
    said = await _hit(house, guest, hit, old)
    found.backs_s.append(await asyncio.to_thread(_back, house, hit.daemon, old))
    await guest.account.ended(asked, frozenset({"peer_gone"}))
    house.engine("llm", text=ANSWER)
    await _until(partial(_whole, house, guest), "the house is not whole again")
    await _until(partial(_over, guest), "a turn has no outcome, or its answer no end")
    await _unmuted(guest, hit)
    starved_s, after = _starved_s(house), guest.speak(2)
    await _until(lambda: turns.report_of(guest.log, after), "the next turn has no outcome")
    await _until(partial(_over, guest), "a turn has no outcome, or its answer no end")
    log = [event for event in guest.log if not _untold(hit, old, event)]
    if wrong := turns.faults(log, said, after):
        raise AssertionError("; ".join(wrong))
    found.sounds_s.append(_sound_s(log, after, _starved_s(house) - starved_s))
    found.told += len(asked)
    found.taken_up += turns.taken_up(log)


async def _hit(house: House, guest: Guest, hit: Hit, pid: int) -> list[str]:
    """A turn in which the process dies at the stage. Returns what was said in it."""
    gone = asyncio.create_task(_gone(guest, hit.daemon, pid))
    slow_ms = SLOW_MS if hit.turn != "spoken" else 0.0
    for daemon in {"llm", hit.daemon}:
        orders = {"text": ANSWER, "slow_ms": slow_ms} if daemon == "llm" else {}
        house.engine(daemon, **orders, die_at=hit.stage.name if daemon == hit.daemon else "")
    said: list[str] = []
    try:
        for left in reversed(range(TURNS_MAX)):
            said += await _turn(guest, hit.turn)
            with suppress(AssertionError) if left else nullcontext():
                await _until(gone.done, "the stage was not reached", REACHED_S)
                break
    finally:
        gone.cancel()
    return said


def _back(house: House, daemon: str, old: int) -> float:
    """Seconds until another process serves, less what the kernel let it wait for a core."""
    back_s = house.until_back(daemon, old) - starved_ns(house.pid(daemon)) / 1e9
    if back_s > BACK_MAX_S:
        raise AssertionError(f"it was back after {back_s:.1f} s, not within {BACK_MAX_S:g} s")
    return back_s


def _starved_s(house: House) -> float:
    return sum(starved_ns(house.pid(daemon)) for daemon in DAEMONS) / 1e9


def _sound_s(log: Sequence[Told], words: Sequence[str], starved_s: float) -> float:
    """Seconds from the end of the next turn to its answer. That the daemons waited for cores is not their fault, but
    counted."""
    report = turns.report_of(log, words)
    assert report is not None
    sound_s = turns.sound_after(log, report.turn)
    if sound_s - starved_s > BACK_MAX_S:
        raise AssertionError(f"the next turn sounded after {sound_s:.1f} s, not within {BACK_MAX_S:g} s")
    return sound_s


def _untold(hit: Hit, old: int, event: Told) -> bool:
    """Sound of which dialog cannot know: tts died with its first sample, before it told of it. Its turn failed unheard
    as any other."""
    return hit[:2] == ("tts", Stage.PLAYBACK_STARTED) and event.life == old and isinstance(event.body, Sound)


async def _gone(guest: Guest, daemon: str, pid: int) -> None:
    """Returns when the process is dead."""
    loop, dead = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(pid)
    try:
        loop.add_reader(descriptor, dead.set)
        await dead.wait()
        guest.died(daemon, pid)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _turn(guest: Guest, how: str) -> list[str]:
    """Returns what was said in it."""
    if how == "taken back":
        asked = guest.ask("Where is it?")
        await _until(lambda: any(isinstance(e.body, TurnHeard) for e in guest.log), "a question is not heard")
        asked.cancel()
        return []
    if how == "spoken":
        return guest.speak(2)
    said = guest.speak(2, full_stop=False)
    await _until(lambda: any(isinstance(e.body, TurnCandidate) for e in guest.log), "a silence is not noticed")
    return [*said, *guest.speak(2)]


# --- what is waited for ---


async def _until(holds: Callable[[], object], otherwise: str, seconds: float = HUNG_S) -> None:
    """Raises AssertionError when it does not come to hold."""
    until_s = time.monotonic() + seconds
    while True:
        held = holds()
        if asyncio.iscoroutine(held):
            held = await held
        if held:
            return
        if time.monotonic() > until_s:
            raise AssertionError(otherwise)
        await asyncio.sleep(LOOK_S)


async def _whole(house: House, guest: Guest) -> bool:
    """All five know each other, and the guest them: stt is fed, and listened to by two; dialog lacks nobody."""
    if not await guest.met({daemon: house.pid(daemon) for daemon in guest.clients}):
        return False
    dialog = await asyncio.to_thread(house.status, "dialog")
    stt = await asyncio.to_thread(house.status, "stt")
    return dialog is not None and dialog.state == "ready" and stt is not None and stt.requests_open >= 4


async def _at_rest(house: House) -> bool:
    """What was heard is remembered, and the model has read what it will be asked."""
    journal = house.place.state / "dialog" / "to-remember.jsonl"
    if journal.exists() and journal.read_bytes():
        return False
    reports = [await asyncio.to_thread(house.status, daemon) for daemon in ("llm", "memory")]
    return all(report is not None and report.requests_open == 1 for report in reports)


def _over(guest: Guest) -> bool:
    now_ns = time.monotonic_ns()
    latest_ns = max([guest.sounds_until_ns, *(event.t_ns for event in guest.log)])
    open_ = turns.unreported(guest.log) | turns.unfinished(guest.log)
    return not open_ and now_ns > latest_ns + QUIET_S * 1e9


async def _unmuted(guest: Guest, hit: Hit) -> None:
    """A dialog that died while its answer sounded has left the microphone muted for as long as its lease."""
    bodies = [event.body for event in guest.log]
    heard = [at for at, body in enumerate(bodies) if isinstance(body, Sound)]
    if hit.daemon != "dialog" or not heard or any(isinstance(body, Muted) for body in bodies[heard[-1] :]):
        return
    until_s = time.monotonic() + LEASE_S
    while time.monotonic() < until_s and not any(isinstance(event.body, Muted) for event in guest.log):  # noqa: ASYNC110
        await asyncio.sleep(LOOK_S)
