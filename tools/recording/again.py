"""Which of the recorded requests are sent again, and what has to change in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from ipc import messages as m
from ipc.ids import new_rid
from ipc.messages import HOME, Body
from tools.recording.asked import LISTENERS, Asked

ENDLESS = (*LISTENERS, m.Feed)
"""They live until their caller leaves, so one that was under way can begin anew."""


def chosen(asked: Iterable[Asked], daemons: Collection[str]) -> tuple[list[Asked], int]:
    """Those of `daemons` that can be sent again, and how many others cannot: they were under way already. What dialog
    asked the others follows by itself where dialog is asked again."""
    few = [each for each in asked if each.daemon in daemons and not (each.caller == "dialog" and "dialog" in daemons)]
    whole = [each for each in few if not each.under_way or isinstance(each.body, ENDLESS)]
    return whole, len(few) - len(whole)


def conversation_of(body: Body) -> str:
    """Empty where it belongs to none."""
    name = getattr(body, "conversation", "")
    assert isinstance(name, str)
    return name


def _speaks(body: Body) -> bool:
    return isinstance(body, m.Say | m.Speak | m.Mute) or (isinstance(body, m.Ask) and body.speak)


class Names:
    """New ids and conversations for old ones: a conversation that goes on would know what was said in it before.
    `home` keeps its name where its loudspeaker or microphone is needed, for that is the machine's own."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self._rids: dict[bytes, bytes] = defaultdict(new_rid)
        self._run = new_rid().hex()[-8:]
        at_home = [each.body for each in asked if conversation_of(each.body) == HOME]
        self._conversations = {HOME: HOME} if any(_speaks(body) for body in at_home) else {}

    def rid(self, old: bytes) -> bytes:
        """The same for the same: requests of one turn still supersede each other."""
        return self._rids[old]

    def conversation(self, old: str) -> str:
        return self._conversations.setdefault(old, f"replay-{self._run}-{len(self._conversations) + 1}")


def renewed(body: Body, names: Names, now: dict[str, int]) -> Body:
    """`body` with its conversation's new name and with the times in `now`."""
    changes: dict[str, Any] = dict(now)
    if old := conversation_of(body):
        changes["conversation"] = names.conversation(old)
    return msgspec.structs.replace(body, **changes) if changes else body


def times_of(body: Body) -> dict[str, int]:
    """The times in it, monotonic ns; 0 is none."""
    return {name: value for name in body.__struct_fields__ if name.endswith("_ns") and (value := getattr(body, name))}
