"""A house and its rooms on hosts of their own: real processes, cables that are cut, slow and bad, keys that are wrong.

What is said is a number, and the answer to it sounds as that number (tests/rooms/engines.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipc.keys import revoke
from ipc.messages import Ask, Follow, TurnReport
from ipc.security import new_secret, public_of
from tests.rooms.hosts import Process, street
from tools.harness import Line


def test_each_room_hears_its_own_answer_and_no_other(tmp_path: Path) -> None:
    with street(tmp_path, "kitchen", "bath") as here:
        here.open_house()
        kitchen, bath = here.room("kitchen"), here.room("bath")
        kitchen.hears(trouble="")
        bath.hears(trouble="")
        kitchen.tell("say 7")
        kitchen.hears(played=7)
        bath.tell("say 4")
        bath.hears(played=4)
        kitchen.tell("say 9")  # both at once
        bath.tell("say 5")
        kitchen.hears(played=9)
        bath.hears(played=5)
        assert [*kitchen.told(), *bath.told()] == []


def test_the_rooms_share_one_memory(tmp_path: Path) -> None:
    with street(tmp_path, "kitchen") as here:
        here.open_house()
        kitchen = here.room("kitchen")
        kitchen.hears(trouble="")
        with Line("dialog", here.runtime) as dialog:
            watched = dialog.open(Follow(conversation="kitchen"))
            kitchen.tell("say 7")
            kitchen.hears(played=7)
            while not isinstance(report := watched.next()[0], TurnReport):
                pass
            watched.cancel()
            assert (report.outcome, report.heard) == ("answered", "What is number 7?")
            assert dialog.ask(Ask(conversation="home", text="What is number 3?")).outcome == "done"


def test_a_room_comes_back_by_itself_after_its_cable_was_cut(tmp_path: Path) -> None:
    with street(tmp_path, "kitchen", "bath") as here:
        here.open_house()
        kitchen, bath = here.room("kitchen"), here.room("bath")
        kitchen.hears(trouble="")
        bath.hears(trouble="")
        here.cable("kitchen", loss=1)
        kitchen.hears(trouble="stt")
        bath.tell("say 4")
        bath.hears(played=4)
        here.cable("kitchen")
        kitchen.hears(trouble="")
        kitchen.tell("say 7")
        kitchen.hears(played=7)


def test_an_answer_that_was_cut_off_by_the_cable_does_not_leave_the_room_deaf(tmp_path: Path) -> None:
    with street(tmp_path, "kitchen") as here:
        here.open_house()
        kitchen = here.room("kitchen")
        kitchen.hears(trouble="")
        kitchen.tell("say 7")
        with Line("dialog", here.runtime) as dialog:
            watched = dialog.open(Follow(conversation="kitchen"))
            watched.next()  # it was understood, the answer is on its way
            here.cable("kitchen", loss=1)
            kitchen.hears(trouble="stt")
            here.cable("kitchen")
            kitchen.hears(trouble="")
            watched.cancel()
        kitchen.told()
        kitchen.tell("say 5")
        kitchen.hears(played=5)


def test_turns_end_on_a_way_that_is_long_and_loses_things(tmp_path: Path) -> None:
    with street(tmp_path, "kitchen") as here:
        here.open_house()
        here.cable("kitchen", delay_s=0.2, loss=0.02)
        kitchen = here.room("kitchen")
        kitchen.hears(trouble="")
        for number in (7, 3, 8):
            _answered(kitchen, number)


def _answered(room: Process, number: int) -> None:
    """A link that is lost for a moment costs its turn at most: it is said once more."""

    def matters(line: dict[str, Any]) -> bool:
        return line.get("played") == number or bool(line.get("trouble"))

    room.tell(f"say {number}")
    while "played" not in room.hears_when(matters):
        room.hears(trouble="")
        room.tell(f"say {number}")


def test_who_has_no_allowed_key_hears_and_says_nothing(tmp_path: Path) -> None:
    with street(tmp_path, "kitchen", "bath", "cellar") as here:
        here.open_house()
        kitchen = here.room("kitchen")
        cellar = here.room("cellar", allowed=False)
        bath = here.room("bath", house_key=public_of(new_secret()))
        kitchen.hears(trouble="")
        cellar.hears(trouble="does not allow this machine's key")
        bath.hears(trouble="another key than house.key says")
        for stranger in (cellar, bath):
            stranger.tell("say 4")
        kitchen.tell("say 7")
        kitchen.hears(played=7)
        assert not [line for line in [*cellar.told(), *bath.told()] if "played" in line or not line["trouble"]]


def test_a_revoked_room_is_cut_off_and_the_others_go_on(tmp_path: Path) -> None:
    with street(tmp_path, "kitchen", "bath") as here:
        here.open_house()
        kitchen, bath = here.room("kitchen"), here.room("bath")
        kitchen.hears(trouble="")
        bath.hears(trouble="")
        revoke(here.keys, "kitchen")
        kitchen.hears(trouble="not allowed")
        kitchen.tell("say 7")
        bath.tell("say 4")
        bath.hears(played=4)
        assert not [line for line in kitchen.told() if "played" in line or not line["trouble"]]


def test_a_house_that_is_killed_and_started_again_has_its_rooms_back(tmp_path: Path) -> None:
    with street(tmp_path, "kitchen") as here:
        kitchen = here.room("kitchen")
        kitchen.hears(trouble="does not answer")
        daemons = here.open_house()
        kitchen.hears(trouble="")
        for name in ("stt", "tts"):
            daemons[name].kill()
        kitchen.hears(trouble="went away")
        here.open_house(["stt", "tts"])
        kitchen.hears(trouble="")
        with Line("dialog", here.runtime) as dialog:
            assert dialog.ask(Ask(conversation="home", text="What is number 3?")).outcome == "done"
        kitchen.tell("say 7")
        kitchen.hears(played=7)
