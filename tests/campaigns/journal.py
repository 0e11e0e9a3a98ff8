"""Campaign 11, second part: dialog's journal, cut off at random moments. What it called written is there, in order."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from daemons.dialog.effects import Store
from daemons.dialog.journal import Journal
from tests.campaigns.store import Cut
from tests.support.forked import Forked

CHANGES = 10
"""Made in a row by each process that is cut off."""
LIVES = 20
"""So often one journal is cut off before another one is begun."""
OPERATIONS = 45
"""About as many as `CHANGES` changes take; a process that needs fewer is cut off behind the last."""
FATES = ("outside", "killed", "power", "full")

Make = Callable[[Path], Journal]
State = tuple[Store, ...]


def promise(number: int) -> Store:
    """No two are alike; some hold what could be taken for the end of a line or of a file."""
    chance = random.Random(number)
    words = " ".join(chance.choice(("rain", "größer", "a\nb", "\r\n", "{}", "\x85", "\u2028")) for _ in range(8))
    return Store(number.to_bytes(16, "big"), f"{number} {words}" * chance.choice((1, 1, 40)))


def changes(chance: random.Random, first: int, before: State) -> list[State]:
    """The states that follow `before`, one change each: a promise is added, taken or withdrawn."""
    states = [before]
    for number in range(first, first + CHANGES):
        state = states[-1]
        if state and chance.random() < 0.4:
            gone = chance.choice((0, chance.randrange(len(state))))
            states.append(state[:gone] + state[gone + 1 :])
        else:
            states.append((*state, promise(number)))
    return states


# --- the process that is cut off ---


@dataclass(slots=True)
class _Disk:
    """Counts what the journal asks of the file system. At the operation `at` the process is killed, or the machine
    stops: then files and names that were not synchronised are spoilt."""

    power: bool
    at: int
    chance: random.Random
    count: int = 0
    unsafe: set[str] = field(default_factory=set)
    renamed: dict[str, bytes] = field(default_factory=dict)
    paths: dict[int, str] = field(default_factory=dict)
    real: Any = None

    def install(self) -> None:
        self.real = {name: getattr(os, name) for name in ("open", "fdatasync", "replace", "fsync")}
        for name in self.real:
            mock.patch.object(os, name, getattr(self, name)).start()

    def due(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.down()

    def down(self) -> None:
        if self.power:
            for place in self.unsafe:
                data = Path(place).read_bytes()
                cut = self.chance.randrange(len(data) + 1)
                Path(place).write_bytes(data[:cut] + self.chance.choice((b"", self.chance.randbytes(20))))
            for place, before in self.renamed.items():
                if self.chance.random() < 0.5:
                    Path(place).write_bytes(before)
        os.kill(os.getpid(), signal.SIGKILL)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        descriptor: int = self.real["open"](path, flags, mode)
        self.paths[descriptor] = str(path)
        if flags & (os.O_WRONLY | os.O_RDWR):
            self.unsafe.add(str(path))
            self.due()
        return descriptor

    def fdatasync(self, descriptor: int) -> None:
        self.due()
        self.real["fdatasync"](descriptor)
        self.unsafe.discard(self.paths[descriptor])

    def replace(self, source: Any, target: Any) -> None:
        self.due()
        before = Path(target).read_bytes() if Path(target).exists() else b""
        self.real["replace"](source, target)
        if str(source) in self.unsafe:
            self.unsafe.discard(str(source))
            self.unsafe.add(str(target))
        self.renamed[str(target)] = before
        self.due()

    def fsync(self, descriptor: int) -> None:
        self.due()
        self.real["fsync"](descriptor)
        self.renamed.clear()


def change(pipe: Connection, make: Make, path: Path, states: Sequence[State], cut: Cut) -> None:
    """Makes the changes and tells after each, once the journal says that it is on the disk."""
    chance = random.Random(cut.seed)
    disk = _Disk(cut.fate == "power", cut.at if cut.fate in ("killed", "power") else 0, chance)
    disk.install()
    logging.disable()  # a full disk would cut off its line about that, too: the limit is on every file
    asyncio.run(_change(pipe, make, path, states, cut))
    disk.down()


async def _change(pipe: Connection, make: Make, path: Path, states: Sequence[State], cut: Cut) -> None:
    journal = make(path)
    for number, (before, after) in enumerate(itertools.pairwise(states), 1):
        full = cut.fate == "full" and number == cut.at
        if full:
            _limit(20)
        if len(after) > len(before):
            journal.add(after[-1])
        else:
            _remove(journal, before, after)
        await journal.written()
        _limit(resource.RLIM_INFINITY)
        pipe.send((number, journal.trouble))


def _remove(journal: Journal, before: State, after: State) -> None:
    if before[1:] == after:
        assert journal.first == before[0], "the first one is another"
        journal.taken(journal.first)
    else:
        journal.withdraw(next(entry for entry in before if entry not in after))


def _limit(size: int) -> None:
    """No file may become larger: as a full disk, but for this process alone."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


