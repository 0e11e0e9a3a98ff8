"""What the watcher of a chaos run takes for a second end, and what not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from ipc.codec import Message
from ipc.ids import new_rid
from ipc.messages import Body, Recall, Recalled, Remember, Remembered
from ipc.observer import Observed
from tools.chaos.record import Record
from tools.chaos.watch import Ends
from tools.harness import House

RECALL = Recall(text="Which city?", limit=3)
RECALLED = Recalled(memories=[], received_ns=1, finished_ns=2)
REMEMBER = Remember(heard="Which city?")
REMEMBERED = Remembered(kept=False, id=0, importance=0, text="")
RID = new_rid()


def doubled(folder: Path, first: Sequence[Body], then: Sequence[Body], dies: str = "") -> list[str]:
    """All with the same id and epoch, as memory publishes it; between the two halves a daemon may die."""
    record = Record()

    async def scene() -> None:
        ends = Ends(cast(House, SimpleNamespace(place=SimpleNamespace(run=folder))), record)
        for body in first:
            ends._see(Observed(1, "memory", Message(RID, 0, 3, 0, body)))
        if dies:
            ends.died(dies)
        for body in then:
            ends._see(Observed(1, "memory", Message(RID, 0, 3, 0, body)))

    asyncio.run(scene())
    return record.doubled


def test_a_request_with_two_ends(tmp_path: Path) -> None:
    told = [f"recall {RID.hex()[-8:]} at memory"]
    assert doubled(tmp_path, [RECALL, RECALLED], []) == []
    assert doubled(tmp_path, [RECALL, RECALLED], [RECALLED]) == told
    assert doubled(tmp_path, [RECALL, RECALLED], [RECALLED], dies="llm") == told


def test_who_begins_anew_may_use_the_numbers_of_its_former_life(tmp_path: Path) -> None:
    assert doubled(tmp_path, [RECALL, RECALLED], [REMEMBER, REMEMBERED], dies="dialog") == []
    assert len(doubled(tmp_path, [RECALL, RECALLED], [REMEMBER, REMEMBERED, REMEMBERED], dies="dialog")) == 1