# --- who looks at what is left ---


def run(count: int, seed: int, make: Make = Journal) -> dict[str, int]:
    """How often a process was cut off, and how. Raises AssertionError with the cut's own seed."""
    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="timmy-") as folder:
        path = Path(folder) / "dialog" / "to-remember.jsonl"
        for number in range(count):
            if number % LIVES == 0:
                shutil.rmtree(path.parent, ignore_errors=True)
            chance, name = random.Random(f"{seed}:{number}"), f"{seed}:{number}"
            fate = chance.choice(FATES)
            most = OPERATIONS if fate in ("killed", "power") else CHANGES
            cut = Cut(name, fate, chance.randrange(most) + 1)
            try:
                tried.update(once(make, path, number * CHANGES, cut, chance))
                torn(path, chance)
            except AssertionError as error:
                raise AssertionError(f"cut {cut}: {error}") from error
            tried[fate] += 1
    return {"cuts": count, **tried}


def once(make: Make, path: Path, first: int, cut: Cut, chance: random.Random) -> dict[str, int]:
    """One process, and what it left: the last state of which it told, or the one that it was about to reach."""
    states = changes(chance, first, left(path))
    with Forked(change, make, path, states, cut) as writer:
        told = writer.said(cut.at - 1) if cut.fate == "outside" else []
        if cut.fate == "outside":
            time.sleep(chance.uniform(0, 0.002))
            writer.kill()
        told += writer.said()
        assert writer.ended() == -signal.SIGKILL, "it failed inside: see above"
    safe = [number for number, trouble in told if not trouble]
    troubles = [trouble for _, trouble in told if trouble]
    assert bool(troubles) <= (cut.fate == "full"), f"trouble without a reason: {troubles}"
    allowed = states[max(safe, default=0) : len(told) + 2]
    found = left(path)
    assert found in allowed, f"{len(found)} promises are there, of the last state that was safe {len(allowed[0])}"
    return {"changes written": len(safe), "refused": len(troubles)}


def left(path: Path) -> State:
    """What a new dialog would offer, in order; the file stays as it is."""
    copy = path.with_name("copy.jsonl")
    copy.unlink(missing_ok=True)
    if path.exists():
        shutil.copy(path, copy)
    log = logging.getLogger(Journal.__module__)
    with mock.patch.object(log, "disabled", True):  # of each damaged line it says that it is skipped
        return asyncio.run(_offered(copy))


async def _offered(path: Path) -> State:
    journal, offered = Journal(path), []
    while (entry := journal.first) is not None:
        offered.append(entry)
        journal.taken(entry)
    await journal.written()
    return tuple(offered)


def torn(path: Path, chance: random.Random) -> None:
    """A tail that is cut off or overwritten costs the entries in it and no other. Raises AssertionError."""
    whole, data = left(path), path.read_bytes() if path.exists() else b""
    at = chance.randrange(len(data) + 1)
    kept = data[:at].count(b"\n")
    spoilt = path.with_name("torn.jsonl")
    spoilt.write_bytes(data[:at] + chance.choice((b"", b"\0" * (len(data) - at), chance.randbytes(len(data) - at))))
    found = left(spoilt)
    assert found[:kept] == whole[:kept], f"a torn tail behind {kept} entries leaves {len(found)}"
    assert len(found) <= kept + 1, "a torn tail was taken for entries"
